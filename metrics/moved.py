"""Modules of earlier versions: importing one says where it is now."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

MOVED = {
    "metrics.accuracy": "metrics.samples.accuracy",
    "metrics.assignment": "metrics.detection.assignment",
    "metrics.cells": "metrics.samples.cells",
    "metrics.coco": "metrics.detection.coco",
    "metrics.coco_bootstrap": "metrics.detection.bootstrap",
    "metrics.coco_curves": "metrics.detection.curves",
    "metrics.coco_json": "metrics.detection.formats.coco_json",
    "metrics.coco_masks": "metrics.detection.formats.coco_masks",
    "metrics.coco_metric": "metrics.streams.coco",
    "metrics.coco_params": "metrics.detection.params",
    "metrics.confusion": "metrics.detection.confusion",
    "metrics.detection_arrays": "metrics.detection.formats.arrays",
    "metrics.detection_calibration": "metrics.detection.calibration",
    "metrics.detection_input": "metrics.detection.inputs",
    "metrics.detection_sources": "metrics.detection.formats.sources",
    "metrics.energy": "metrics.samples.energy",
    "metrics.extrapolation": "metrics.samples.extrapolation",
    "metrics.feature_metric": "metrics.streams.features",
    "metrics.frechet": "metrics.samples.frechet",
    "metrics.frechet_metric": "metrics.streams.frechet",
    "metrics.inception": "metrics.samples.inception",
    "metrics.json_files": "metrics.detection.formats.json_files",
    "metrics.kernel_distance": "metrics.samples.kernel",
    "metrics.kid_metric": "metrics.streams.kid",
    "metrics.likelihood": "metrics.samples.likelihood",
    "metrics.manifold": "metrics.samples.balls",
    "metrics.matching": "metrics.detection.matching",
    "metrics.memorisation": "metrics.samples.memorisation",
    "metrics.neighbours": "metrics.samples.neighbours",
    "metrics.operating_point": "metrics.detection.operating_point",
    "metrics.overlaps": "metrics.detection.overlaps",
    "metrics.peers": "metrics.detection.library",
    "metrics.sliced": "metrics.samples.sliced",
    "metrics.sliced_metric": "metrics.streams.sliced",
    "metrics.sliced_sketch": "metrics.samples.sketch",
    "metrics.spatial": "metrics.samples.spatial",
    "metrics.sum_metrics": "metrics.streams.sums",
    "metrics.text_rows": "metrics.detection.formats.text_rows",
    "metrics.tide": "metrics.detection.tide",
    "metrics.tide_errors": "metrics.detection.tide_errors",
    "metrics.transport": "metrics.samples.transport",
    "metrics.two_sample": "metrics.samples.two_sample",
    "metrics.vendi": "metrics.samples.vendi",
    "metrics.voc": "metrics.detection.voc",
    "metrics.voc_xml": "metrics.detection.formats.voc_xml",
    "metrics.yolo_names": "metrics.detection.formats.yolo_names",
    "metrics.yolo_text": "metrics.detection.formats.yolo_text",
}


class Moved(MetaPathFinder):
    """An import hook for modules of earlier versions: importing one raises ImportError that says where it is now."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError, with the new place, where the module ``name`` has moved; None for any other module."""
        if name in MOVED:
            raise ImportError(f"{name} has moved to {MOVED[name]}", name=name)


sys.meta_path.append(Moved())

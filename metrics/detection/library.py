"""pycocotools and faster-coco-eval, called on COCO's objects; the result is their own precision and recall."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

LIBRARIES = ("faster_coco_eval", "pycocotools")


def evaluate_by_library(
    name: str,
    dataset: Mapping[str, Any],
    entries: Sequence[dict[str, Any]],
    iou_type: str = "bbox",
    max_detections: Sequence[int] = (1, 10, 100),
    *,
    iou_thresholds: Sequence[float] | None = None,
    area_ranges: Sequence[tuple[float, float]] | None = None,
) -> tuple[Float[np.ndarray, "iou recall category area limit"], Float[np.ndarray, "iou category area limit"]]:
    """Precision and recall as pycocotools or faster-coco-eval computes them, on a COCO data set and result list.

    Annotations should be numbered from 1. Without ``iou_thresholds`` and ``area_ranges`` the library's own are used.
    The library changes the entries. Raises ValueError on another name.
    """
    if name == "faster_coco_eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    elif name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        raise ValueError(f"library {name!r} is not one of {', '.join(LIBRARIES)}")
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = dataset
        truth.createIndex()
        if len(entries):  # pycocotools' loadRes reads the first detection
            found = truth.loadRes(entries)
        else:
            found.dataset = {**dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.params.maxDets = list(max_detections)
        if iou_thresholds is not None:
            evaluation.params.iouThrs = np.array(iou_thresholds)
        if area_ranges is not None:
            evaluation.params.areaRng = [list(pair) for pair in area_ranges]
            evaluation.params.areaRngLbl = [str(i) for i in range(len(area_ranges))]
        evaluation.evaluate()
        evaluation.accumulate()
    parameters = evaluation.params
    tail = len({c["id"] for c in dataset["categories"]}), len(parameters.areaRng), len(max_detections)
    shapes = (len(parameters.iouThrs), len(parameters.recThrs), *tail), (len(parameters.iouThrs), *tail)
    precision, recall = (
        np.asarray(evaluation.eval[key], dtype=float).reshape(shape)
        for key, shape in zip(("precision", "recall"), shapes, strict=True)
    )
    return precision, recall

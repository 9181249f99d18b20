"""COCO's average precision and recall of detections, by fidmap's own engine or by one of two libraries.

The rules are those of pycocotools' ``COCOeval``, also for ties and corner cases:

- IoU thresholds are .5, .55, ..., .95 unless others are given (each is ``min(t, 1 - 1e-10)``). Precision is read at 101
  recalls, off its right-to-left envelope, at the first detection whose recall reaches the value.
- At most ``max_detections[-1]`` detections per image **and class** take part, those with the highest scores. Equal
  scores keep the order of image ids, then that of the file.
- Among the free truths of its image and class whose IoU meets the threshold, a detection takes the one of greatest IoU
  (the later one on a tie); a truth that counts comes before an ignored one. Crowds are ignored truths, which may be
  taken any number of times; their overlap is the intersection over the area of the *detection*.
- Area ranges (all, small, medium, large; others may replace the last three) include both ends, so that 32^2 is small
  and medium. They apply to the ``area`` of a truth and to the width x height of a detection. A truth outside is
  ignored, and so is a detection outside that takes no truth. This holds for "all" too, which is 0 to 1e10.
- The fields ``ignore`` and ``difficult`` of an annotation have no effect. A figure without ground truth is -1.
  Detections of a category that the ground truth does not list are left out, and counted in ``left_out``.

Annotations are numbered from 1 before a library sees them: in pycocotools the id 0 means "unmatched", which turns true
positives into false ones; ``id_zero`` counts such annotations. ``AP`` is at ``max_detections[-1]``; the first figure of
pycocotools is always at 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from metrics.detection.curves import RECALLS, average, mean, trace_curves
from metrics.detection.inputs import Boxes, Inputs, read_inputs
from metrics.detection.library import LIBRARIES, evaluate_by_library
from metrics.detection.matching import Matching, match_inputs
from metrics.detection.params import CocoParams, make_params


@dataclass(frozen=True)
class CocoResult:
    """COCO's figures of detections, also as attributes (``result.AP50``), and the arrays that they are means of.

    ``figures`` are AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl, -1 without truths; ``per_class`` and
    ``per_threshold`` are AP.
    """

    figures: dict[str, float]  # AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; -1: no truth
    per_class: dict[Any, float]  # category id -> AP
    per_threshold: dict[float, float]  # IoU -> AP
    names: dict[Any, str] = field(repr=False)  # category id -> name
    precision: Float[np.ndarray, "iou recall category area max_detections"] = field(repr=False)
    recall: Float[np.ndarray, "iou category area max_detections"] = field(repr=False)
    params: CocoParams
    left_out: int  # detections of categories that the ground truth does not list
    id_zero: int  # annotations with the id 0
    matching: Matching | None = field(repr=False)  # None with a library backend

    @property
    def max_detections(self) -> tuple[int, ...]:
        """The numbers of detections per image and class that figures are given at, ascending; COCO's are 1, 10, 100."""
        return self.params.max_detections

    def __getattr__(self, name: str) -> float:
        if name == "figures":  # the field itself is missing while a result is unpickled
            raise AttributeError(name)
        if name not in self.figures:
            raise AttributeError(f"no figure {name!r}; there are {', '.join(self.figures)}")
        return self.figures[name]

    def curve(self, category: Any = None, iou: float = 0.5) -> Float[np.ndarray, "recall=101"]:
        """The precision-recall curve of a category, or the mean over categories, at the IoU threshold ``iou``.

        It is the precision at the recalls 0, .01, ..., 1; -1 without truths.
        """
        precision = self.precision[self.params.position(iou), :, :, 0, -1]
        if category is not None:
            return precision[:, _position(category, self.per_class)]
        there = precision[0] > -1
        return precision[:, there].mean(axis=1) if there.any() else -np.ones(len(RECALLS))

    def at_score(self, score: float, iou: float = 0.5, category: Any = None) -> dict[str, float]:
        """Precision, recall, F1, tp, fp and fn, by name, of the detections whose score is at least ``score``.

        They are those of a category, or over all categories that the ground truth lists, where a detection of a
        category without truths is false. A ratio whose denominator is 0 is 0. Needs backend='fidmap'.
        """
        matching = self._matching()
        keep = matching.detections.score >= score
        truths = matching.positives()[0]
        if category is not None:
            position = _position(category, self.per_class)
            keep = keep & (matching.detections.category == position)
            truths = truths[position]
        true, false = matching.status(self.params.position(iou))
        tp, fp = int((true & keep).sum()), int((false & keep).sum())
        fn = int(truths.sum()) - tp
        figures = {
            "precision": tp / max(tp + fp, 1),
            "recall": tp / max(tp + fn, 1),
            "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        }
        return figures | {"tp": tp, "fp": fp, "fn": fn}

    def intervals(self, resamples: int = 200, level: float = 0.95, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Confidence intervals (low, high) of the figures that very many such images would give, by name.

        They are by a bias-corrected bootstrap over images. A resample draws as many images as there are, with
        replacement; its figures are read off the matching with the number of draws of each image as its weight. That
        equals an evaluation of the resampled data set, provided that no two detections of one image and class have
        equal scores (here the copies of each stay together). Resamples in which a figure has no ground truth are left
        out; the interval is (-1, -1) without any ground truth, and of one image. See ``metrics.detection.bootstrap``,
        and its ``measured_coverage`` below 100 images. Needs backend='fidmap'.
        """
        from metrics.detection.bootstrap import bootstrap_figures

        return bootstrap_figures(self._matching(), resamples, level, seed)

    def _matching(self) -> Matching:
        if self.matching is None:
            raise ValueError("a library backend keeps no matching; evaluate with backend='fidmap'")
        return self.matching


def evaluate_coco(
    ground_truth: Any,
    detections: Any,
    *,
    iou_type: Literal["bbox", "segm"] = "bbox",
    iou_thresholds: Sequence[float] | None = None,
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_detections: int | Sequence[int] = (1, 10, 100),
    class_agnostic: bool = False,
    backend: Literal["fidmap", "faster_coco_eval", "pycocotools"] = "fidmap",
) -> CocoResult:
    """Average precision and recall of detections under COCO's rules, those of pycocotools' ``COCOeval`` (1405.0312).

    Each side is a file, a folder, COCO's objects, or tensors: see ``metrics.detection.inputs``. ``iou_thresholds`` and
    ``area_ranges`` (name -> least and greatest area) replace COCO's. AP is the mean over the thresholds, at the last of
    ``max_detections``; each area range has an AP and an AR with its name, each number of detections an AR with its
    number. ``class_agnostic`` takes all boxes of listed categories for one class, "all". Masks (``segm``) need COCO's
    objects and a library backend. Raises ValueError that names the file or entry and the field: a missing key, an
    unknown image, a score that is NaN, a box that is not finite or has a negative side; on parameters as
    ``make_params`` does.
    """
    if backend not in ("fidmap", *LIBRARIES):
        raise ValueError(f"backend {backend!r} is not one of fidmap, {', '.join(LIBRARIES)}")
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type {iou_type!r} is not one of bbox, segm")
    if iou_type == "segm" and backend == "fidmap":
        raise ValueError("iou_type 'segm' needs backend='faster_coco_eval' or 'pycocotools'")
    params = make_params(iou_thresholds, area_ranges, max_detections)

    inputs = read_inputs(ground_truth, detections, iou_type, class_agnostic=class_agnostic)
    matching = None
    if backend == "fidmap":
        matching = match_inputs(inputs, params)
        precision, recall = trace_curves(matching)
    else:
        precision, recall = _by_library(backend, inputs, iou_type, params)
    return CocoResult(
        average(precision, recall, params),
        {category: mean(precision[:, :, k, 0, -1]) for category, k in inputs.categories.items()},
        {round(t, 9): mean(precision[i, :, :, 0, -1]) for i, t in enumerate(params.iou_thresholds)},
        inputs.names,
        precision,
        recall,
        params,
        inputs.left_out,
        inputs.id_zero,
        matching,
    )


def _position(category: Any, per_class: Mapping[Any, float]) -> int:
    if category not in per_class:
        raise ValueError(f"category {category!r} is none of {', '.join(map(str, per_class))}")
    return list(per_class).index(category)


# Library backends ----------------------------------------------------------------------------------------------------


def _by_library(name: str, inputs: Inputs, iou_type: str, params: CocoParams) -> tuple[np.ndarray, np.ndarray]:
    # Positions stand for ids, since a library may accept integers alone; annotations are numbered from 1.
    sizes = inputs.sizes or [{}] * len(inputs.images)
    dataset = {
        "images": [{"id": i, **size} for i, size in enumerate(sizes)],
        "categories": [{"id": k} for k in range(len(inputs.categories))],
        "annotations": _entries(inputs.truths, inputs.truth_masks),
    }
    return evaluate_by_library(
        name, dataset, _entries(inputs.detections, inputs.detection_masks), iou_type, params.max_detections,
        iou_thresholds=params.iou_thresholds, area_ranges=params.area_ranges,
    )  # fmt: skip


def _entries(boxes: Boxes, masks: Sequence[Any] | None) -> list[dict[str, Any]]:
    """COCO's entries; with masks they have no boxes, from which a library would take the area of a detection."""
    columns = (boxes.image, boxes.category, boxes.area, boxes.score, boxes.crowd.astype(int))
    keys = "id", "image_id", "category_id", "area", "score", "iscrowd", "bbox" if masks is None else "segmentation"
    shapes = boxes.box.tolist() if masks is None else masks
    rows = zip(range(1, len(boxes.score) + 1), *(column.tolist() for column in columns), shapes, strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]

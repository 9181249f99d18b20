"""COCO's average precision and recall of detections, by an array engine or by two library backends.

The rules are those of pycocotools' ``COCOeval``, ties and corners included:

- IoU thresholds .5, .55, ..., .95, or one's own (each ``min(t, 1 - 1e-10)``); 101 recalls, read off the right-to-left
  envelope of precision at the first detection whose recall reaches them.
- At most ``max_detections[-1]`` detections an image **and class** take part, best scores first. Equal scores keep the
  order of image ids, then of the file.
- A detection takes, among the free truths of its image and class that it overlaps enough, the one of greatest IoU (the
  later one on a tie); a truth that counts goes before an ignored one. Crowds are ignored truths, may be taken any
  number of times, and overlap by intersection over the *detection's* area.
- Area ranges (all, small, medium, large, or one's own beside all) include both ends, so that 32^2 is small and medium.
  They hold against a truth's ``area`` and a detection's width x height. A truth outside is ignored, and so is a
  detection outside that matches nothing. This holds for "all" too, which is 0 to 1e10.
- Fields ``ignore`` and ``difficult`` of an annotation have no effect; a figure without ground truth is -1; detections
  of a category that the ground truth does not list are left out and counted in ``left_out``.

Annotations are renumbered from 1 before they reach a backend: in pycocotools an id of 0 means "unmatched", which turns
true positives into false ones; ``id_zero`` counts such annotations. ``AP`` here is at ``max_detections[-1]``;
pycocotools' first figure always is at 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from metrics.detection.curves import RECALLS, curves_at, figures, mean
from metrics.detection.inputs import Boxes, Pair, read_pair
from metrics.detection.library import LIBRARIES, evaluate_by_library
from metrics.detection.matching import Matching, match_pair
from metrics.detection.params import CocoParams, make_params


@dataclass(frozen=True)
class CocoResult:
    """The figures, also as attributes (``result.AP50``), with the arrays that they are means of."""

    figures: dict[str, float]  # AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl, or like these; -1: no truth
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
        """The limits, ascending."""
        return self.params.max_detections

    def __getattr__(self, name: str) -> float:
        figures = self.__dict__.get("figures", {})  # not yet there while it is unpickled
        if name not in figures:
            raise AttributeError(f"no figure {name!r}; there are {', '.join(figures)}")
        return figures[name]

    def curve(self, category: Any = None, iou: float = 0.5) -> Float[np.ndarray, "recall=101"]:
        """Precision at the recalls 0, .01, ..., 1: a category's, or the mean of those with ground truth; -1 without."""
        precision = self.precision[self.params.position(iou), :, :, 0, -1]
        if category is not None:
            return precision[:, _position(category, self.per_class)]
        there = precision[0] > -1
        return precision[:, there].mean(axis=1) if there.any() else -np.ones(len(RECALLS))

    def at_score(self, score: float, iou: float = 0.5, category: Any = None) -> dict[str, float]:
        """Precision, recall and F1 of the detections scored ``score`` or more, and their counts tp, fp, fn.

        Of a category, or pooled over all that the ground truth lists: a detection of one without truths is false. A
        ratio without a denominator is 0. Needs backend='fidmap'.
        """
        matching = self._matching()
        keep = matching.found.score >= score
        truths = matching.positives()[0]
        if category is not None:
            position = _position(category, self.per_class)
            keep = keep & (matching.found.category == position)
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
        """Bounds of the figures that very many such images would give, by the bias-corrected bootstrap over images.

        A resample draws as many images as there are, with replacement, and reads the figures off the matching, each
        image with the number of its draws as a weight: what evaluating that data set anew would give, provided that no
        two detections of one image and class have equal scores (their copies stay together here). Resamples in which a
        figure has no ground truth are left out; (-1, -1) where there is none at all, or but one image. See
        ``metrics.detection.bootstrap``, and its ``measured_coverage`` below 100 images.
        Needs backend='fidmap'.
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
    """Average precision and recall under COCO's rules (see the module).

    Either side is a file, a folder, COCO's objects, or tensors: see ``metrics.detection.inputs``. ``iou_thresholds``
    and ``area_ranges`` (name -> least and greatest area) replace COCO's: AP is the mean over the thresholds, and each
    range has an AP and an AR with its name. AP is at the last of ``max_detections``, and each has an AR with its
    number. ``class_agnostic`` takes all boxes of listed categories for one class, "all". Masks (``segm``) need COCO's
    objects and a library backend. Raises ValueError that names the file or entry and the field, at a missing key, an
    unknown image, a score that is NaN, a box that is not finite or has a negative side, and on parameters as
    ``make_params`` does. Paper: arXiv 1405.0312.
    """
    if backend not in ("fidmap", *LIBRARIES):
        raise ValueError(f"backend {backend!r} is not one of fidmap, {', '.join(LIBRARIES)}")
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type {iou_type!r} is not one of bbox, segm")
    if iou_type == "segm" and backend == "fidmap":
        raise ValueError("iou_type 'segm' needs backend='faster_coco_eval' or 'pycocotools'")
    params = make_params(iou_thresholds, area_ranges, max_detections)

    pair = read_pair(ground_truth, detections, iou_type, class_agnostic=class_agnostic)
    matching = None
    if backend == "fidmap":
        matching = match_pair(pair, params)
        precision, recall = curves_at(matching)
    else:
        precision, recall = _by_library(backend, pair, iou_type, params)
    return CocoResult(
        figures(precision, recall, params),
        {category: mean(precision[:, :, k, 0, -1]) for category, k in pair.categories.items()},
        {round(t, 9): mean(precision[i, :, :, 0, -1]) for i, t in enumerate(params.iou_thresholds)},
        pair.names,
        precision,
        recall,
        params,
        pair.left_out,
        pair.id_zero,
        matching,
    )


def _position(category: Any, per_class: Mapping[Any, float]) -> int:
    if category not in per_class:
        raise ValueError(f"category {category!r} is none of {', '.join(map(str, per_class))}")
    return list(per_class).index(category)


# Library backends ----------------------------------------------------------------------------------------------------


def _by_library(name: str, pair: Pair, iou_type: str, params: CocoParams) -> tuple[np.ndarray, np.ndarray]:
    # Positions for ids, as a library may take integers alone, and annotations numbered from 1.
    sizes = pair.sizes or [{}] * len(pair.images)
    dataset = {
        "images": [{"id": i, **size} for i, size in enumerate(sizes)],
        "categories": [{"id": k} for k in range(len(pair.categories))],
        "annotations": _entries(pair.truth, pair.truth_masks),
    }
    return evaluate_by_library(
        name, dataset, _entries(pair.found, pair.found_masks), iou_type, params.max_detections,
        iou_thresholds=params.iou_thresholds, area_ranges=params.area_ranges,
    )  # fmt: skip


def _entries(boxes: Boxes, masks: Sequence[Any] | None) -> list[dict[str, Any]]:
    """COCO's entries; masks take the place of boxes, from which a library would read the detection's area."""
    columns = (boxes.image, boxes.category, boxes.area, boxes.score, boxes.crowd.astype(int))
    keys = "id", "image_id", "category_id", "area", "score", "iscrowd", "bbox" if masks is None else "segmentation"
    shapes = boxes.box.tolist() if masks is None else masks
    rows = zip(range(1, len(boxes.score) + 1), *(column.tolist() for column in columns), shapes, strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]

"""A matching at one IoU, best detections first: what TIDE, calibration, F1 and the confusion matrix are made of.

It is COCO's matching over all areas (``metrics.detection.matching``). A detection is a *hit* if it took a truth that
counts. It is *ignored*, neither right nor wrong, if it took a truth that does not count (a crowd, or an area out of
range), or if it took none and is itself out of range. All others are wrong. Pooled figures count the detections of
every class that the ground truth lists; means over classes are over those with truths, as AP's is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.curves import RECALLS
from metrics.detection.inputs import Boxes
from metrics.detection.matching import Matching, match
from metrics.detection.overlaps import Overlaps, iou_of


class Assignment(NamedTuple):
    """Truths and detections, and who takes whom."""

    truth: Boxes
    found: Boxes  # by falling score; ties by image, then as they were given
    counted: Bool[np.ndarray, " truth"]
    taken: Int[np.ndarray, " found"]  # the truth that counts and that a detection takes, -1: none
    iou: Float[np.ndarray, " found"]  # with that truth; 0 without
    ignored: Bool[np.ndarray, " found"]
    categories: tuple[Any, ...]  # ids, in the order of the columns ``category``
    iou_threshold: float

    @property
    def hit(self) -> Bool[np.ndarray, " found"]:
        """Which detections are right."""
        return self.taken >= 0

    @property
    def positives(self) -> Int[np.ndarray, " category"]:
        """How many truths that count a category has."""
        return np.bincount(self.truth.category[self.counted], minlength=len(self.categories))

    @property
    def least_iou(self) -> float:
        """The IoU that meets the threshold."""
        return min(self.iou_threshold, 1 - 1e-10)


def assign_detections(
    ground_truth: Any, detections: Any, *, iou_threshold: float = 0.5, max_detections: int = 100
) -> Assignment:
    """Give the truths of a data set to its detections; input and errors are those of ``evaluate_coco``."""
    matching = match(
        ground_truth, detections, iou_thresholds=(iou_threshold,), area_ranges={}, max_detections=max_detections
    )
    return assign_matched(matching, iou_threshold)


def assign_matched(matching: Matching, iou_threshold: float = 0.5) -> Assignment:
    """The part of a matching at one of its thresholds, over all areas."""
    at = matching.params.position(iou_threshold)
    true, false = matching.status(at)
    order = np.lexsort((matching.index, matching.found.image, -matching.found.score))
    found, true = matching.found.select(order), true[order]
    taken = np.where(true, matching.took(at)[order], -1)
    iou = np.zeros(len(taken))
    iou[true] = iou_of(found.select(true), matching.truth.select(taken[true]))
    ignored = ~(true | false[order])
    return Assignment(
        matching.truth, found, ~matching.unused[0], taken, iou, ignored, matching.categories, iou_threshold
    )


def assign(pairs: Overlaps, taken: Int[np.ndarray, " found"], free: Bool[np.ndarray, " truth"]) -> None:
    """Each detection in turn takes the free truth of the greatest IoU among its pairs (the later one on a tie).

    Writes into ``taken``, where -1 is none, and ``free``.
    """
    order = np.lexsort((-pairs.truth, -pairs.iou, pairs.detection))
    for detection, truth in zip(pairs.detection[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if taken[detection] < 0 and free[truth]:
            taken[detection], free[truth] = truth, False


def average_precision(
    category: Int[np.ndarray, " n"], hit: Bool[np.ndarray, " n"], positives: Int[np.ndarray, " category"]
) -> Float[np.ndarray, " category"]:
    """COCO's AP of each category (101 recalls) from detections, best first; NaN without a truth."""
    values = np.full(len(positives), np.nan)
    order = np.argsort(category, kind="stable")
    bounds = np.searchsorted(category[order], np.arange(len(positives) + 1))
    for k in np.flatnonzero(positives):
        right = np.cumsum(hit[order[bounds[k] : bounds[k + 1]]])
        precision = np.zeros(len(right) + 1)  # the last stands for recalls that are not reached
        precision[:-1] = right / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        values[k] = envelope[np.searchsorted(right / positives[k], RECALLS)].mean()
    return values

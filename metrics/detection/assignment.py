"""The matching at one IoU, in order of falling score: TIDE, calibration, F1 and the confusion matrix are read off it.

It is COCO's matching over all areas (``metrics.detection.matching``). A detection is a *hit* if it takes a truth that
counts. It is *ignored*, neither right nor wrong, if it takes a truth that does not count (a crowd, or an area out of
range), or if it takes none and is itself out of range. All others are wrong. Figures over all classes together count
the detections of every class that the ground truth lists; means over classes are over those with truths, as AP's is.
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
    """The matching of detections to truths at one IoU threshold: ``partner`` is the truth that each detection takes.

    ``partner`` is -1 where the detection takes none, or one that does not count. ``counted`` marks the truths that
    count (no crowd), and ``ignored`` the detections that are neither right nor wrong.
    """

    truths: Boxes
    detections: Boxes  # by falling score; equal scores by image, then in the order of the input
    counted: Bool[np.ndarray, " truth"]
    partner: Int[np.ndarray, " detection"]  # position of the truth that it takes, if that counts; -1: none
    iou: Float[np.ndarray, " detection"]  # with that truth; 0 without
    ignored: Bool[np.ndarray, " detection"]
    categories: tuple[Any, ...]  # ids, in the order of the columns ``category``
    iou_threshold: float

    @property
    def hit(self) -> Bool[np.ndarray, " detection"]:
        """Which detections are right: they take a truth that counts."""
        return self.partner >= 0

    @property
    def positives(self) -> Int[np.ndarray, " category"]:
        """The number of truths that count, one per category, which recall is relative to."""
        return np.bincount(self.truths.category[self.counted], minlength=len(self.categories))

    @property
    def least_iou(self) -> float:
        """The smallest IoU that meets the threshold, ``min(threshold, 1 - 1e-10)`` as COCO has it."""
        return min(self.iou_threshold, 1 - 1e-10)


def assign_detections(
    ground_truth: Any, detections: Any, *, iou_threshold: float = 0.5, max_detections: int = 100
) -> Assignment:
    """Match detections to truths at one IoU threshold, by COCO's rules over all areas.

    In order of falling score, each takes the free truth of its image and class that it overlaps most. Input and errors
    are those of ``evaluate_coco``.
    """
    matching = match(
        ground_truth, detections, iou_thresholds=(iou_threshold,), area_ranges={}, max_detections=max_detections
    )
    return select_threshold(matching, iou_threshold)


def select_threshold(matching: Matching, iou_threshold: float = 0.5) -> Assignment:
    """Give the matching at one of its IoU thresholds, over all areas; raises ValueError on another threshold."""
    at = matching.params.position(iou_threshold)
    true, false = matching.status(at)
    order = np.lexsort((matching.index, matching.detections.image, -matching.detections.score))
    detections, true = matching.detections.select(order), true[order]
    partner = np.where(true, matching.partners(at)[order], -1)
    iou = np.zeros(len(partner))
    iou[true] = iou_of(detections.select(true), matching.truths.select(partner[true]))
    ignored = ~(true | false[order])
    return Assignment(
        matching.truths, detections, ~matching.unused[0], partner, iou, ignored, matching.categories, iou_threshold
    )


def assign(pairs: Overlaps, partner: Int[np.ndarray, " detection"], free: Bool[np.ndarray, " truth"]) -> None:
    """Let each detection in turn take the free truth of the greatest IoU among its pairs (the later one on a tie).

    Detections stand in order of falling score. Writes the truth into ``partner``, where -1 is none, and marks in
    ``free`` that it is taken.
    """
    order = np.lexsort((-pairs.truth, -pairs.iou, pairs.detection))
    for detection, truth in zip(pairs.detection[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if partner[detection] < 0 and free[truth]:
            partner[detection], free[truth] = truth, False


def average_precision(
    category: Int[np.ndarray, " n"], hit: Bool[np.ndarray, " n"], positives: Int[np.ndarray, " category"]
) -> Float[np.ndarray, " category"]:
    """COCO's AP of each category (101 recalls) from detections in order of falling score; NaN without a truth."""
    values = np.full(len(positives), np.nan)
    order = np.argsort(category, kind="stable")
    bounds = np.searchsorted(category[order], np.arange(len(positives) + 1))
    for k in np.flatnonzero(positives):
        right = np.cumsum(hit[order[bounds[k] : bounds[k + 1]]])
        precision = np.zeros(len(right) + 1)  # the last is for recalls that are not reached
        precision[:-1] = right / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        values[k] = envelope[np.searchsorted(right / positives[k], RECALLS)].mean()
    return values

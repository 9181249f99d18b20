"""The score threshold of the best F1, over all classes and for each class.

A threshold keeps the detections whose score is at least that. If TP of them are right at ``iou_threshold``, FP are
wrong, and there are P truths, then

    precision = TP / (TP + FP),    recall = TP / P,    F1 = 2 TP / (TP + FP + P)

and F1 is 0 where no detection is kept. Over all classes the counts are summed (micro-averaged), so that one threshold
serves all; a detection of a class without truths is wrong. Ignored truths and detections
(``metrics.detection.assignment``) are not counted, as for AP. At its threshold a point equals ``CocoResult.at_score``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.detection.assignment import Assignment, assign_detections


@dataclass(frozen=True)
class OperatingPoint:
    """F1, precision and recall of the detections whose score is at least ``threshold``.

    All are NaN where there is no truth or no right detection.
    """

    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class BestF1:
    """The score threshold of the best F1, with the figures there: over all classes together, and by category id."""

    overall: OperatingPoint
    per_class: dict[Any, OperatingPoint]


def find_best_f1(
    ground_truth: Any,
    detections: Any,
    *,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> BestF1:
    """Find the score threshold of the best F1, over all classes and for each class; the highest one on a tie.

    With TP right and FP wrong of the detections that it keeps and P truths, ``F1 = 2 TP / (TP + FP + P)``; over all
    classes the counts are summed. Input and errors are those of ``evaluate_coco``.
    """
    return maximise_f1(
        assign_detections(ground_truth, detections, iou_threshold=iou_threshold, max_detections=max_detections)
    )


def maximise_f1(assignment: Assignment) -> BestF1:
    """Find the score thresholds of the best F1 (``find_best_f1``) of detections that have been matched already."""
    positives = assignment.positives
    category = assignment.detections.category
    counted = ~assignment.ignored
    per_class = {
        name: _best(assignment, counted & (category == k), int(positives[k]))
        for k, name in enumerate(assignment.categories)
    }
    return BestF1(_best(assignment, counted, int(positives.sum())), per_class)


def _best(assignment: Assignment, among: np.ndarray, positives: int) -> OperatingPoint:
    score, hit = assignment.detections.score[among], assignment.hit[among]
    if not positives:
        return OperatingPoint(float("nan"), float("nan"), float("nan"), float("nan"))
    if not hit.any():
        return OperatingPoint(float("nan"), 0.0, float("nan"), 0.0)
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])  # equal scores are kept or dropped together
    right, kept = np.cumsum(hit)[last], last + 1
    f1 = 2 * right / (kept + positives)
    at = int(np.argmax(f1))
    return OperatingPoint(
        float(score[last[at]]), float(f1[at]), float(right[at] / kept[at]), float(right[at] / positives)
    )

"""Which class is taken for which: the confusion matrix of detections at one score and one IoU.

Of the detections that score at least ``score_threshold``, best first,

1. each takes the free truth of its own class that it overlaps most, from ``iou_threshold`` on: the diagonal, which so
   holds exactly the true positives behind AP and F1;
2. each that took none takes the free truth of another class that it overlaps most, likewise: off the diagonal;
3. what is left of the detections stands in the last row (nothing was there), what is left of the truths in the last
   column (nothing was found).

Crowds are no truths here; detections that one absorbs are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from metrics.assignment import Assignment, assign, assign_detections, least


@dataclass(frozen=True)
class ConfusionMatrix:
    """Rows are truths, columns detections, in the order of ``categories``; the last of both is the background."""

    counts: Int[np.ndarray, "categories_and_one categories_and_one"]
    categories: tuple[Any, ...]  # ids
    absorbed: int  # detections that lie in a crowd
    score_threshold: float
    iou_threshold: float


def confusion_matrix(
    ground_truth: Any,
    detections: Any,
    *,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> ConfusionMatrix:
    """Counts of truths by what they were taken for (see the module); input and errors as ``evaluate_coco``."""
    assignment = assign_detections(ground_truth, detections, iou_threshold=iou_threshold, max_detections=max_detections)
    return confusion(assignment, score_threshold)


def confusion(assignment: Assignment, score_threshold: float) -> ConfusionMatrix:
    """``confusion_matrix`` of detections that have been matched at ``iou_threshold`` already.

    Assignment goes by falling score, so that what a threshold leaves out changes nothing above it.
    """
    if np.isnan(score_threshold):
        raise ValueError("score_threshold is nan")
    truth, found, pairs = assignment.truth, assignment.found, assignment.pairs
    kept = (found.score >= score_threshold) & ~assignment.absorbed
    taken = np.where(kept, assignment.taken, -1)
    free = ~truth.crowd
    free[taken[taken >= 0]] = False
    confused = pairs.select(
        (kept & (taken < 0))[pairs.detection]
        & free[pairs.truth]
        & (pairs.iou >= least(assignment.iou_threshold))
        & (found.category[pairs.detection] != truth.category[pairs.truth])
    )
    second, _ = assign(confused, len(taken), len(free))
    taken = np.where(second >= 0, second, taken)
    free[second[second >= 0]] = False

    n = len(assignment.categories)
    counts = np.zeros((n + 1, n + 1), np.int64)
    np.add.at(counts, (np.append(truth.category, n)[taken[kept]], found.category[kept]), 1)  # -1: the background
    np.add.at(counts, (truth.category[free], n), 1)
    absorbed = int(np.count_nonzero(assignment.absorbed & (found.score >= score_threshold)))
    return ConfusionMatrix(counts, assignment.categories, absorbed, score_threshold, assignment.iou_threshold)

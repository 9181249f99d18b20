"""Which class is taken for which: the confusion matrix of detections at one score and one IoU.

Of the detections that score at least ``score_threshold``, best first,

1. each takes the free truth of its own class that it overlaps most, from ``iou_threshold`` on: the diagonal, which so
   holds exactly the true positives behind AP and F1;
2. each that took none takes the free truth of another class that it overlaps most, likewise: off the diagonal;
3. what is left of the detections stands in the last row (nothing was there), what is left of the truths in the last
   column (nothing was found).

Truths that do not count (crowds, areas out of range) are none here; detections that are ignored for them are left out
and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from metrics.detection.assignment import Assignment, assign, assign_detections
from metrics.detection.overlaps import overlap_blocks


@dataclass(frozen=True)
class ConfusionMatrix:
    """Rows are truths, columns detections, in the order of ``categories``; the last of both is the background."""

    counts: Int[np.ndarray, "categories_and_one categories_and_one"]
    categories: tuple[Any, ...]  # ids
    ignored: int  # detections that are neither right nor wrong
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
    truth, found = assignment.truth, assignment.found
    kept = (found.score >= score_threshold) & ~assignment.ignored
    taken = np.where(kept, assignment.taken, -1)
    free = assignment.counted.copy()
    free[taken[taken >= 0]] = False
    left, rest = np.flatnonzero(kept & (taken < 0)), np.flatnonzero(free)
    second, still = np.full(len(left), -1), np.ones(len(rest), bool)
    for pairs in overlap_blocks(truth.select(rest), found.select(left), least=assignment.least_iou):
        other = found.category[left][pairs.detection] != truth.category[rest][pairs.truth]
        assign(pairs.select(other), second, still)
    taken[left] = np.append(rest, -1)[second]
    free[rest] = still

    n = len(assignment.categories)
    counts = np.zeros((n + 1, n + 1), np.int64)
    np.add.at(counts, (np.append(truth.category, n)[taken[kept]], found.category[kept]), 1)  # -1: the background
    np.add.at(counts, (truth.category[free], n), 1)
    ignored = int(np.count_nonzero(assignment.ignored & (found.score >= score_threshold)))
    return ConfusionMatrix(counts, assignment.categories, ignored, score_threshold, assignment.iou_threshold)

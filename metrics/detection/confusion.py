"""The confusion matrix of detections at one score and one IoU: which class is taken for which.

The detections whose score is at least ``score_threshold`` take truths in order of falling score.

1. Each takes the free truth of its own class that it overlaps most, if their IoU meets ``iou_threshold``. These are on
   the diagonal, which so holds exactly the true positives of AP and F1.
2. Each that took none takes, by the same rule, a free truth of another class. These are off the diagonal.
3. Detections without a truth are in the last row (nothing was there), truths without a detection in the last column
   (nothing was found).

Truths that do not count (crowds, areas out of range) are left out; ``ignored`` counts the detections that are ignored
because of them.
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
    """The confusion matrix of detections: rows are truths, columns detections, in the order of ``categories``.

    The last row and column are the background: detections without a truth, and truths without a detection.
    """

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
    """The confusion matrix of detections with a score of at least ``score_threshold``: which class is taken for which.

    In order of falling score, a detection takes the free truth of its own class that it overlaps most, if their IoU
    meets ``iou_threshold``, else by the same rule one of another class. Input and errors are those of
    ``evaluate_coco``.
    """
    assignment = assign_detections(ground_truth, detections, iou_threshold=iou_threshold, max_detections=max_detections)
    return count_confusions(assignment, score_threshold)


def count_confusions(assignment: Assignment, score_threshold: float) -> ConfusionMatrix:
    """The confusion matrix (``confusion_matrix``) of detections that have been matched already.

    Detections take truths in order of falling score, so that those below the threshold change nothing above it.
    """
    if np.isnan(score_threshold):
        raise ValueError("score_threshold is nan")
    truths, detections = assignment.truths, assignment.detections
    above = detections.score >= score_threshold
    scored = above & ~assignment.ignored
    partner = np.where(scored, assignment.partner, -1)
    free = assignment.counted.copy()
    free[partner[partner >= 0]] = False
    left, rest = np.flatnonzero(scored & (partner < 0)), np.flatnonzero(free)
    second, still_free = np.full(len(left), -1), np.ones(len(rest), bool)
    for pairs in overlap_blocks(truths.select(rest), detections.select(left), least=assignment.least_iou):
        other = detections.category[left][pairs.detection] != truths.category[rest][pairs.truth]
        assign(pairs.select(other), second, still_free)
    partner[left] = np.append(rest, -1)[second]
    free[rest] = still_free

    n = len(assignment.categories)
    counts = np.zeros((n + 1, n + 1), np.int64)
    row = np.append(truths.category, n)[partner[scored]]  # -1: the background
    np.add.at(counts, (row, detections.category[scored]), 1)
    np.add.at(counts, (truths.category[free], n), 1)
    ignored = int(np.count_nonzero(assignment.ignored & above))
    return ConfusionMatrix(counts, assignment.categories, ignored, score_threshold, assignment.iou_threshold)

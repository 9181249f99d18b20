"""Calibration of a detector's scores: against how often it is right (D-ECE), and how well its boxes lie (LaECE).

Detections are binned by score into J intervals (j/J, (j+1)/J] of equal width, the first including 0. Bin j has n_j of
the n detections; a detection is right if it takes a truth at ``iou_threshold`` (see ``metrics.detection.assignment``).

- D-ECE: ``sum_j n_j/n |mean score_j - precision_j|`` over all classes together (Küppers et al., arXiv 2004.13546, where
  the score alone is binned).
- LaECE: the mean over classes of ``sum_j n_j/n |mean score_j - precision_j x mean IoU_j|``. The mean IoU is that of the
  right detections, so that the product is the sum of their IoU over n_j (Oksuz et al., arXiv 2307.00934).

Ignored detections (``metrics.detection.assignment``) are left out. D-ECE counts the detections of every class, and
those of a class without truths are all wrong. LaECE is a mean over the classes that have truths, as AP is, and
detections. A detector that keeps only what it is sure of has small errors: read them beside its recall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from metrics.detection.assignment import Assignment, assign_detections


@dataclass(frozen=True)
class Reliability:
    """The reliability curve of a detector: its detections in bins of their score, with one value per bin.

    ``confidence`` is the mean score, ``precision`` the share that is right, and ``quality`` the mean IoU of those with
    their truths; NaN where a bin is empty.
    """

    edges: Float[np.ndarray, " bins_and_one"]
    count: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]  # mean score
    precision: Float[np.ndarray, " bins"]
    quality: Float[np.ndarray, " bins"]  # precision x mean IoU of the right ones

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over detections of |mean score - precision| of their bin.

        It is NaN without detections.
        """
        return self._error(self.precision)

    @property
    def laece(self) -> float:
        """Localisation-aware calibration error: the mean over detections of |mean score - precision x mean IoU|.

        These are of the detection's bin; it is NaN without detections.
        """
        return self._error(self.quality)

    def _error(self, target: Float[np.ndarray, " bins"]) -> float:
        some = self.count > 0
        if not some.any():
            return float("nan")
        gap = np.abs(self.confidence[some] - target[some])
        return float((self.count[some] * gap).sum() / self.count.sum())


@dataclass(frozen=True)
class CalibrationResult:
    """Calibration errors D-ECE and LaECE of a detector, and its reliability curves, overall and per class."""

    ece: float
    laece: float
    curve: Reliability = field(repr=False)
    per_class: dict[Any, Reliability] = field(repr=False)  # category id -> curve, of classes with truths


def evaluate_calibration(
    ground_truth: Any,
    detections: Any,
    *,
    iou_threshold: float = 0.5,
    bins: int = 25,
    max_detections: int = 100,
) -> CalibrationResult:
    """Calibration errors of a detector, whose scores should equal its precision (D-ECE) or precision x IoU (LaECE).

    D-ECE is ``sum_j n_j/n |mean score_j - precision_j|`` over ``bins`` of equal width in score (2004.13546), of all
    classes together. LaECE is the mean over classes of the same with ``precision_j x mean IoU_j`` (2307.00934). Scores
    are in [0, 1], and a detection is right if it takes a truth at ``iou_threshold``. NaN without detections. Input and
    errors are those of ``evaluate_coco``; ValueError is raised too on a score outside [0, 1] and on fewer than 1 bin.
    """
    assignment = assign_detections(ground_truth, detections, iou_threshold=iou_threshold, max_detections=max_detections)
    return measure_calibration(assignment, bins)


def measure_calibration(assignment: Assignment, bins: int = 25) -> CalibrationResult:
    """Calibration errors D-ECE and LaECE (``evaluate_calibration``) of detections that have been matched already."""
    if bins < 1:
        raise ValueError(f"bins = {bins}: 1 or more are accepted")
    score = assignment.detections.score
    for value in score[(score < 0) | (score > 1)][:1]:
        raise ValueError(f"a detection has score {value:g}; calibration needs scores in [0, 1]")
    positives = assignment.positives
    counted = ~assignment.ignored
    per_class = {
        name: _bin(assignment, counted & (assignment.detections.category == k), bins)
        for k, name in enumerate(assignment.categories)
        if positives[k]
    }
    curve = _bin(assignment, counted, bins)
    errors = [of_class.laece for of_class in per_class.values() if of_class.count.any()]
    return CalibrationResult(curve.ece, float(np.mean(errors)) if errors else float("nan"), curve, per_class)


def _bin(assignment: Assignment, among: np.ndarray, bins: int) -> Reliability:
    edges = np.linspace(0, 1, bins + 1)
    score = assignment.detections.score[among]
    place = np.maximum(np.searchsorted(edges, score, side="left") - 1, 0)
    count = np.bincount(place, minlength=bins)

    def mean(values: np.ndarray) -> Float[np.ndarray, " bins"]:
        total = np.bincount(place, weights=values, minlength=bins)
        return np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)

    return Reliability(edges, count, mean(score), mean(assignment.hit[among]), mean(assignment.iou[among]))

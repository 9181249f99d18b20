"""Which truth each detection takes at one IoU: what TIDE, calibration, F1 and the confusion matrix are made of.

COCO's rules over all areas, at any one threshold (``metrics.matching`` has COCO's ten): the best ``max_detections`` of
an image and class, best scores first, each take the free truth of their class that they overlap most, from
``iou_threshold`` on (the later one on a tie). A detection that takes none and overlaps a crowd of its class that much
is *absorbed*: neither right nor wrong. The other overlaps of an image, across classes, are in ``pairs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.coco_curves import RECALLS
from metrics.detection_input import Boxes, read_pair
from metrics.matching import overlaps


class Pairs(NamedTuple):
    """Detections and truths of one image that overlap."""

    detection: Int[np.ndarray, " pair"]
    truth: Int[np.ndarray, " pair"]
    iou: Float[np.ndarray, " pair"]  # with a crowd: the share of the detection that lies in it

    def select(self, index: np.ndarray) -> Pairs:
        """Those at an index or under a mask."""
        return Pairs(*(column[index] for column in self))


class Assignment(NamedTuple):
    """Truths and detections, best first, and who takes whom."""

    truth: Boxes
    found: Boxes  # by falling score; ties by image, then as they were given
    taken: Int[np.ndarray, " found"]  # the truth that a detection takes, -1: none
    iou: Float[np.ndarray, " found"]  # with that truth; 0 without
    absorbed: Bool[np.ndarray, " found"]
    pairs: Pairs
    categories: tuple[Any, ...]  # ids, in the order of the columns ``category``
    iou_threshold: float

    @property
    def hit(self) -> Bool[np.ndarray, " found"]:
        """Which detections are right."""
        return self.taken >= 0

    @property
    def positives(self) -> Int[np.ndarray, " category"]:
        """How many truths that count a category has."""
        return np.bincount(self.truth.category[~self.truth.crowd], minlength=len(self.categories))


def assign_detections(
    ground_truth: Any, detections: Any, *, iou_threshold: float = 0.5, max_detections: int = 100
) -> Assignment:
    """Give the truths of a data set to its detections; input and errors are those of ``metrics.detection_input``.

    Raises ValueError too on a threshold outside (0, 1] and on a limit under 1.
    """
    pair = read_pair(ground_truth, detections)
    return assign_boxes(pair.truth, pair.found, tuple(pair.categories), iou_threshold, max_detections)


def assign_boxes(
    truth: Boxes, found: Boxes, categories: Sequence[Any], iou_threshold: float = 0.5, max_detections: int = 100
) -> Assignment:
    """``assign_detections`` of what has been read already, in any order."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold {iou_threshold} is not in (0, 1]")
    if max_detections < 1:
        raise ValueError(f"max_detections {max_detections} must be positive")
    found = found.select(np.lexsort((found.image, -found.score)))
    found = found.select(_among_the_best(found, max_detections))
    rows = overlaps(truth, found, least=np.nextafter(0, 1))
    pairs = Pairs(rows.detection, rows.truth, rows.iou)
    enough = pairs.select(pairs.iou >= least(iou_threshold))
    own = enough.select(found.category[enough.detection] == truth.category[enough.truth])
    crowd = truth.crowd[own.truth]
    taken, iou = assign(own.select(~crowd), len(found.score), len(truth.area))
    absorbed = np.zeros(len(taken), bool)
    absorbed[own.detection[crowd]] = True
    return Assignment(truth, found, taken, iou, absorbed & (taken < 0), pairs, tuple(categories), iou_threshold)


def assign(pairs: Pairs, n_found: int, n_truth: int) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
    """Each detection in turn takes the free truth of the greatest IoU among its pairs (the later one on a tie)."""
    order = np.lexsort((-pairs.truth, -pairs.iou, pairs.detection))
    taken, iou, free = [-1] * n_found, [0.0] * n_found, [True] * n_truth
    for detection, truth, overlap in zip(*(column[order].tolist() for column in pairs), strict=True):
        if taken[detection] < 0 and free[truth]:
            taken[detection], iou[detection], free[truth] = truth, overlap, False
    return np.array(taken, dtype=np.int64), np.array(iou, dtype=float)


def least(iou_threshold: float) -> float:
    """The IoU from which on a threshold is met: COCO gives a threshold of 1 room for rounding."""
    return min(iou_threshold, 1 - 1e-10)


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


def _among_the_best(found: Boxes, limit: int) -> Bool[np.ndarray, " n"]:
    """Which detections, best first, are among the first ``limit`` of their image and class."""
    order = np.lexsort((found.category, found.image))
    image, category = found.image[order], found.category[order]
    new = np.ones(len(order), bool)
    new[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    index = np.arange(len(order))
    among = np.empty(len(order), bool)
    among[order] = index - np.maximum.accumulate(np.where(new, index, 0)) < limit
    return among

"""Which detections and truths of an image overlap, in blocks of bounded size.

    pairs = overlaps(truth, found)
    for block in overlap_blocks(truth, found):    # the same, when all pairs are too many to hold

IoU is ``I / (a + b - I)`` of boxes ``xywh``, with a crowd ``I / a`` for the detection's area a, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metrics.detection.formats.coco_json import Boxes

BLOCK = 2**19  # pairs that are looked at together: about 50 MB


class Overlaps(NamedTuple):
    """Pairs of a detection and a truth, by detection, then by truth."""

    detection: Int[np.ndarray, " pair"]
    truth: Int[np.ndarray, " pair"]
    iou: Float[np.ndarray, " pair"]

    def select(self, index: np.ndarray) -> Overlaps:
        """Those at an index or under a mask."""
        return Overlaps(*(column[index] for column in self))


def overlaps(truth: Boxes, found: Boxes, *, across_classes: bool = True, least: float = 0.1) -> Overlaps:
    """Every pair of one image (``across_classes=False``: and one class) whose IoU reaches ``least``."""
    blocks = [Overlaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    blocks += overlap_blocks(truth, found, across_classes=across_classes, least=least)
    return Overlaps(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def overlap_blocks(
    truth: Boxes, found: Boxes, *, across_classes: bool = True, least: float = 0.1, most: int = BLOCK
) -> Iterator[Overlaps]:
    """``overlaps`` in parts: each holds all pairs of some consecutive detections, of which there are about ``most``.

    What has to be looked at, the pairs of one image, may be far more than overlap.
    """
    n_classes = 1 + max(truth.category.max(initial=0), found.category.max(initial=0))
    group, wanted = (b.image if across_classes else b.image * n_classes + b.category for b in (truth, found))
    by_group = np.argsort(group, kind="stable")
    group = group[by_group]
    by_wanted = order_of(found.image)  # ascending queries are looked up several times faster
    low, count = np.empty((2, len(wanted)), np.int64)
    low[by_wanted] = np.searchsorted(group, wanted[by_wanted], side="left")
    count[by_wanted] = np.searchsorted(group, wanted[by_wanted], side="right")
    count -= low
    edges = _Edges.of(found), _Edges.of(truth)
    total = np.cumsum(count)
    start = 0
    while start < len(count):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + most, side="right")))
        here = count[start:stop]
        detection = np.repeat(np.arange(start, stop), here)
        first = low[start:stop] - (np.cumsum(here) - here)
        yield _near(*edges, truth.crowd, detection, by_group[np.arange(len(detection)) + np.repeat(first, here)], least)
        start = stop


def iou_of(found: Boxes, truth: Boxes) -> Float[np.ndarray, " n"]:
    """The IoU of each detection with the truth of the same row."""
    row = np.arange(len(found.score))
    return _iou(_Edges.of(found), _Edges.of(truth), truth.crowd, row, row)


def most_overlapped(pairs: Overlaps, iou: Float[np.ndarray, " found"], truth: Int[np.ndarray, " found"]) -> None:
    """Writes each detection's greatest IoU among the pairs, and the first truth that has it, into two columns.

    All pairs of a detection must be given at once; detections without any are left alone.
    """
    order = np.lexsort((-pairs.truth, pairs.iou))  # of several writes to one place the last stays
    at = pairs.detection[order]
    iou[at], truth[at] = pairs.iou[order], pairs.truth[order]


def order_of(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A stable argsort of positions; NumPy sorts 16 bits by radix, some ten times as fast as 64 by merging."""
    return np.argsort(values.astype(np.uint16) if values.max(initial=0) < 2**16 else values, kind="stable")


class _Edges(NamedTuple):
    """Boxes as columns: where they begin and end along x and y, and their area."""

    start: tuple[np.ndarray, np.ndarray]
    end: tuple[np.ndarray, np.ndarray]
    area: np.ndarray

    @classmethod
    def of(cls, boxes: Boxes) -> _Edges:
        x, y, w, h = (np.ascontiguousarray(column) for column in boxes.box.T)
        return cls((x, y), (x + w, y + h), w * h)


def _near(
    found: _Edges, truth: _Edges, crowd: np.ndarray, detection: np.ndarray, at: np.ndarray, least: float
) -> Overlaps:
    if least > 0:  # most pairs do not meet along one axis; they go before anything else is computed
        for axis in range(2):
            meet = _shared(found, truth, detection, at, axis) > 0
            detection, at = detection[meet], at[meet]
    iou = _iou(found, truth, crowd, detection, at)
    near = iou >= least
    return Overlaps(detection[near], at[near], iou[near])


def _shared(found: _Edges, truth: _Edges, i: np.ndarray, j: np.ndarray, axis: int) -> Float[np.ndarray, " pair"]:
    """The length of what detection i and truth j have in common along an axis; negative where they are apart."""
    return np.minimum(found.end[axis][i], truth.end[axis][j]) - np.maximum(found.start[axis][i], truth.start[axis][j])


def _iou(found: _Edges, truth: _Edges, crowd: np.ndarray, i: np.ndarray, j: np.ndarray) -> Float[np.ndarray, " pair"]:
    width, height = (_shared(found, truth, i, j, axis) for axis in range(2))
    intersection = np.where((width > 0) & (height > 0), width * height, 0.0)
    d = found.area[i]
    union = np.where(crowd[j], d, d + truth.area[j] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)

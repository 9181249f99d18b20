"""Which detections and truths of an image overlap, in blocks of bounded size.

    pairs = find_overlaps(truths, detections)
    for block in overlap_blocks(truths, detections):    # the same, where all pairs would not fit into memory

With the areas a of a detection, b of a truth and I of their intersection, the overlap is ``IoU = I / (a + b - I)``, and
with a crowd ``I / a``; boxes are ``xywh``, and everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metrics.detection.formats.coco_json import Boxes

BLOCK = 2**19  # pairs in one block: about 50 MB


class Overlaps(NamedTuple):
    """Pairs of a detection and a truth of one image, with their IoU, sorted by detection, then by truth."""

    detection: Int[np.ndarray, " pair"]  # position among the detections
    truth: Int[np.ndarray, " pair"]
    iou: Float[np.ndarray, " pair"]

    def select(self, index: np.ndarray) -> Overlaps:
        """The pairs at an index or under a mask."""
        return Overlaps(*(column[index] for column in self))


def find_overlaps(truths: Boxes, detections: Boxes, *, across_classes: bool = True, least: float = 0.1) -> Overlaps:
    """Find all pairs of a detection and a truth of one image whose IoU is at least ``least``.

    With ``across_classes=False`` they are of one class, too. With a crowd, the IoU is the intersection over the
    detection's area.
    """
    blocks = [Overlaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    blocks += overlap_blocks(truths, detections, across_classes=across_classes, least=least)
    return Overlaps(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def overlap_blocks(
    truths: Boxes, detections: Boxes, *, across_classes: bool = True, least: float = 0.1, most: int = BLOCK
) -> Iterator[Overlaps]:
    """Find the pairs of ``find_overlaps`` in parts that fit in memory, each with all pairs of some detections.

    About ``most`` pairs are compared at a time: those of one image may be many more than those that overlap.
    """
    n_classes = 1 + max(truths.category.max(initial=0), detections.category.max(initial=0))
    group, query = (b.image if across_classes else b.image * n_classes + b.category for b in (truths, detections))
    by_group = np.argsort(group, kind="stable")
    group = group[by_group]
    by_query = sort_positions(detections.image)  # ascending queries are looked up several times faster
    low, count = np.empty((2, len(query)), np.int64)
    low[by_query] = np.searchsorted(group, query[by_query], side="left")
    count[by_query] = np.searchsorted(group, query[by_query], side="right")
    count -= low
    edges = _Edges.of(detections), _Edges.of(truths)
    total = np.cumsum(count)
    start = 0
    while start < len(count):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + most, side="right")))
        here = count[start:stop]
        detection = np.repeat(np.arange(start, stop), here)
        first = low[start:stop] - (np.cumsum(here) - here)
        truth = by_group[np.arange(len(detection)) + np.repeat(first, here)]
        yield _near(*edges, truths.crowd, detection, truth, least)
        start = stop


def iou_of(detections: Boxes, truths: Boxes) -> Float[np.ndarray, " n"]:
    """The IoU of each detection with the truth of the same row, of boxes ``xywh``, in float64.

    With a crowd it is the intersection over the area of the detection.
    """
    row = np.arange(len(detections.score))
    return _iou(_Edges.of(detections), _Edges.of(truths), truths.crowd, row, row)


def write_most_overlapped(
    pairs: Overlaps, iou: Float[np.ndarray, " detection"], truth: Int[np.ndarray, " detection"]
) -> None:
    """Write each detection's greatest IoU among the pairs into ``iou``, and the first truth that has it into ``truth``.

    One call must have all pairs of a detection; detections without pairs keep what they have.
    """
    order = np.lexsort((-pairs.truth, pairs.iou))  # of several writes to one place the last stays
    at = pairs.detection[order]
    iou[at], truth[at] = pairs.iou[order], pairs.truth[order]


def sort_positions(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Stable argsort of positions, by radix where they fit 16 bits, which NumPy does about ten times as fast."""
    return np.argsort(values.astype(np.uint16) if values.max(initial=0) < 2**16 else values, kind="stable")


class _Edges(NamedTuple):
    """Boxes as columns: their ends along x and y, and their area."""

    start: tuple[np.ndarray, np.ndarray]
    end: tuple[np.ndarray, np.ndarray]
    area: np.ndarray

    @classmethod
    def of(cls, boxes: Boxes) -> _Edges:
        x, y, w, h = (np.ascontiguousarray(column) for column in boxes.box.T)
        return cls((x, y), (x + w, y + h), w * h)


def _near(
    detections: _Edges, truths: _Edges, crowd: np.ndarray, detection: np.ndarray, truth: np.ndarray, least: float
) -> Overlaps:
    if least > 0:  # most pairs are apart along one axis; they are dropped before anything else is computed
        for axis in range(2):
            meet = _shared(detections, truths, detection, truth, axis) > 0
            detection, truth = detection[meet], truth[meet]
    iou = _iou(detections, truths, crowd, detection, truth)
    near = iou >= least
    return Overlaps(detection[near], truth[near], iou[near])


def _shared(a: _Edges, b: _Edges, i: np.ndarray, j: np.ndarray, axis: int) -> Float[np.ndarray, " pair"]:
    """The length that box i of a and box j of b have in common along an axis; negative where they are apart."""
    return np.minimum(a.end[axis][i], b.end[axis][j]) - np.maximum(a.start[axis][i], b.start[axis][j])


def _iou(
    detections: _Edges, truths: _Edges, crowd: np.ndarray, i: np.ndarray, j: np.ndarray
) -> Float[np.ndarray, " pair"]:
    width, height = (_shared(detections, truths, i, j, axis) for axis in range(2))
    intersection = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = detections.area[i]
    union = np.where(crowd[j], area, area + truths.area[j] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)

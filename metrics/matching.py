"""Detections matched to truths by COCO's rules, once, for every figure that is read off them.

    matching = match("annotations.json", "detections.json")
    matching.taken[0, 0]       # IoU .5, all areas: which truth each candidate took, -1 for none
    pairs = overlaps(matching.truth, matching.found)  # every pair within an image, across classes

A detection takes, best scores first, the free truth of its image and class that it overlaps most. Seen from the truths
that is a stable matching in which all of them prefer the better score, so it is found by proposals: each detection asks
the truth it likes best, each truth keeps the best that asked, the others ask on. The number of rounds depends on how
many truths a detection overlaps, not on how many detections there are. Paper: Gale and Shapley 1962.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection_input import Boxes, Pair, read_pair

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=float)  # all, small, medium, large


class Overlaps(NamedTuple):
    """Pairs of a detection and a truth, row by row: those of detection i are ``start[i]:start[i + 1]``."""

    start: Int[np.ndarray, " rows"]  # one more than there are detections
    truth: Int[np.ndarray, " pair"]  # ascending within a row
    iou: Float[np.ndarray, " pair"]  # with a crowd: intersection over the detection's area

    @property
    def detection(self) -> Int[np.ndarray, " pair"]:
        """The row of each pair."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


@dataclass(frozen=True)
class Matching:
    """What took what. Truths stand in the order of the input; detections by category, then score, descending.

    A *candidate* is a detection that overlaps a truth of its image and class by .5 at least; no other can match.
    Greedy matching does not look ahead, so that what holds above a score threshold is what is there with it.
    """

    truth: Boxes
    found: Boxes  # at most max_detections an image and class; equal scores: by image, then in the order of the input
    index: Int[np.ndarray, " found"]  # of each in the input, detections of unknown categories not counted
    rank: Int[np.ndarray, " found"]  # 0 for the best of its image and class
    candidate: Int[np.ndarray, " candidate"]  # positions in ``found``, ascending
    taken: Int[np.ndarray, "area iou candidate"] = field(repr=False)  # position in ``truth``, -1: none
    unused: Bool[np.ndarray, "area truth"] = field(repr=False)  # truths that do not count: crowds, areas out of range
    images: tuple[Any, ...] = field(repr=False)  # ids by position
    categories: tuple[Any, ...]  # ids by position

    def status(self, iou: int = 0, area: int = 0) -> tuple[Bool[np.ndarray, " found"], Bool[np.ndarray, " found"]]:
        """Which detections are true, and which are false, at a threshold (its index) and an area range.

        Those that took an ignored truth, and those out of the range that took none, are neither.
        """
        taken = self.taken[area, iou]
        hit = taken >= 0
        true, matched = np.zeros((2, len(self.found.score)), bool)
        matched[self.candidate] = hit
        true[self.candidate[hit]] = ~self.unused[area, taken[hit]]
        return true, ~matched & ~outside(self.found.area)[area]

    def positives(self, weights: np.ndarray | None = None) -> Float[np.ndarray, "area category"]:
        """How many truths count, by area range and category; ``weights``: of each image."""
        weight = None if weights is None else weights[self.truth.image]
        return np.stack(
            [
                np.bincount(self.truth.category[~u], None if weight is None else weight[~u], len(self.categories))
                for u in self.unused
            ]
        ).astype(float)


def match(ground_truth: Any, detections: Any, *, max_detections: int = 100) -> Matching:
    """The matching of what ``evaluate_coco`` accepts, at every threshold and area range.

    Raises ValueError as ``read_pair`` does.
    """
    return match_pair(read_pair(ground_truth, detections), max_detections)


def match_pair(pair: Pair, max_detections: int = 100) -> Matching:
    """The matching of inputs that are read already."""
    truth = pair.truth
    index = np.argsort(pair.found.image, kind="stable")
    index = index[np.argsort(-pair.found.score[index], kind="stable")]
    index = index[_order(pair.found.category[index])]
    rank = _rank(pair.found.image[index], pair.found.category[index])
    if rank.max(initial=0) >= max_detections:
        index, rank = index[rank < max_detections], rank[rank < max_detections]
    found = pair.found.select(index)

    unused = truth.crowd | outside(truth.area)
    pairs = overlaps(truth, found, across_classes=False, least=IOU_THRESHOLDS[0])
    candidate = np.flatnonzero(np.diff(pairs.start))
    taken = _propose(pairs, candidate, unused, truth.crowd)
    names = tuple(pair.images), tuple(pair.categories)
    return Matching(truth, found, index, rank, candidate, taken, unused, *names)


def overlaps(truth: Boxes, found: Boxes, *, across_classes: bool = True, least: float = 0.1) -> Overlaps:
    """Every pair of one image (``across_classes=False``: and one class) whose IoU reaches ``least``.

    IoU is ``I / (a + b - I)`` of boxes ``xywh``, with a crowd ``I / a`` for the detection's area a, in float64.
    """
    n_classes = 1 + max(truth.category.max(initial=0), found.category.max(initial=0))
    group, wanted = (b.image if across_classes else b.image * n_classes + b.category for b in (truth, found))
    by_group = np.argsort(group, kind="stable")
    by_wanted = _order(found.image)  # ascending queries are looked up several times faster
    low = np.empty(len(wanted), np.int64)
    count = np.empty(len(wanted), np.int64)
    low[by_wanted] = np.searchsorted(group[by_group], wanted[by_wanted], side="left")
    count[by_wanted] = np.searchsorted(group[by_group], wanted[by_wanted], side="right")
    count -= low
    detection = np.repeat(np.arange(len(wanted)), count)
    at = by_group[np.arange(len(detection)) + np.repeat(low - (np.cumsum(count) - count), count)]
    if least > 0:  # most pairs do not meet along one axis; they go before anything else is computed
        for axis in range(2):
            meet = _shared(found.box, truth.box, detection, at, axis) > 0
            detection, at = detection[meet], at[meet]
    iou = _iou(found.box, truth.box, truth.crowd, detection, at)
    near = iou >= least
    detection, at, iou = detection[near], at[near], iou[near]
    return Overlaps(np.searchsorted(detection, np.arange(len(wanted) + 1)), at, iou)


def outside(area: Float[np.ndarray, " n"]) -> Bool[np.ndarray, "area n"]:
    """Out of each area range; both ends belong to it."""
    return (area < AREAS[:, :1]) | (area > AREAS[:, 1:])


def _shared(
    found: Float[np.ndarray, "found 4"], truth: Float[np.ndarray, "truth 4"], i: np.ndarray, j: np.ndarray, axis: int
) -> Float[np.ndarray, " pair"]:
    """The length of what detection i and truth j have in common along an axis; negative where they are apart."""
    d, g = (np.ascontiguousarray(box[:, axis]) for box in (found, truth))
    d_end, g_end = d + found[:, axis + 2], g + truth[:, axis + 2]
    return np.minimum(d_end[i], g_end[j]) - np.maximum(d[i], g[j])


def _iou(
    found: np.ndarray, truth: np.ndarray, crowd: np.ndarray, i: np.ndarray, j: np.ndarray
) -> Float[np.ndarray, " pair"]:
    width, height = (_shared(found, truth, i, j, axis) for axis in range(2))
    intersection = np.where((width > 0) & (height > 0), width * height, 0.0)
    d, g = found[:, 2] * found[:, 3], truth[:, 2] * truth[:, 3]
    union = np.where(crowd[j], d[i], d[i] + g[j] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def _propose(pairs: Overlaps, candidate: np.ndarray, unused: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """The truth that each candidate took, by area range and threshold; -1 for none.

    A candidate's truths are sorted by preference: greatest IoU, then the later one. In an area range, those that count
    come before those that do not. Crowds never refuse.
    """
    count = np.diff(pairs.start)[candidate]
    row = np.repeat(np.arange(len(candidate)), count)
    order = np.lexsort((-pairs.truth, -pairs.iou, row))
    truth, iou = pairs.truth[order], pairs.iou[order]
    first = np.cumsum(count) - count
    preference = (np.arange(len(row)) - first[row]).astype(np.int32)
    enough = iou >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    behind = int(count.max(initial=0)) + 1  # what is added to a truth that does not count
    never = 2 * behind

    taken = np.full((len(AREAS), len(IOU_THRESHOLDS), len(candidate)), -1, np.int64)
    if not len(candidate):
        return taken
    for area in range(len(AREAS)):
        place = preference + np.where(unused[area, truth], behind, 0).astype(np.int32)
        cost = np.where(enough, place, np.int32(never))
        best = np.minimum.reduceat(cost, first, axis=1)
        t, c = np.nonzero(best < never)
        p = first[c] + best[t, c] % behind
        owner = np.full(len(IOU_THRESHOLDS) * len(crowd), len(candidate))  # of each truth: the best that asked so far
        settled: list[tuple[np.ndarray, ...]] = []
        while len(t):
            key = t * len(crowd) + truth[p]
            binding = ~crowd[truth[p]]
            np.minimum.at(owner, key[binding], c[binding])
            refused = binding & (owner[key] != c)
            settled.append((t[~refused], c[~refused], p[~refused]))
            t, c, p = (x[refused] for x in (t, c, p))
            cost[t, p] = never
            t, c = (x[count[c] > 1] for x in (t, c))
            t, c, p = _next(cost, t, c, first, count, never, behind)
            if len(t):  # they may drive out what had settled
                settled.append((t, c, p))
                t, c, p = (np.concatenate(x) for x in zip(*settled, strict=True))
                settled = []
        t, c, p = (np.concatenate(x) for x in zip(*settled, strict=True))
        taken[area, t, c] = truth[p]
    return taken


def _next(
    cost: np.ndarray, t: np.ndarray, c: np.ndarray, first: np.ndarray, count: np.ndarray, never: int, behind: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whom the refused ask now, without those that have nobody left."""
    if not len(t):
        return t, c, c
    start = np.cumsum(count[c]) - count[c]
    who = np.repeat(np.arange(len(c)), count[c])
    best = np.minimum.reduceat(cost[t[who], np.arange(len(who)) - start[who] + first[c[who]]], start)
    left = best < never
    return t[left], c[left], first[c[left]] + best[left] % behind


def _rank(image: np.ndarray, category: np.ndarray) -> Int[np.ndarray, " n"]:
    """Position of each detection among those of its image and class; detections come by category."""
    order = _order(image)
    image, category = image[order], category[order]
    index = np.arange(len(order))
    starts = np.ones(len(order), bool)
    starts[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = index - np.maximum.accumulate(np.where(starts, index, 0))
    return rank


def _order(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A stable argsort of positions; NumPy sorts 16 bits by radix, some ten times as fast as 64 by merging."""
    return np.argsort(values.astype(np.uint16) if values.max(initial=0) < 2**16 else values, kind="stable")

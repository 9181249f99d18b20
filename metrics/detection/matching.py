"""Detections matched to truths by COCO's rules, once, for every figure that is read off them.

    matching = match("annotations.json", "detections.json")
    matching.taken[0, 0]       # all areas, IoU .5: which truth each candidate took, -1 for none
    true, false = matching.status(iou=0, area=0)

AP, F1, precision and recall at a score, TIDE, the confusion matrix and calibration all read this one matching, so that
they cannot disagree on what is right, wrong or ignored.

A detection takes, best scores first, the free truth of its image and class that it overlaps most; truths that count go
before those that do not (crowds, and areas out of the range). Seen from the truths that is a stable matching in which
all of them prefer the better score, so it is found by proposals: each detection asks the truth it likes best, each
truth keeps the best that asked, the others ask on. The number of rounds depends on how many truths a detection
overlaps, not on how many detections there are. Paper: Gale and Shapley 1962.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.inputs import Boxes, Pair, read_pair
from metrics.detection.overlaps import Overlaps, order_of, overlap_blocks
from metrics.detection.params import CocoParams, make_params


@dataclass(frozen=True)
class Matching:
    """What took what. Truths stand in the order of the input; detections by category, then score, descending.

    A *candidate* is a detection that overlaps a truth of its image and class by the least threshold; no other can
    match. Greedy matching does not look ahead, so that what holds above a score threshold is what is there with it.
    """

    truth: Boxes
    found: (
        Boxes  # at most max_detections[-1] an image and class; equal scores: by image, then in the order of the input
    )
    index: Int[np.ndarray, " found"]  # of each in the input, detections of unknown categories not counted
    rank: Int[np.ndarray, " found"]  # 0 for the best of its image and class
    candidate: Int[np.ndarray, " candidate"]  # positions in ``found``, ascending
    taken: Int[np.ndarray, "area iou candidate"] = field(repr=False)  # position in ``truth``, -1: none
    unused: Bool[np.ndarray, "area truth"] = field(repr=False)  # truths that do not count: crowds, areas out of range
    images: tuple[Any, ...] = field(repr=False)  # ids by position
    categories: tuple[Any, ...]  # ids by position
    params: CocoParams

    def status(self, iou: int = 0, area: int = 0) -> tuple[Bool[np.ndarray, " found"], Bool[np.ndarray, " found"]]:
        """Which detections are true, and which are false, at a threshold (its index) and an area range.

        Those that took an ignored truth, and those out of the range that took none, are neither.
        """
        took = self.took(iou, area)
        true = took >= 0
        true[true] = ~self.unused[area, took[true]]
        return true, (took < 0) & ~self.params.outside(self.found.area)[area]

    def took(self, iou: int = 0, area: int = 0) -> Int[np.ndarray, " found"]:
        """The truth that each detection took, also one that does not count; -1: none."""
        took = np.full(len(self.found.score), -1)
        took[self.candidate] = self.taken[area, iou]
        return took

    def positives(self, weights: np.ndarray | None = None) -> Float[np.ndarray, "area category"]:
        """How many truths count, by area range and category; ``weights``: of each image."""
        weight = None if weights is None else weights[self.truth.image]
        return np.stack(
            [
                np.bincount(self.truth.category[~u], None if weight is None else weight[~u], len(self.categories))
                for u in self.unused
            ]
        ).astype(float)


def match(
    ground_truth: Any,
    detections: Any,
    *,
    iou_thresholds: Sequence[float] | None = None,
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_detections: int | Sequence[int] = 100,
    class_agnostic: bool = False,
) -> Matching:
    """The matching of what ``evaluate_coco`` accepts, at every threshold and area range.

    Raises ValueError as ``read_pair`` and ``make_params`` do.
    """
    params = make_params(iou_thresholds, area_ranges, max_detections)
    return match_pair(read_pair(ground_truth, detections, class_agnostic=class_agnostic), params)


def match_pair(pair: Pair, params: CocoParams) -> Matching:
    """The matching of inputs that are read already."""
    truth = pair.truth
    index = np.argsort(pair.found.image, kind="stable")
    index = index[np.argsort(-pair.found.score[index], kind="stable")]
    index = index[order_of(pair.found.category[index])]
    rank = _rank(pair.found.image[index], pair.found.category[index])
    limit = params.max_detections[-1]
    if rank.max(initial=0) >= limit:
        index, rank = index[rank < limit], rank[rank < limit]
    found = pair.found.select(index)

    unused = truth.crowd | params.outside(truth.area)
    # Who has each truth. Within an image and class all blocks of detections come best scores first.
    owner = np.full((*_shape(params), len(truth.area)), len(found.score), np.int32)
    blocks = [(np.zeros(0, np.int64), np.zeros((*_shape(params), 0), np.int64))]
    for pairs in overlap_blocks(truth, found, across_classes=False, least=params.least_ious[0]):
        blocks.append(_take(pairs, unused, truth.crowd, params.least_ious, owner))
    candidate, taken = (np.concatenate(parts, axis=-1) for parts in zip(*blocks, strict=True))
    return Matching(
        truth, found, index, rank, candidate, taken, unused, tuple(pair.images), tuple(pair.categories), params
    )


def _shape(params: CocoParams) -> tuple[int, int]:
    return len(params.area_ranges), len(params.iou_thresholds)


def _take(
    pairs: Overlaps,
    unused: Bool[np.ndarray, "area truth"],
    crowd: Bool[np.ndarray, " truth"],
    least_ious: Float[np.ndarray, " iou"],
    owner: Int[np.ndarray, "area iou truth"],
) -> tuple[Int[np.ndarray, " candidate"], Int[np.ndarray, "area iou candidate"]]:
    """The detections of a block and the truth that each takes, -1 for none; ``owner`` is brought up to date.

    A detection's truths are sorted by preference: those that count, then greatest IoU, then the later one. What better
    detections of earlier blocks have is gone, but for crowds, which never refuse.
    """
    first = np.flatnonzero(np.append(True, pairs.detection[1:] != pairs.detection[:-1]))[: len(pairs.detection)]
    candidate = pairs.detection[first]
    row = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(pairs.detection))))
    order = np.lexsort((-pairs.truth, -pairs.iou, row))
    truth, iou = pairs.truth[order], pairs.iou[order]

    taken = np.full((*owner.shape[:2], len(candidate)), -1, np.int64)
    last = candidate[-1] if len(candidate) else -1
    for area in range(len(owner)):
        order = np.argsort(2 * row + unused[area, truth], kind="stable")
        r, t, o = row[order], truth[order], iou[order]
        never = crowd[t]
        for k, least in enumerate(least_ious):
            asks = (o >= least) & (never | (owner[area, k, t] > last))
            taken[area, k] = _propose(r[asks], t[asks], crowd, candidate, owner[area, k])
    return candidate, taken


def _propose(
    row: Int[np.ndarray, " pair"],
    truth: Int[np.ndarray, " pair"],
    crowd: Bool[np.ndarray, " truth"],
    candidate: Int[np.ndarray, " candidate"],
    owner: Int[np.ndarray, " truth"],
) -> Int[np.ndarray, " candidate"]:
    """The truth that each candidate takes; its truths stand in the order in which it asks them."""
    taken = np.full(len(candidate), -1, np.int64)
    n = len(row)
    begins = np.flatnonzero(np.append(True, row[1:] != row[:-1]))[:n]
    place = np.full(len(candidate), n)  # which of the pairs a candidate asks, or has
    place[row[begins]] = begins
    end = np.zeros(len(candidate), np.int64)
    end[row[begins]] = np.append(begins[1:], n)[: len(begins)]
    asking = row[begins]
    while len(asking):
        wish = truth[place[asking]]
        binding = ~crowd[wish]
        asking, wish = asking[binding], wish[binding]
        before, name = owner[wish], candidate[asking]
        np.minimum.at(owner, wish, name.astype(owner.dtype))
        kept = owner[wish] == name
        driven_out = before[kept]
        driven_out = driven_out[driven_out <= candidate[-1]]
        asking = np.concatenate([asking[~kept], np.searchsorted(candidate, driven_out)])
        place[asking] += 1
        asking = asking[place[asking] < end[asking]]
    has = place < end
    taken[has] = truth[place[has]]
    return taken


def _rank(image: np.ndarray, category: np.ndarray) -> Int[np.ndarray, " n"]:
    """Position of each detection among those of its image and class; detections come by category."""
    order = order_of(image)
    image, category = image[order], category[order]
    index = np.arange(len(order))
    starts = np.ones(len(order), bool)
    starts[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = index - np.maximum.accumulate(np.where(starts, index, 0))
    return rank

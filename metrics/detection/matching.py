"""Detections matched to truths by COCO's rules, once, for every figure that is read off the matching.

    matching = match("annotations.json", "detections.json")
    matching.partner[0, 0]     # all areas, IoU .5: the truth that each candidate takes, -1 for none
    true, false = matching.status(iou=0, area=0)

AP, F1, precision and recall at a score, TIDE, the confusion matrix and calibration are all read off this one matching,
so that they cannot disagree on which detections are true, false or ignored.

In order of falling score, a detection takes the free truth of its image and class that it overlaps most; truths that
count come before those that do not (crowds, and areas outside the range). This is a stable matching in which every
truth prefers the higher score, so it is found by proposals: each detection asks the truth that it prefers, each truth
keeps the best detection that asked, and the others ask their next truth. The number of rounds depends on how many
truths a detection overlaps, not on the number of detections. Paper: Gale and Shapley 1962.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.inputs import Boxes, Inputs, read_inputs
from metrics.detection.overlaps import Overlaps, overlap_blocks, sort_positions
from metrics.detection.params import CocoParams, make_params


@dataclass(frozen=True)
class Matching:
    """Which detection takes which truth by COCO's rules, at every IoU threshold and area range.

    ``partner`` has the truth of each candidate, -1 for none. Truths stand in the order of the input, detections by
    category, then by falling score. A *candidate* is a detection whose IoU with some truth of its image and class meets
    the least threshold; no other can match. Greedy matching does not look ahead: the part of it above a score is the
    matching of the detections above that score.
    """

    truths: Boxes
    # At most max_detections[-1] per image and class; equal scores stand by image, then in the order of the input.
    detections: Boxes
    index: Int[np.ndarray, " detection"]  # of each in the input, without detections of unknown categories
    rank: Int[np.ndarray, " detection"]  # 0 for the best of its image and class
    candidate: Int[np.ndarray, " candidate"]  # positions in ``detections``, ascending
    partner: Int[np.ndarray, "area iou candidate"] = field(repr=False)  # position in ``truths``, -1: none
    unused: Bool[np.ndarray, "area truth"] = field(repr=False)  # truths that do not count: crowds, areas out of range
    images: tuple[Any, ...] = field(repr=False)  # ids by position
    categories: tuple[Any, ...]  # ids by position
    params: CocoParams

    def status(
        self, iou: int = 0, area: int = 0
    ) -> tuple[Bool[np.ndarray, " detection"], Bool[np.ndarray, " detection"]]:
        """Which detections are true and which are false, at the index of a threshold and of an area range.

        A detection that took a truth that does not count is neither, nor is one outside the range that took none.
        """
        partners = self.partners(iou, area)
        true = partners >= 0
        true[true] = ~self.unused[area, partners[true]]
        return true, (partners < 0) & ~self.params.outside(self.detections.area)[area]

    def partners(self, iou: int = 0, area: int = 0) -> Int[np.ndarray, " detection"]:
        """The truth that each detection takes, also one that does not count, at one IoU and area range; -1: none."""
        partners = np.full(len(self.detections.score), -1)
        partners[self.candidate] = self.partner[area, iou]
        return partners

    def positives(self, weights: np.ndarray | None = None) -> Float[np.ndarray, "area category"]:
        """The number of truths that count, by area range and category; ``weights`` say how often each image counts."""
        weight = None if weights is None else weights[self.truths.image]
        return np.stack(
            [
                np.bincount(self.truths.category[~u], None if weight is None else weight[~u], len(self.categories))
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
    """Match detections to truths by COCO's rules, at every IoU threshold and area range.

    In order of falling score, a detection takes the free truth of its image and class that it overlaps most. Both sides
    are what ``evaluate_coco`` accepts. Raises ValueError as ``read_inputs`` and ``make_params`` do.
    """
    params = make_params(iou_thresholds, area_ranges, max_detections)
    return match_inputs(read_inputs(ground_truth, detections, class_agnostic=class_agnostic), params)


def match_inputs(inputs: Inputs, params: CocoParams) -> Matching:
    """Match detections to truths by COCO's rules (``match``), of inputs that have been read already."""
    truths, detections = inputs.truths, inputs.detections
    index = np.argsort(detections.image, kind="stable")
    index = index[np.argsort(-detections.score[index], kind="stable")]
    index = index[sort_positions(detections.category[index])]
    rank = _rank(detections.image[index], detections.category[index])
    limit = params.max_detections[-1]
    if rank.max(initial=0) >= limit:
        index, rank = index[rank < limit], rank[rank < limit]
    detections = detections.select(index)

    unused = truths.crowd | params.outside(truths.area)
    # The detection that has each truth. Within an image and class the blocks come in order of falling score.
    owner = np.full((*_shape(params), len(truths.area)), len(detections.score), np.int32)
    blocks = [(np.zeros(0, np.int64), np.zeros((*_shape(params), 0), np.int64))]
    for pairs in overlap_blocks(truths, detections, across_classes=False, least=params.least_ious[0]):
        blocks.append(_match_block(pairs, unused, truths.crowd, params.least_ious, owner))
    candidate, partner = (np.concatenate(parts, axis=-1) for parts in zip(*blocks, strict=True))
    return Matching(
        truths, detections, index, rank, candidate, partner, unused, tuple(inputs.images), tuple(inputs.categories),
        params,
    )  # fmt: skip


def _shape(params: CocoParams) -> tuple[int, int]:
    return len(params.area_ranges), len(params.iou_thresholds)


def _match_block(
    pairs: Overlaps,
    unused: Bool[np.ndarray, "area truth"],
    crowd: Bool[np.ndarray, " truth"],
    least_ious: Float[np.ndarray, " iou"],
    owner: Int[np.ndarray, "area iou truth"],
) -> tuple[Int[np.ndarray, " candidate"], Int[np.ndarray, "area iou candidate"]]:
    """The detections of a block and the truth that each takes, -1 for none; ``owner`` is updated in place.

    A detection prefers truths that count, then the greater IoU, then the later truth. A truth that a better detection
    of an earlier block has taken is no longer free, unless it is a crowd, which may be taken any number of times.
    """
    first = np.flatnonzero(np.append(True, pairs.detection[1:] != pairs.detection[:-1]))[: len(pairs.detection)]
    candidate = pairs.detection[first]
    row = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(pairs.detection))))
    order = np.lexsort((-pairs.truth, -pairs.iou, row))
    truth, iou = pairs.truth[order], pairs.iou[order]

    partner = np.full((*owner.shape[:2], len(candidate)), -1, np.int64)
    last = candidate[-1] if len(candidate) else -1
    for area in range(len(owner)):
        order = np.argsort(2 * row + unused[area, truth], kind="stable")
        r, t, o = row[order], truth[order], iou[order]
        never = crowd[t]
        for k, least in enumerate(least_ious):
            asks = (o >= least) & (never | (owner[area, k, t] > last))
            partner[area, k] = _propose(r[asks], t[asks], crowd, candidate, owner[area, k])
    return candidate, partner


def _propose(
    row: Int[np.ndarray, " pair"],
    truth: Int[np.ndarray, " pair"],
    crowd: Bool[np.ndarray, " truth"],
    candidate: Int[np.ndarray, " candidate"],
    owner: Int[np.ndarray, " truth"],
) -> Int[np.ndarray, " candidate"]:
    """The truth that each candidate takes; its pairs stand in the order in which it asks the truths."""
    partner = np.full(len(candidate), -1, np.int64)
    n = len(row)
    begins = np.flatnonzero(np.append(True, row[1:] != row[:-1]))[:n]
    place = np.full(len(candidate), n)  # the pair whose truth a candidate asks, or has
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
        accepts = owner[wish] == name
        rejected = before[accepts]
        rejected = rejected[rejected <= candidate[-1]]
        asking = np.concatenate([asking[~accepts], np.searchsorted(candidate, rejected)])
        place[asking] += 1
        asking = asking[place[asking] < end[asking]]
    has = place < end
    partner[has] = truth[place[has]]
    return partner


def _rank(image: np.ndarray, category: np.ndarray) -> Int[np.ndarray, " n"]:
    """The position of each detection among those of its image and class; detections are sorted by category."""
    order = sort_positions(image)
    image, category = image[order], category[order]
    index = np.arange(len(order))
    starts = np.ones(len(order), bool)
    starts[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = index - np.maximum.accumulate(np.where(starts, index, 0))
    return rank

"""Precision and recall of a matching, at all IoU thresholds and area ranges at once; images may have weights.

    precision, recall = trace_curves(matching)
    values = average(precision, recall, matching.params)    # AP, AP50, ..., ARl

Precision is the right-to-left envelope at the recalls 0, .01, ..., 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.matching import Matching
from metrics.detection.params import CocoParams

RECALLS = np.linspace(0.0, 1.0, 101)


def mean(values: np.ndarray) -> float:
    """The mean of precisions or recalls over those that have ground truth (the others are -1); -1 where none has."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def average(precision: np.ndarray, recall: np.ndarray, params: CocoParams) -> dict[str, float]:
    """COCO's figures from the arrays of precision and recall of ``trace_curves``, by name: AP, AP50, ..., ARl.

    Other parameters than COCO's have other figures. AP50 and AP75 are given where their thresholds are among the
    parameters.
    """
    sizes = list(enumerate(params.area_names))[1:]
    values = {"AP": mean(precision[:, :, :, 0, -1])}
    for i, iou in enumerate(params.iou_thresholds):
        if min(abs(iou - 0.5), abs(iou - 0.75)) < 1e-9:
            values[f"AP{100 * iou:.0f}"] = mean(precision[i, :, :, 0, -1])
    values |= {f"AP{size}": mean(precision[:, :, :, a, -1]) for a, size in sizes}
    values |= {f"AR{limit}": mean(recall[:, :, 0, m]) for m, limit in enumerate(params.max_detections)}
    return values | {f"AR{size}": mean(recall[:, :, a, -1]) for a, size in sizes}


class Walk(NamedTuple):
    """The matches of the best detections in order of falling score, one segment per area range, IoU and category.

    A precision-recall curve is read off each segment. Matches without effect are left out: those of a detection outside
    the area range to a truth that does not count.
    """

    matching: Matching
    limit: int  # of detections per image and class
    shape: tuple[int, int, int]  # areas, IoUs, categories
    detection: Int[np.ndarray, " match"]
    true: Bool[np.ndarray, " match"]  # to a truth that counts
    inside: Bool[np.ndarray, " match"]  # the detection lies in the area range
    segment: Int[np.ndarray, " match"]
    bounds: Int[np.ndarray, " segments"]  # where each segment begins, and the end of the last
    counted: Int[np.ndarray, " counted"]  # the detections inside the first area range, then those in the second, ...
    since: Int[np.ndarray, " match"]  # how many of ``counted`` stand before the first of the match's category,
    upto: Int[np.ndarray, " match"]  # and up to the match itself


def walk(matching: Matching, limit: int) -> Walk:
    """Give the matches of the best ``limit`` detections of each image and class, as ``Walk`` orders them.

    Precision-recall curves are read off it.
    """
    detections, n = matching.detections, len(matching.categories)
    among = matching.rank < limit
    inside = among & ~matching.params.outside(detections.area)
    a, t, c = np.nonzero((matching.partner >= 0) & among[matching.candidate])
    at = matching.candidate[c]
    true = ~matching.unused[a, matching.partner[a, t, c]]
    effect = true | inside[a, at]
    a, t, at, true = (column[effect] for column in (a, t, at, true))

    shape = *matching.partner.shape[:2], n
    segment = (a * shape[1] + t) * n + detections.category[at]
    bounds = np.searchsorted(segment, np.arange(np.prod(shape) + 1))
    before = np.zeros(inside.size + 1, np.int64)
    np.cumsum(inside, out=before[1:])  # over the area ranges one after the other
    row = a * len(among)
    since = before[row + np.searchsorted(detections.category, np.arange(n))[detections.category[at]]]
    counted = np.flatnonzero(inside) % max(len(among), 1)
    return Walk(matching, limit, shape, at, true, inside[a, at], segment, bounds, counted, since, before[row + at + 1])


def walk_limits(matching: Matching) -> list[Walk]:
    """Give the matches, ordered for precision-recall curves, at each number of detections per image and class.

    It is the same object for numbers that no image and class reaches.
    """
    limits = matching.params.max_detections
    most = int(matching.rank.max(initial=0)) + 1
    distinct = {limit: walk(matching, limit) for limit in {min(limit, most) for limit in limits}}
    return [distinct[min(limit, most)] for limit in limits]


def trace_curves(
    matching: Matching,
) -> tuple[Float[np.ndarray, "iou recall=101 category area limit"], Float[np.ndarray, "iou category area limit"]]:
    """Precision at the recalls 0, .01, ..., 1, and the recall reached, by IoU, category, area and number of detections.

    The number is that per image and class; -1 without ground truth.
    """
    paths = walk_limits(matching)
    traced = {path.limit: (trace_precision(path), sum_recall(path)) for path in {p.limit: p for p in paths}.values()}
    precision, recall = (np.stack([traced[path.limit][part] for path in paths], axis=-1) for part in (0, 1))
    return precision, recall


def sum_recall(
    path: Walk, weights: Float[np.ndarray, " image"] | None = None
) -> Float[np.ndarray, "iou category area"]:
    """The recall of all the detections, by IoU, category and area range, from their matches; -1 without ground truth.

    ``weights`` are whole numbers that say how often each image counts.
    """
    weight = path.true if weights is None else path.true * weights[path.matching.detections.image[path.detection]]
    total = np.bincount(path.segment, weight, np.prod(path.shape)).reshape(path.shape)
    positives = np.broadcast_to(path.matching.positives(weights)[:, None], path.shape)
    recall = np.divide(total, positives, out=-np.ones(path.shape), where=positives > 0)
    return recall.transpose(1, 2, 0)


def trace_precision(
    path: Walk, weights: Float[np.ndarray, " image"] | None = None
) -> Float[np.ndarray, "iou recall=101 category area"]:
    """The right-to-left envelope of precision at the recalls 0, .01, ..., 1, by IoU, category and area range.

    It is -1 without ground truth. ``weights`` are whole numbers that say how often each image counts. Only matches are
    visited: between two of them precision falls, so that the envelope never needs the detections in between, which
    enter as numbers of false ones.
    """
    image = path.matching.detections.image
    weight = np.ones(len(image)) if weights is None else weights[image]
    positives = np.broadcast_to(path.matching.positives(weights)[:, None], path.shape).ravel()
    of_match = weight[path.detection]
    running, start, tp = _sums(of_match * path.true, path.bounds, path.segment)
    counted = np.append(0.0, np.cumsum(weight[path.counted]))
    matched = _sums(of_match * path.inside, path.bounds, path.segment)[2]
    fp = counted[path.upto] - counted[path.since] - matched

    end = path.bounds[1:, None]
    position = np.searchsorted(running, start[:, None] + _needed(positives))
    position = np.clip(position, path.bounds[:-1, None], end)
    precise = np.append(tp / (fp + tp + np.spacing(1)), 0.0)
    # The envelope at a recall is the greatest precision from its position on: the maximum over the stretch up to the
    # position of the next recall, and over all later stretches.
    stretch = np.maximum.reduceat(precise, position.ravel()).reshape(position.shape)
    stretch[position == end] = 0.0  # a recall that is not reached
    precision = np.maximum.accumulate(stretch[:, ::-1], axis=1)[:, ::-1]
    precision[positives == 0] = -1.0
    return precision.reshape(*path.shape, len(RECALLS)).transpose(1, 3, 2, 0)


def _sums(values: np.ndarray, bounds: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Running sums over all values, their value before each segment, and running sums within the segments."""
    running = np.cumsum(values)  # whole numbers, so that a difference of two sums is exact
    start = np.append(0.0, running)[bounds[:-1]]
    return running, start, running - start[segment]


def _needed(positives: Float[np.ndarray, " segment"]) -> Float[np.ndarray, "segment recall"]:
    """The smallest number of true positives whose ratio to the positives, in floating point, reaches each recall."""
    least = np.maximum(positives, 1.0)[:, None]
    n = np.ceil(RECALLS * least)
    n -= (n - 1) / least >= RECALLS  # at recall 0, n is 0 and (n - 1) / least negative
    return n + (n / least < RECALLS)

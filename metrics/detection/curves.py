"""Precision and recall of a matching, with weighted images if need be, at all thresholds and area ranges at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.matching import Matching
from metrics.detection.params import CocoParams

RECALLS = np.linspace(0.0, 1.0, 101)


def mean(values: np.ndarray) -> float:
    """The mean of those that have ground truth (the others are -1), -1 without any."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def figures(precision: np.ndarray, recall: np.ndarray, params: CocoParams) -> dict[str, float]:
    """The figures of the two arrays of a result: COCO's twelve, or those of other parameters under like names.

    AP50 and AP75 are there if the thresholds are.
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
    """The matches of the best detections of a matching, segment by segment (area, IoU, category), best scores first.

    Left out are those without effect: detections out of the area range that took a truth which does not count.
    """

    matching: Matching
    limit: int  # of detections an image and class
    shape: tuple[int, int, int]  # areas, IoUs, categories
    detection: Int[np.ndarray, " match"]
    true: Bool[np.ndarray, " match"]  # took a truth that counts
    inside: Bool[np.ndarray, " match"]  # the detection lies in the area range
    segment: Int[np.ndarray, " match"]
    bounds: Int[np.ndarray, " segments"]  # where each segment begins, and the end
    counted: Int[np.ndarray, " counted"]  # the detections inside the first area range, then those in the second, ...
    since: Int[np.ndarray, " match"]  # how many of ``counted`` stand before the match's category,
    upto: Int[np.ndarray, " match"]  # and up to the match itself


def walk(matching: Matching, limit: int) -> Walk:
    """The matches of the best ``limit`` detections of each image and class."""
    found, n = matching.found, len(matching.categories)
    among = matching.rank < limit
    inside = among & ~matching.params.outside(found.area)
    a, t, c = np.nonzero((matching.taken >= 0) & among[matching.candidate])
    at = matching.candidate[c]
    true = ~matching.unused[a, matching.taken[a, t, c]]
    effect = true | inside[a, at]
    a, t, at, true = (column[effect] for column in (a, t, at, true))

    shape = *matching.taken.shape[:2], n
    segment = (a * shape[1] + t) * n + found.category[at]
    bounds = np.searchsorted(segment, np.arange(np.prod(shape) + 1))
    before = np.zeros(inside.size + 1, np.int64)
    np.cumsum(inside, out=before[1:])  # over the area ranges one after the other
    row = a * len(among)
    since = before[row + np.searchsorted(found.category, np.arange(n))[found.category[at]]]
    counted = np.flatnonzero(inside) % max(len(among), 1)
    return Walk(matching, limit, shape, at, true, inside[a, at], segment, bounds, counted, since, before[row + at + 1])


def walks(matching: Matching) -> list[Walk]:
    """One for each limit; the same one for limits that no image and class reaches."""
    limits = matching.params.max_detections
    most = int(matching.rank.max(initial=0)) + 1
    distinct = {limit: walk(matching, limit) for limit in {min(limit, most) for limit in limits}}
    return [distinct[min(limit, most)] for limit in limits]


def curves_at(
    matching: Matching,
) -> tuple[Float[np.ndarray, "iou recall=101 category area limit"], Float[np.ndarray, "iou category area limit"]]:
    """Precision and recall at each limit."""
    paths = walks(matching)
    read = {path.limit: (curves(path), recalls(path)) for path in {path.limit: path for path in paths}.values()}
    precision, recall = (np.stack([read[path.limit][part] for path in paths], axis=-1) for part in (0, 1))
    return precision, recall


def recalls(path: Walk, weights: Float[np.ndarray, " image"] | None = None) -> Float[np.ndarray, "iou category area"]:
    """The recall of all that is walked; -1 without ground truth. ``weights`` as for ``curves``."""
    weight = path.true if weights is None else path.true * weights[path.matching.found.image[path.detection]]
    total = np.bincount(path.segment, weight, np.prod(path.shape)).reshape(path.shape)
    positives = np.broadcast_to(path.matching.positives(weights)[:, None], path.shape)
    recall = np.divide(total, positives, out=-np.ones(path.shape), where=positives > 0)
    return recall.transpose(1, 2, 0)


def curves(
    path: Walk, weights: Float[np.ndarray, " image"] | None = None
) -> Float[np.ndarray, "iou recall=101 category area"]:
    """Precision at the 101 recalls; -1 without ground truth.

    ``weights``: how often each image counts, whole numbers. Only matches are walked: between two of them precision
    falls, so that the envelope never needs the others; they enter as counts of false positives.
    """
    image = path.matching.found.image
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
    # The envelope at a recall is the greatest precision from its position on: that of the stretch to the next recall's
    # position, and those of all later stretches.
    stretch = np.maximum.reduceat(precise, position.ravel()).reshape(position.shape)
    stretch[position == end] = 0.0  # a recall that is not reached
    precision = np.maximum.accumulate(stretch[:, ::-1], axis=1)[:, ::-1]
    precision[positives == 0] = -1.0
    return precision.reshape(*path.shape, len(RECALLS)).transpose(1, 3, 2, 0)


def _sums(values: np.ndarray, bounds: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Running sums over all, what they are where each segment begins, and running sums within segments."""
    running = np.cumsum(values)  # whole numbers: exact, so that a difference of sums is the sum of the part
    start = np.append(0.0, running)[bounds[:-1]]
    return running, start, running - start[segment]


def _needed(positives: Float[np.ndarray, " segment"]) -> Float[np.ndarray, "segment recall"]:
    """The smallest whole number whose ratio to the positives, as rounded, reaches each recall."""
    least = np.maximum(positives, 1.0)[:, None]
    n = np.ceil(RECALLS * least)
    n -= (n - 1) / least >= RECALLS  # at recall 0, n is 0 and (n - 1) / least negative
    return n + (n / least < RECALLS)

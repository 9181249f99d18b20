"""Average precision of the PASCAL VOC challenge, 11-point (to 2009) and all-point (from 2010).

The rules are the development kit's: in order of scores, over all images, a detection looks at the one truth of its
image and class that it overlaps most (the first on a tie; *not* the best free one, as COCO's does). If the overlap is
below the threshold it is false; if that truth is difficult it is left out; if it is taken already it is false; else it
is true. Difficult truths are not among the positives. VOC knows no crowds; they count as difficult.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from metrics.detection.inputs import read_pair
from metrics.detection.overlaps import most_overlapped, overlap_blocks


@dataclass(frozen=True)
class VocResult:
    """``map``: the mean of ``per_class`` over the classes with positives; nan for those without, and without any."""

    map: float
    per_class: dict[Any, float]  # category id -> AP
    curves: dict[Any, tuple[np.ndarray, np.ndarray]] = field(repr=False)  # category id -> recall and precision, raw
    names: dict[Any, str] = field(repr=False)
    left_out: int  # detections of categories that the ground truth does not list


def evaluate_voc(
    ground_truth: Any, detections: Any, *, iou: float = 0.5, points: Literal["all", "11"] = "all"
) -> VocResult:
    """VOC's average precision; either side as ``metrics.detection.inputs`` has it.

    ``points="11"``: the mean over recalls 0, .1, ..., 1 of the greatest precision there or beyond; ``"all"``: the area
    under that envelope. Equal scores keep the order of image ids, then of the input. Raises ValueError as
    ``read_pair`` does, and on an ``iou`` outside (0, 1]. Paper: Everingham et al. 2010, 4.2, and the kit's
    ``VOCevaldet.m``.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou {iou} is not in (0, 1]")
    if points not in ("all", "11"):
        raise ValueError(f"points {points!r} is not one of all, 11")
    pair = read_pair(ground_truth, detections)
    difficult = pair.truth.difficult | pair.truth.crowd
    truth = pair.truth._replace(crowd=np.zeros_like(difficult))  # plain IoU with all
    found = pair.found.select(np.lexsort((pair.found.image, -pair.found.score, pair.found.category)))

    best, looked_at = np.zeros(len(found.score)), np.full(len(found.score), -1)
    for pairs in overlap_blocks(truth, found, across_classes=False, least=np.nextafter(0, 1)):
        most_overlapped(pairs, best, looked_at)
    near = best >= iou
    left = np.zeros(len(near), bool)
    left[near] = difficult[looked_at[near]]
    asks = np.flatnonzero(near & ~left)
    first = np.unique(looked_at[asks], return_index=True)[1]  # within a class in order of scores
    true = np.zeros(len(near), bool)
    true[asks[first]] = True

    positives = np.bincount(truth.category[~difficult], minlength=len(pair.categories))
    curves = {}
    for category, k in pair.categories.items():
        hit = true[(found.category == k) & ~left]
        tp = np.cumsum(hit)
        curves[category] = tp / max(positives[k], 1), tp / np.arange(1, len(tp) + 1)
    area = _eleven_points if points == "11" else _all_points
    per_class = {c: area(*curves[c]) if positives[k] else float("nan") for c, k in pair.categories.items()}
    known = [value for value in per_class.values() if value == value]
    return VocResult(float(np.mean(known)) if known else float("nan"), per_class, curves, pair.names, pair.left_out)


def _envelope(precision: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]) -> float:
    # j / 10, since 0:0.1:1 misses the recall 3/10 by a bit
    position = np.searchsorted(recall, np.arange(11) / 10)
    return float(np.append(_envelope(precision), 0.0)[position].mean())


def _all_points(recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]) -> float:
    return float((np.diff(recall, prepend=0.0) * _envelope(precision)).sum())

"""Average precision of the PASCAL VOC challenge, 11-point (to 2009) and all-point (from 2010).

The rules are those of the development kit. In order of falling score over all images, a detection asks for the one
truth of its image and class that it overlaps most (the first on a tie; *not* the best that is still free, as in COCO).
If their IoU is below the threshold, the detection is false. If that truth is difficult, the detection is left out. If
another detection has taken the truth, it is false; otherwise it is true. Difficult truths are not among the positives.
VOC knows no crowds; they count as difficult here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.detection.inputs import Boxes, Inputs, read_inputs
from metrics.detection.overlaps import overlap_blocks, write_most_overlapped


@dataclass(frozen=True)
class VocMatching:
    """Which detections are true under PASCAL VOC's rules at one IoU, and which are left out for a difficult truth.

    Both averages, 11-point and all-point, are read off it.
    """

    detections: Boxes  # by category, then by falling score; equal scores by image, then in the order of the input
    true: Bool[np.ndarray, " detection"]
    left_out: Bool[np.ndarray, " detection"]  # those that overlap a difficult truth most: neither true nor false
    difficult: Bool[np.ndarray, " truth"]  # truths that are no positives, crowds among them
    positives: Int[np.ndarray, " category"]
    inputs: Inputs = field(repr=False)


@dataclass(frozen=True)
class VocResult:
    """PASCAL VOC's average precision: ``map`` is the mean of ``per_class`` over the classes with positives.

    It is NaN for classes without positives, and without any. ``curves`` has recall and precision of each class.
    """

    map: float
    per_class: dict[Any, float]  # category id -> AP
    curves: dict[Any, tuple[np.ndarray, np.ndarray]] = field(repr=False)  # category id -> recall and precision, raw
    names: dict[Any, str] = field(repr=False)
    left_out: int  # detections of categories that the ground truth does not list


def evaluate_voc(
    ground_truth: Any, detections: Any, *, iou: float = 0.5, points: Literal["all", "11"] = "all"
) -> VocResult:
    """PASCAL VOC's average precision of detections, 11-point (to 2009) or all-point (from 2010).

    ``points="11"``: the mean over the recalls 0, .1, ..., 1 of the greatest precision at that recall or beyond;
    ``"all"``: the area under that envelope. Both sides are as in ``metrics.detection.inputs``. Equal scores keep the
    order of image ids, then of the input. Raises ValueError as ``read_inputs`` does, and on an ``iou`` outside (0, 1].
    Paper: Everingham et al. 2010, 4.2, and the kit's ``VOCevaldet.m``.
    """
    if points not in ("all", "11"):
        raise ValueError(f"points {points!r} is not one of all, 11")
    return average_voc(match_voc(ground_truth, detections, iou=iou), points)


def match_voc(ground_truth: Any, detections: Any = None, *, iou: float = 0.5) -> VocMatching:
    """Match detections to truths under PASCAL VOC's rules: each asks for the one truth that it overlaps most.

    In order of falling score it is false if their IoU is below ``iou`` or the truth is taken, and left out if the truth
    is difficult. Errors are those of ``evaluate_voc``.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou {iou} is not in (0, 1]")
    inputs = read_inputs(ground_truth, detections)
    difficult = inputs.truths.difficult | inputs.truths.crowd
    truths, found = inputs.truths._replace(crowd=np.zeros_like(difficult)), inputs.detections  # plain IoU with all
    found = found.select(np.lexsort((found.image, -found.score, found.category)))

    best, asked = np.zeros(len(found.score)), np.full(len(found.score), -1)
    for pairs in overlap_blocks(truths, found, across_classes=False, least=np.nextafter(0, 1)):
        write_most_overlapped(pairs, best, asked)
    near = best >= iou
    left_out = np.zeros(len(near), bool)
    left_out[near] = difficult[asked[near]]
    asking = np.flatnonzero(near & ~left_out)
    first = np.unique(asked[asking], return_index=True)[1]  # within a class detections stand in order of scores
    true = np.zeros(len(near), bool)
    true[asking[first]] = True
    positives = np.bincount(truths.category[~difficult], minlength=len(inputs.categories))
    return VocMatching(found, true, left_out, difficult, positives, inputs)


def average_voc(matching: VocMatching, points: Literal["all", "11"] = "all") -> VocResult:
    """PASCAL VOC's average precision of a matching, 11-point or all-point (see ``evaluate_voc``)."""
    categories, positives = matching.inputs.categories, matching.positives
    curves = {}
    for category, k in categories.items():
        hit = matching.true[(matching.detections.category == k) & ~matching.left_out]
        tp = np.cumsum(hit)
        curves[category] = tp / max(positives[k], 1), tp / np.arange(1, len(tp) + 1)
    area = _eleven_points if points == "11" else _all_points
    per_class = {c: area(*curves[c]) if positives[k] else float("nan") for c, k in categories.items()}
    known = [value for value in per_class.values() if value == value]
    mean = float(np.mean(known)) if known else float("nan")
    return VocResult(mean, per_class, curves, matching.inputs.names, matching.inputs.left_out)


def _envelope(precision: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]) -> float:
    # j / 10, since 0:0.1:1 misses the recall 3/10 by one bit
    position = np.searchsorted(recall, np.arange(11) / 10)
    return float(np.append(_envelope(precision), 0.0)[position].mean())


def _all_points(recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]) -> float:
    return float((np.diff(recall, prepend=0.0) * _envelope(precision)).sum())

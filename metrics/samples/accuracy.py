"""Conditional accuracy: the share of samples that a classifier takes for the class that they were asked to be."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from scipy.stats import binomtest
from torch import Tensor

from metrics.checks import takes_arrays


class Share(NamedTuple):
    """A share of n samples, ``hits / n``, with Wilson's interval (1927).

    It stays in [0, 1] and keeps its level near both ends.
    """

    value: float
    low: float
    high: float
    hits: int
    n: int


class AccuracyResult(NamedTuple):
    """Conditional accuracy of samples: over all, in each class, and the mean over the classes that have samples."""

    overall: Share
    per_class: tuple[Share, ...]
    balanced: float


@takes_arrays("predicted", "condition")
def conditional_accuracy(
    predicted: Float[Tensor, "n k"] | Integer[Tensor, " n"],
    condition: Integer[Tensor, " n"],
    *,
    classes: int | None = None,
    level: float = 0.95,
) -> AccuracyResult:
    """How often a classifier takes a sample for the class that it was asked to be: predicted label = condition.

    ``predicted`` are scores (n, k), of which the label is the first of the highest, or labels (n,), which need
    ``classes``. A class without samples has the value NaN in the interval [0, 1]. A conditional generator can be
    compared with what the classifier reaches on real samples. Raises ValueError on other shapes or unequal lengths, no
    samples, scores that are NaN, and labels outside [0, classes).
    """
    return accuracy_of_counts(count_hits(predicted, condition, classes), level)


def count_hits(
    predicted: Float[Tensor, "n k"] | Integer[Tensor, " n"], condition: Integer[Tensor, " n"], classes: int | None
) -> Int64[Tensor, "2 k"]:
    """Count, per class, the samples whose predicted label equals the condition (row 0), and all samples (row 1)."""
    scored = predicted.is_floating_point()
    if predicted.ndim != 1 + scored or condition.shape != predicted.shape[:1]:
        given = f"{tuple(predicted.shape)} {predicted.dtype} and {tuple(condition.shape)}"
        raise ValueError(
            f"predictions and conditions are {given}; scores (n, k) or labels (n,), and (n,), are accepted"
        )
    if scored:
        if bool(predicted.isnan().any()):
            raise ValueError(f"{int(predicted.isnan().any(1).sum())} of {len(predicted)} rows of scores are NaN")
        if classes not in (None, predicted.shape[1]):
            raise ValueError(
                f"classes is {classes} and there are {predicted.shape[1]} scores; equal numbers are accepted"
            )
        classes, predicted = predicted.shape[1], predicted.argmax(1)
    if classes is None:
        raise ValueError("classes is None; their number is accepted beside labels")
    for name, labels in (("predictions", predicted), ("conditions", condition)):
        wrong = int(((labels < 0) | (labels >= classes)).sum())
        if wrong:
            raise ValueError(f"{wrong} of {len(labels)} {name} lie outside [0, {classes})")
    kinds = (condition[predicted == condition], condition)
    return torch.stack([torch.bincount(kind.long(), minlength=classes) for kind in kinds])


def accuracy_of_counts(counts: Int64[Tensor, "2 k"], level: float = 0.95) -> AccuracyResult:
    """Conditional accuracy from the hits and samples per class; raises ValueError where there are no samples."""
    if not int(counts[1].sum()):
        raise ValueError("there are no samples; at least 1 is accepted")
    per_class = tuple(share(hits, n, level) for hits, n in counts.mT.tolist())
    seen = [part.value for part in per_class if part.n]
    hits, n = counts.sum(1).tolist()
    return AccuracyResult(share(hits, n, level), per_class, math.fsum(seen) / len(seen))


def share(hits: int, n: int, level: float = 0.95) -> Share:
    """The share hits / n with Wilson's interval; NaN in [0, 1] for n = 0.

    Raises ValueError on a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; between 0 and 1 is accepted")
    if not n:
        return Share(math.nan, 0.0, 1.0, 0, 0)
    interval = binomtest(hits, n).proportion_ci(level, method="wilson")
    return Share(hits / n, float(interval.low), float(interval.high), hits, n)

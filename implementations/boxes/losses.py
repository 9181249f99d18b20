"""Losses of a predicted box against its target, ``loss(pred, target) -> (n,)`` on ``xyxy`` boxes, row by row.

All share one contract. ``reduction`` is ``none``, ``mean`` (0 for no boxes) or ``sum``. A negative side counts as 0.
Value and gradient are finite for every finite input; NaN gives NaN in its own row. ``eps`` is relative: a denominator
is held at ``eps`` squared times the square of the enclosing box's longer side, so it moves no value unless the boxes
are ``1/eps`` times longer than wide. Half precision computes in and returns float32. Wrong shapes and dtypes raise
ValueError; ``validate=True`` also raises it on boxes that are inverted or not finite, naming the row, and has to wait
for the device to do so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.geometry import (
    Pair,
    aspect_angle,
    check_boxes,
    check_values,
    distance_ratio,
    empty_ratio,
    measure,
    overlap_ratio,
    smallest,
)

Reduction = Literal["none", "mean", "sum"]


def box_loss(formula: Callable[[Pair, float], Tensor]) -> Callable[..., Tensor]:
    """Make a loss under the module's contract of a formula over the lengths of a pair."""

    @functools.wraps(formula)
    def loss(
        pred: Float[Tensor, "n 4"],
        target: Float[Tensor, "n 4"],
        *,
        reduction: Reduction = "none",
        eps: float = 1e-7,
        validate: bool = False,
    ) -> Float[Tensor, "*n"]:
        for name, boxes in (("pred", pred), ("target", target)):
            check_boxes(name, boxes)
            if validate:
                check_values(name, boxes)
        if len(pred) != len(target):
            raise ValueError(f"{len(pred)} pred boxes and {len(target)} target boxes; accepted is one target a pred")
        if not eps > 0:
            raise ValueError(f"eps is {eps}; accepted is a positive number")
        return _reduce(formula(measure(pred, target), eps), reduction)

    del loss.__wrapped__  # the signature is the contract's, not the formula's
    return loss


@box_loss
def iou(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Overlap alone, ``1 - IoU``, in [0, 1]; no gradient where the boxes are apart.

    The linear form: UnitBox (1608.01471) has ``-ln IoU``.
    """
    return 1 - overlap_ratio(pair, eps)


@box_loss
def giou(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Overlap and empty space, ``1 - IoU + (C - U) / C``, in [0, 2): C the enclosing area, U the union (1902.09630)."""
    return 1 - overlap_ratio(pair, eps) + empty_ratio(pair, eps)


@box_loss
def diou(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Overlap and distance, ``1 - IoU + rho^2 / c^2``, in [0, 2): centres over diagonal (1911.08287, eq. 7)."""
    return 1 - overlap_ratio(pair, eps) + distance_ratio(pair, eps)


@box_loss
def ciou(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """DIoU and aspect, ``1 - IoU + rho^2 / c^2 + alpha v`` (1911.08287, eq. 8 to 11).

    ``v = 4 / pi^2 (atan(wg / hg) - atan(w / h))^2`` and ``alpha = v / (1 - IoU + v)``, a constant to autograd. The
    gradient of v keeps the factor ``1 / (w^2 + h^2)`` that the paper sets to 1 (after its eq. 12).
    """
    overlap = overlap_ratio(pair, eps)
    v = (2 / math.pi * (aspect_angle(pair.x.target, pair.y.target) - aspect_angle(pair.x.pred, pair.y.pred))).square()
    with torch.no_grad():
        alpha = v / ((1 - overlap).clamp(min=0) + v).clamp(min=smallest(v))
    return 1 - overlap + distance_ratio(pair, eps) + alpha * v


def _reduce(loss: Float[Tensor, " n"], reduction: Reduction) -> Float[Tensor, "*n"]:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(1, loss.numel())
    raise ValueError(f"reduction is {reduction!r}; accepted are 'none', 'mean', 'sum'")

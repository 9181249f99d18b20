"""The geometry of pairs of boxes, written once: lengths of a pair, its overlap, its distance, its aspect.

Boxes are ``xyxy``. IoU and its descendants do not change when a pair is moved or scaled, so ``measure`` hands out
lengths in units of the enclosing box's longer side: no square or quotient of theirs overflows or vanishes, whether the
boxes measure 1e-8 or 1e30. Every function is elementwise over pairs, so that a compiler can fuse a loss into one loop
and a bad pair cannot reach its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import check_boxes

Columns = Sequence[Tensor]  # x1, y1, x2, y2 of boxes, (*n,) each


class Axis(NamedTuple):
    """Lengths of pairs of boxes along x or y, in units of the enclosing box's longer side."""

    pred: Float[Tensor, "*n"]  # side of the prediction
    target: Float[Tensor, "*n"]  # side of the target
    overlap: Float[Tensor, "*n"]  # side of the intersection, 0 where the boxes are apart
    enclosing: Float[Tensor, "*n"]  # side of the smallest box around both
    low: Float[Tensor, "*n"]  # the prediction's lower edge minus the target's, of either sign
    high: Float[Tensor, "*n"]  # the same of the upper edges
    offset: Float[Tensor, "*n"]  # the same of the centres


class Pair(NamedTuple):
    """All that a loss needs of pairs of boxes: their lengths along both axes, and what they are measured in.

    What is not in units is in quarters, since the whole may be greater than the dtype's largest number.
    """

    x: Axis
    y: Axis
    unit: Float[Tensor, "*n"]  # a quarter of the unit
    edges: Columns  # a quarter of the prediction's coordinates minus the target's, of inverted boxes as they are given


def measure(pred: Float[Tensor, "*#n 4"], target: Float[Tensor, "*#n 4"]) -> Pair:
    """Lengths of each pair; a box whose side is negative has side 0 there, at its centre.

    Half precision is measured in float32. The unit is a constant to autograd, which leaves the gradient of every
    quantity that does not depend on scale as it is; one that does is a multiple of ``Pair.unit``.
    """
    return measure_columns(pred.unbind(-1), target.unbind(-1))


def measure_columns(pred: Columns, target: Columns) -> Pair:
    """``measure`` of boxes whose coordinates lie apart, which a compiler fuses into one loop over contiguous memory."""
    (x1, y1, x2, y2), (tx1, ty1, tx2, ty2) = ([_quarter(side) for side in boxes] for boxes in (pred, target))
    x, y = _axis(x1, x2, tx1, tx2), _axis(y1, y2, ty1, ty2)
    longer = torch.maximum(x.enclosing, y.enclosing).detach()
    unit = longer.clamp(min=smallest(longer))
    scale = 1 / unit
    edges = (x1 - tx1, y1 - ty1, x2 - tx2, y2 - ty2)
    return Pair(Axis(*(length * scale for length in x)), Axis(*(length * scale for length in y)), unit, edges)


def union(pair: Pair) -> Float[Tensor, "*n"]:
    """Area that either box covers; in floating point too it is never less than the intersection."""
    x, y = pair[:2]
    return x.pred * y.pred + x.target * y.target - x.overlap * y.overlap


def overlap_ratio(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """IoU, intersection over union, in [0, 1]; exactly 1 for equal boxes, 0 where a box has no area."""
    return pair.x.overlap * pair.y.overlap / union(pair).clamp(min=eps**2)


def empty_ratio(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Part of the enclosing box that neither box covers, in [0, 1]: GIoU's penalty (1902.09630, alg. 1)."""
    enclosing = pair.x.enclosing * pair.y.enclosing
    return (enclosing - union(pair)) / enclosing.clamp(min=eps**2)


def distance_ratio(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Squared distance of the centres over the enclosing box's squared diagonal, in [0, 1] (1911.08287, eq. 6)."""
    x, y = pair[:2]
    return (x.offset**2 + y.offset**2) / (x.enclosing**2 + y.enclosing**2).clamp(min=eps**2)


def aspect_angle(width: Float[Tensor, "*n"], height: Float[Tensor, "*n"], eps: float) -> Float[Tensor, "*n"]:
    """Angle ``atan(width / height)`` in [0, pi/2] of sides in units; 0 for a box without size.

    It turns as fast as the inverse of the longer side. What that side lacks of ``eps`` is added to the height, so that
    the gradient of a box shorter than ``eps``, of a point too, is at most ``sqrt(2) / eps``.
    """
    least = max(eps, smallest(width))  # its square must not vanish: the gradient divides by the sides' squares
    lacking = (least - torch.maximum(width, height)).clamp(min=0).detach()
    return torch.atan2(width, height + lacking)


def aspect_gap(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """CIoU's v, ``4 / pi^2 (atan(wg / hg) - atan(w / h))^2``, in [0, 1] (1911.08287, eq. 9)."""
    x, y = pair[:2]
    return (2 / math.pi * (aspect_angle(x.target, y.target, eps) - aspect_angle(x.pred, y.pred, eps))).square()


def squared_unit(pair: Pair) -> Float[Tensor, "*n"]:
    """The unit's square, for what does depend on scale; at most the root of the dtype's largest number."""
    largest = torch.finfo(pair.unit.dtype).max ** 0.25
    return (4 * pair.unit.clamp(max=largest / 4)) ** 2


def power(ratio: Float[Tensor, "*n"], exponent: float, eps: float) -> Float[Tensor, "*n"]:
    """``ratio ** exponent`` of numbers from 0 on; for exponents under 1 a straight line below ``eps``.

    Their slope at 0 would be infinite, and infinity times a gradient of 0 is not a number.
    """
    if exponent >= 1:
        return ratio**exponent
    return torch.where(ratio > eps, ratio.clamp(min=eps) ** exponent, ratio * eps ** (exponent - 1))


def held(length: Float[Tensor, "*n"], least: float) -> Float[Tensor, "*n"]:
    """The length, at least ``least``; unlike a clamp's, its gradient goes on below, so that what has none may grow."""
    return length + (least - length).clamp(min=0).detach()


def root(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Square root whose gradient at 0 is 0, the middle of a cone's slopes there."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0 * square)


def pairwise_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"], *, eps: float = 1e-7) -> Float[Tensor, "n m"]:
    """IoU of every box of ``a`` with every box of ``b``; raises ValueError on a wrong shape or dtype."""
    check_boxes("a", a)
    check_boxes("b", b)
    return overlap_ratio(measure(a[:, None], b[None]), eps)


def smallest(like: Tensor) -> float:
    """Length under which a box has no size: quotients by the square of it are still finite in the dtype."""
    return 8 * torch.finfo(like.dtype).tiny ** 0.5


def _quarter(coordinate: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Exact but for the smallest numbers, and no difference of finite quarters overflows."""
    if coordinate.dtype.itemsize >= 4:
        return coordinate / 4
    wide, largest = coordinate.float(), torch.finfo(coordinate.dtype).max
    if wide.requires_grad:  # autograd casts the gradient back, and what is beyond the half's range would be infinite
        wide.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return wide / 4


def _axis(low: Tensor, high: Tensor, target_low: Tensor, target_high: Tensor) -> Axis:
    low, high = _ordered(low, high)
    target_low, target_high = _ordered(target_low, target_high)
    overlap = torch.minimum(high, target_high) - torch.maximum(low, target_low)
    return Axis(
        pred=high - low,
        target=target_high - target_low,
        # Not clamp: its gradient at 0 is 1 or 0 by torch's version, and a flat box needs it to grow.
        overlap=torch.where(overlap < 0, 0, overlap),
        enclosing=torch.maximum(high, target_high) - torch.minimum(low, target_low),
        low=low - target_low,
        high=high - target_high,
        offset=((low - target_low) + (high - target_high)) / 2,
    )


def _ordered(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    inverted, centre = high < low, (low + high) / 2
    return torch.where(inverted, centre, low), torch.where(inverted, centre, high)

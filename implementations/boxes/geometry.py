"""The geometry of pairs of boxes, written once: side lengths, overlap, distance of centres, aspect ratio.

Boxes are ``xyxy``. IoU and its descendants do not change when a pair is moved or scaled, so ``measure_pairs`` returns
lengths in units of the longer side of the pair's enclosing box. No square or quotient of such lengths overflows or
underflows, whether the boxes measure 1e-8 or 1e30. Every function is elementwise over pairs, so that a compiler can
fuse a loss into one loop, and a malformed pair cannot affect another row.
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
    """Lengths of pairs of boxes along x or y, in units of the longer side of the pair's enclosing box.

    ``pred``, ``target``, ``overlap`` and ``enclosing`` are the sides of the prediction, the target, their intersection
    and the box around both; ``low``, ``high`` and ``offset`` are prediction minus target of the lower edge, the upper
    edge and the centre.
    """

    pred: Float[Tensor, "*n"]  # side of the prediction
    target: Float[Tensor, "*n"]  # side of the target
    overlap: Float[Tensor, "*n"]  # side of the intersection, 0 where the boxes do not overlap
    enclosing: Float[Tensor, "*n"]  # side of the smallest box around both
    low: Float[Tensor, "*n"]  # lower edge of the prediction minus that of the target, signed
    high: Float[Tensor, "*n"]  # the same for the upper edges
    offset: Float[Tensor, "*n"]  # the same for the centres


class BoxPair(NamedTuple):
    """Pairs of boxes as a loss sees them: their lengths along both axes, and the unit of those lengths.

    ``x`` and ``y`` hold the lengths in units of the enclosing box's longer side; ``unit`` is a quarter of that side,
    and ``edges`` a quarter of prediction minus target of x1, y1, x2, y2, both in the coordinates' own scale: the whole
    could exceed the dtype's largest number.
    """

    x: Axis
    y: Axis
    unit: Float[Tensor, "*n"]  # a quarter of the enclosing box's longer side
    edges: Columns  # a quarter of (prediction - target) of x1, y1, x2, y2; an inverted box keeps its coordinates here


def measure_pairs(pred: Float[Tensor, "*#n 4"], target: Float[Tensor, "*#n 4"]) -> BoxPair:
    """Measure each prediction against its target, as box losses need it; boxes are ``xyxy``, and their axes broadcast.

    A box with a negative side has side 0 there, at its centre. Half precision is measured in float32. Autograd takes
    the unit for a constant: this changes no gradient of a quantity that is independent of scale, and a quantity that
    depends on scale is written as a multiple of ``BoxPair.unit``.
    """
    return measure_columns(pred.unbind(-1), target.unbind(-1))


def measure_columns(pred: Columns, target: Columns) -> BoxPair:
    """Measure each prediction against its target, from boxes held as four tensors x1, y1, x2, y2, for the box losses.

    It is ``measure_pairs`` without its ``unbind``: columns are contiguous in memory, so that a compiler makes one loop
    of a loss.
    """
    (x1, y1, x2, y2), (tx1, ty1, tx2, ty2) = ([_quarter(side) for side in boxes] for boxes in (pred, target))
    x, y = _axis(x1, x2, tx1, tx2), _axis(y1, y2, ty1, ty2)
    longer = torch.maximum(x.enclosing, y.enclosing).detach()
    unit = longer.clamp(min=smallest(longer))
    scale = 1 / unit
    edges = (x1 - tx1, y1 - ty1, x2 - tx2, y2 - ty2)
    return BoxPair(Axis(*(length * scale for length in x)), Axis(*(length * scale for length in y)), unit, edges)


def union(pair: BoxPair) -> Float[Tensor, "*n"]:
    """Area of the union of each pair of boxes, in squared units of the pair; it is never less than the intersection."""
    x, y = pair[:2]
    return x.pred * y.pred + x.target * y.target - x.overlap * y.overlap


def overlap_ratio(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """IoU of each pair of boxes, the area of the intersection over that of the union, in [0, 1].

    It is exactly 1 for equal boxes, and 0 where they have no area.
    """
    return pair.x.overlap * pair.y.overlap / union(pair).clamp(min=eps**2)


def empty_ratio(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """Share of each pair's enclosing box that neither box covers, ``(C - U) / C`` in [0, 1]: GIoU's penalty.

    C is the area of the enclosing box and U that of the union (1902.09630).
    """
    enclosing = pair.x.enclosing * pair.y.enclosing
    return (enclosing - union(pair)) / enclosing.clamp(min=eps**2)


def distance_ratio(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """DIoU's penalty of each pair, ``rho^2 / c^2`` in [0, 1] (1911.08287, eq. 6).

    rho is the distance of the centres and c the diagonal of the enclosing box.
    """
    x, y = pair[:2]
    return (x.offset**2 + y.offset**2) / (x.enclosing**2 + y.enclosing**2).clamp(min=eps**2)


def aspect_angle(width: Float[Tensor, "*n"], height: Float[Tensor, "*n"], eps: float) -> Float[Tensor, "*n"]:
    """Angle ``atan(width / height)`` in [0, pi/2] of boxes, of which CIoU's v is made; 0 for a box without size.

    Sides are in units of the pair's enclosing box. The gradient grows as the inverse of the longer side. Where that
    side is shorter than ``eps``, the difference is added to the height, so that the gradient stays below ``sqrt(2) /
    eps`` down to a box that is a point.
    """
    least = max(eps, smallest(width))  # its square must not underflow: the gradient divides by squared sides
    lacking = (least - torch.maximum(width, height)).clamp(min=0).detach()
    return torch.atan2(width, height + lacking)


def aspect_gap(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """CIoU's v of each pair, ``4 / pi^2 (atan(wg / hg) - atan(w / h))^2``, in [0, 1] (1911.08287, eq. 9).

    w, h are the sides of the prediction and wg, hg those of the target.
    """
    x, y = pair[:2]
    return (2 / math.pi * (aspect_angle(x.target, y.target, eps) - aspect_angle(x.pred, y.pred, eps))).square()


def squared_unit(pair: BoxPair) -> Float[Tensor, "*n"]:
    """The squared longer side of each pair's enclosing box, in squared coordinates, for losses that depend on scale.

    It is at most the root of the dtype's largest number.
    """
    largest = torch.finfo(pair.unit.dtype).max ** 0.25
    return (4 * pair.unit.clamp(max=largest / 4)) ** 2


def power(ratio: Float[Tensor, "*n"], exponent: float, eps: float) -> Float[Tensor, "*n"]:
    """``ratio ** exponent`` with a finite slope: for an exponent under 1 it is linear below ``eps``.

    Ratios are at least 0. The slope of such a power is infinite at 0, and infinity times a gradient of 0 is NaN.
    """
    if exponent >= 1:
        return ratio**exponent
    return torch.where(ratio > eps, ratio.clamp(min=eps) ** exponent, ratio * eps ** (exponent - 1))


def clamp_straight_through(length: Float[Tensor, "*n"], least: float) -> Float[Tensor, "*n"]:
    """``max(length, least)`` with the gradient of ``length`` itself, so that a side of length 0 can still grow."""
    return length + (least - length).clamp(min=0).detach()


def root(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Square root for lengths, with gradient 0 at 0, where the square root's own is infinite."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0 * square)


def pairwise_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"], *, eps: float = 1e-7) -> Float[Tensor, "n m"]:
    """IoU of every box of ``a`` with every box of ``b``, both ``xyxy``; raises ValueError on a wrong shape or dtype."""
    check_boxes("a", a)
    check_boxes("b", b)
    return overlap_ratio(measure_pairs(a[:, None], b[None]), eps)


def smallest(like: Tensor) -> float:
    """Length under which a box counts as having no size, in the dtype of ``like``.

    Quotients by the square of a longer one are finite.
    """
    return 8 * torch.finfo(like.dtype).tiny ** 0.5


def _quarter(coordinate: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """A quarter of a coordinate: exact but for the smallest numbers, and no difference of two finite ones overflows."""
    if coordinate.dtype.itemsize >= 4:
        return coordinate / 4
    wide, largest = coordinate.float(), torch.finfo(coordinate.dtype).max
    if wide.requires_grad:  # autograd casts the gradient back to half, where it could overflow
        wide.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return wide / 4


def _axis(low: Tensor, high: Tensor, target_low: Tensor, target_high: Tensor) -> Axis:
    low, high = _collapse_inverted(low, high)
    target_low, target_high = _collapse_inverted(target_low, target_high)
    overlap = torch.minimum(high, target_high) - torch.maximum(low, target_low)
    return Axis(
        pred=high - low,
        target=target_high - target_low,
        # Not clamp: its gradient at 0 is 1 or 0 depending on torch's version, and a flat box needs 1 to grow.
        overlap=torch.where(overlap < 0, 0, overlap),
        enclosing=torch.maximum(high, target_high) - torch.minimum(low, target_low),
        low=low - target_low,
        high=high - target_high,
        offset=((low - target_low) + (high - target_high)) / 2,
    )


def _collapse_inverted(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    inverted, centre = high < low, (low + high) / 2
    return torch.where(inverted, centre, low), torch.where(inverted, centre, high)

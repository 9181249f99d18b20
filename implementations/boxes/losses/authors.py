"""The hand-written gradients of the DIoU authors' regression script (published beside 1911.08287), kept as an exhibit.

They are not the gradients of the losses, and the figure of the paper was made with them:

- Sides change twice as fast: the script has ``dw = dr - dl`` where the gradient is half of it.
- Each side of the enclosing box responds to moves along *both* axes. For the centres, this part has the wrong sign; and
  where the prediction extends beyond the target on both sides, the derivative of the enclosing side with respect to the
  prediction's is -1 instead of 1.
- CIoU's aspect term lacks the factor ``1 / (w^2 + h^2)``, which the paper sets to 1 after its eq. 12.
- ``authors``: boxes that do not overlap have an intersection. Its two sides, negative by the gaps, are multiplied to an
  area of either sign, which enters GIoU and its derivatives. ``authors_clamped`` sets that intersection to 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from implementations.boxes.checks import choose
from implementations.boxes.geometry import (
    Axis,
    BoxPair,
    aspect_angle,
    aspect_gap,
    overlap_ratio,
    smallest,
    squared_unit,
)

GRADIENTS = ("true", "authors", "authors_clamped")


def with_gradient(value: Tensor, pair: BoxPair, eps: float, loss: str, gradient: str) -> Tensor:
    """The values of a loss, with the gradient that ``gradient`` names: autograd's, or that of the DIoU authors' script.

    ``value`` is what ``loss`` (iou, giou, diou or ciou) gives for each pair. ``true`` leaves it as it is; ``authors``
    and ``authors_clamped`` put the hand-written gradient of the script in place of autograd's, the latter with the
    intersection of boxes that lie apart set to 0. Raises ValueError on another ``gradient``.
    """
    choose("gradient", gradient, GRADIENTS)
    if gradient == "true":
        return value
    with torch.no_grad():
        slopes = _descent(pair, eps, loss, clamped=gradient == "authors_clamped")
    x1, y1, x2, y2 = pair.edges
    value = value.detach()
    for slope, length in zip(slopes, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), strict=True):
        value = value - (slope / pair.unit) * (length - length.detach())
    return value


class _Edges(NamedTuple):
    """Derivatives with respect to the prediction's lower and upper edge along one axis."""

    low: Tensor
    high: Tensor


def _descent(pair: BoxPair, eps: float, loss: str, *, clamped: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The script's descent direction along x, y, w, h, times the pair's unit."""
    x, y = pair[:2]
    inner = [_reach(axis) for axis in (x, y)]
    apart = (inner[0] <= 0) | (inner[1] <= 0)
    if clamped:
        inner = [torch.where(apart, 0, side) for side in inner]
    intersection = inner[0] * inner[1]
    union = x.pred * y.pred + x.target * y.target - intersection
    enclosing = x.enclosing * y.enclosing
    moves, grows = [], []
    for axis, across, other in ((x, y, inner[1]), (y, x, inner[0])):
        d_inter = _Edges(torch.where(axis.low > 0, -other, 0), torch.where(axis.high < 0, other, 0))
        d_area = _Edges(-across.pred, across.pred)
        d_union = _Edges(*(area - part for area, part in zip(d_area, d_inter, strict=True)))
        d_enclosing = _Edges(
            torch.where(axis.low < 0, -across.enclosing, 0), torch.where(axis.high > 0, across.enclosing, 0)
        )
        ascent = []
        for part, whole, around in zip(d_inter, d_union, d_enclosing, strict=True):
            each = torch.where(apart | (union <= 0), 0, _quotient(intersection, part, union, whole, eps))
            if loss == "giou":
                each = each + _quotient(union, whole, enclosing, around, eps)
            ascent.append(each)
        moves.append(ascent[0] + ascent[1])
        grows.append(ascent[1] - ascent[0])  # the true gradient is half of it
    if loss in ("diou", "ciou"):
        for i, (move, grow) in enumerate(_distance(pair, eps)):
            moves[i], grows[i] = moves[i] + move, grows[i] + grow
    if loss == "ciou":
        gap = aspect_angle(x.target, y.target, eps) - aspect_angle(x.pred, y.pred, eps)
        turn = 8 / math.pi**2 * gap * squared_unit(pair)
        v = aspect_gap(pair, eps)
        turn = turn * v / (1 - overlap_ratio(pair, eps) + v).clamp(min=smallest(v))
        grows[0], grows[1] = grows[0] + turn * y.pred, grows[1] - turn * x.pred
    return (*moves, *grows)


def _distance(pair: BoxPair, eps: float) -> list[tuple[Tensor, Tensor]]:
    """The script's derivative of ``rho^2 / c^2`` along each axis, with respect to the centre and to the side."""
    axes = pair[:2]
    diagonal = sum(axis.enclosing**2 for axis in axes).clamp(min=eps**2)
    pull = sum(axis.offset**2 for axis in axes) / diagonal**2
    answers = []
    for axis in axes:
        below, above = (axis.low < 0).to(pull.dtype), (axis.high > 0).to(pull.dtype)
        slope = (below + above) / 2
        move = -2 * axis.offset / diagonal - 2 * sum(each.enclosing for each in axes) * (above - below) * pull
        grow = sum(
            2 * each.enclosing * (torch.where(below * above > 0, -1, slope) if each is axis else slope) for each in axes
        )
        answers.append((move, grow * pull))
    return answers


def _reach(axis: Axis) -> Tensor:
    """Side of the intersection; where the boxes do not overlap, minus the gap."""
    return axis.target + axis.high.clamp(max=0) - axis.low.clamp(min=0)


def _quotient(part: Tensor, d_part: Tensor, whole: Tensor, d_whole: Tensor, eps: float) -> Tensor:
    """Derivative of ``part / whole``."""
    return (whole * d_part - part * d_whole) / whole.square().clamp(min=eps**4)

"""Losses that compare coordinates one by one: L1, smooth L1, and Bounded IoU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import BoxPair, clamp_straight_through
from implementations.boxes.losses.contract import BoxLoss


@BoxLoss
def l1(pair: BoxPair, eps: float, *, form: str = "xyxy") -> Float[Tensor, "*n"]:
    """L1 loss of each pair of boxes, the sum of the absolute differences of four coordinates, in their unit.

    Coordinates are the corners, or centre and sides (``form="cxcywh"``). This loss compares coordinates and not areas:
    an inverted box is as far off as its coordinates are, and is pulled open. The value is clamped to the dtype's
    largest number.
    """
    distances = _distances(pair, form)
    return _whole(distances[0] + distances[1] + (distances[2] + distances[3]))


@BoxLoss
def smooth_l1(pair: BoxPair, eps: float, *, beta: float = 1.0, form: str = "xyxy") -> Float[Tensor, "*n"]:
    """Smooth L1 loss: ``d^2 / (2 beta)`` for a difference d of coordinates under ``beta``, ``d - beta / 2`` elsewhere.

    It is summed over the four coordinates of a box, the corners or (``form="cxcywh"``) centre and sides (1504.08083,
    eq. 3, where beta is 1); ``beta`` is in units of the coordinates.
    """
    positive(beta=beta)
    return _whole(sum(huber(distance, beta / 4) for distance in _distances(pair, form)))


@BoxLoss
def bounded_iou(pair: BoxPair, eps: float, *, beta: float = 1.0) -> Float[Tensor, "*n"]:
    """Bounded IoU loss, ``2 sum_i H(1 - IoU_i)`` over x, y, w, h (1711.00164).

    IoU_i is the best IoU that coordinate i still allows. ``IoU_x = max(0, (wg - 2 |dx|) / (wg + 2 |dx|))`` of the
    centres and ``IoU_w = min(w / wg, wg / w)``, likewise for y and h. H is smooth L1 with ``beta``; at the default of 1
    it is the parabola throughout, and the loss is in [0, 4].
    """
    positive(beta=beta)
    total = torch.zeros_like(pair.unit)
    for axis in pair[:2]:
        pred, target = clamp_straight_through(axis.pred, eps), clamp_straight_through(axis.target, eps)
        away = 2 * axis.offset.abs()
        place = ((target - away) / (target + away)).clamp(min=0)
        size = torch.minimum(pred / target, target / pred)
        total = total + huber(1 - place, beta) + huber(1 - size, beta)
    return 2 * total


def huber(distance: Float[Tensor, "*n"], beta: float) -> Float[Tensor, "*n"]:
    """Huber's function, ``d^2 / (2 beta)`` of a distance d under ``beta``, ``d - beta / 2`` from there on.

    No square overflows.
    """
    bent = distance.clamp(max=beta)
    return bent * (bent / (2 * beta)) + (distance - bent)


def _distances(pair: BoxPair, form: str) -> list[Tensor]:
    """A quarter of the absolute difference of each coordinate."""
    choose("form", form, ("xyxy", "cxcywh"))
    x1, y1, x2, y2 = pair.edges
    if form == "xyxy":
        return [x1.abs(), y1.abs(), x2.abs(), y2.abs()]
    return [(x1 / 2 + x2 / 2).abs(), (y1 / 2 + y2 / 2).abs(), (x2 - x1).abs(), (y2 - y1).abs()]


def _whole(quarter: Tensor) -> Tensor:
    return 4 * quarter.clamp(max=torch.finfo(quarter.dtype).max / 4)

"""Losses that add terms of centres, edges and sides to IoU: EIoU, SIoU, Shape-IoU, MPDIoU, PIoU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import BoxPair, distance_ratio, overlap_ratio, smallest
from implementations.boxes.losses.contract import BoxLoss


@BoxLoss
def eiou(pair: BoxPair, eps: float, *, sides: str = "difference") -> Float[Tensor, "*n"]:
    """EIoU loss: DIoU's and a term per side (2101.08158).

    ``1 - IoU + rho^2 / c^2 + (w - wg)^2 / cw^2 + (h - hg)^2 / ch^2``, where rho is the distance of the centres; cw, ch
    and c are the sides and the diagonal of the enclosing box; w, h and wg, hg are the sides of prediction and target.
    ``sides="offset"`` is a version found in public code that squares the distance of the centres along each axis in
    place of the difference of the sides: a box of any size at the target's centre then has no penalty.
    """
    choose("sides", sides, ("difference", "offset"))
    loss = 1 - overlap_ratio(pair, eps) + distance_ratio(pair, eps)
    for axis in pair[:2]:
        wrong = axis.pred - axis.target if sides == "difference" else axis.offset
        loss = loss + (wrong / axis.enclosing.clamp(min=eps)) ** 2
    return loss


@BoxLoss
def siou(pair: BoxPair, eps: float, *, theta: float = 4.0, distance: str = "squared") -> Float[Tensor, "*n"]:
    """SIoU loss: overlap, distance weighed by its angle, and shape, ``1 - IoU + (D + O) / 2`` (2205.12740).

    ``D = sum_t (1 - exp(-g r_t))`` over t = x, y with ``r_x = (dx / cw)^2`` and ``g = 2 - sin(2 asin s)``, where dx is
    between the centres, cw the enclosing box's width, and s is the smaller of |dx| and |dy| over the distance of the
    centres. ``O = sum_t (1 - exp(-|dt| / max t))^theta`` over t = w, h, dt their difference and max t the larger of the
    two. ``distance`` selects versions of public texts: ``unsquared`` has ``r_x = |dx| / cw``; ``rewarded`` has ``1 -
    exp(+g r_t)``, which decreases, below 0, as the boxes move apart.
    """
    positive(theta=theta)
    choose("distance", distance, ("squared", "unsquared", "rewarded"))
    x, y = pair[:2]
    # sin(2 asin s) = 2 s sqrt(1 - s^2), and sqrt(1 - s^2) is the larger of the two over the distance.
    squared = (x.offset**2 + y.offset**2).clamp(min=eps**2)
    gamma = 2 - 2 * (x.offset * y.offset).abs() / squared
    cost = torch.zeros_like(gamma)
    for axis in (x, y):
        ratio = axis.offset / axis.enclosing.clamp(min=eps)
        exponent = gamma * (ratio.abs() if distance == "unsquared" else ratio**2)
        cost = cost + 1 - torch.exp(exponent if distance == "rewarded" else -exponent)
    changes = [_change(axis.pred, axis.target) for axis in (x, y)]
    return 1 - overlap_ratio(pair, eps) + (cost + _shape_cost(changes, theta)) / 2


@BoxLoss
def shape_iou(pair: BoxPair, eps: float, *, scale: float = 0.0, theta: float = 4.0) -> Float[Tensor, "*n"]:
    """Shape-IoU loss, weighed by the target's shape: ``1 - IoU + (hh dx^2 + ww dy^2) / c^2 + O / 2`` (2312.17663).

    dx, dy is between the centres and c the enclosing diagonal. ``ww = 2 wg^s / (wg^s + hg^s)`` and ``hh = 2 hg^s /
    (wg^s + hg^s)`` of the target's sides wg, hg, where s is ``scale``, a constant of the data set (at 0 both weights
    are 1). ``O = sum_t (1 - exp(-o_t))^theta`` with ``o_w = hh |dw| / max w`` and ``o_h = ww |dh| / max h``, of the
    difference of the sides over the larger.
    """
    positive(theta=theta)
    x, y = pair[:2]
    tilt = scale * (x.target.clamp(min=eps).log() - y.target.clamp(min=eps).log())
    ww, hh = 2 * torch.sigmoid(tilt), 2 * torch.sigmoid(-tilt)
    diagonal = (x.enclosing**2 + y.enclosing**2).clamp(min=eps**2)
    distance = (hh * x.offset**2 + ww * y.offset**2) / diagonal
    changes = [hh * _change(x.pred, x.target), ww * _change(y.pred, y.target)]
    return 1 - overlap_ratio(pair, eps) + distance + _shape_cost(changes, theta) / 2


@BoxLoss
def mpdiou(pair: BoxPair, eps: float, *, image_size: Sequence[float] | None = None) -> Float[Tensor, "*n"]:
    """MPDIoU loss of two corners, ``1 - IoU + (d_tl^2 + d_br^2) / (W^2 + H^2)`` (2307.07662).

    d_tl and d_br are the distances of the top left and of the bottom right corners. ``image_size`` is the (height,
    width) of the image, the paper's H and W. Without it the sides of the enclosing box are taken, which makes the loss
    independent of scale.
    """
    x, y = pair[:2]
    if image_size is None:
        per_unit = 1 / (x.enclosing**2 + y.enclosing**2).clamp(min=eps**2)
    else:
        height, width = image_size
        positive(**{"image_size[0]": height, "image_size[1]": width})
        per_unit = squared_over(pair, height**2 + width**2)
    corners = (x.low**2 + y.low**2) + (x.high**2 + y.high**2)
    return 1 - overlap_ratio(pair, eps) + corners * per_unit


@BoxLoss
def piou(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """Powerful-IoU loss, ``1 - IoU + 1 - exp(-P^2)``, of the distances of the four edges in sides of the target.

    ``P = (|x1 - x1g| + |x2 - x2g|) / 4 wg + (|y1 - y1g| + |y2 - y2g|) / 4 hg`` (10.1016/j.neunet.2023.11.041), g
    marking the target.
    """
    return 2 - overlap_ratio(pair, eps) - torch.exp(-(edge_distance(pair, eps) ** 2))


def edge_distance(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """PIoU's P of each pair: the mean distance of the four edges in sides of the target.

    ``P = (|x1 - x1g| + |x2 - x2g|) / 4 wg + (|y1 - y1g| + |y2 - y2g|) / 4 hg``, g marking the target
    (10.1016/j.neunet.2023.11.041). Along an axis on which the boxes lie apart, enlarging the prediction about its
    centre does not reduce it.
    """
    return sum((axis.low.abs() + axis.high.abs()) / (4 * axis.target.clamp(min=eps)) for axis in pair[:2])


def squared_over(pair: BoxPair, area: float) -> Float[Tensor, "*n"]:
    """The squared longer side of each pair's enclosing box over ``area``, which is in squared coordinates.

    A squared length in units of the pair times this is that length squared over ``area``. It is at most the root of the
    dtype's largest number.
    """
    largest = torch.finfo(pair.unit.dtype).max ** 0.25
    return (4 * (pair.unit / area**0.5).clamp(max=largest / 4)) ** 2


def _change(pred: Tensor, target: Tensor) -> Tensor:
    """Difference of two sides over the larger, in [0, 1]; 0 where neither has a length."""
    return (pred - target).abs() / torch.maximum(pred, target).clamp(min=smallest(pred))


def _shape_cost(changes: list[Tensor], theta: float) -> Tensor:
    return sum((1 - torch.exp(-change)) ** theta for change in changes)

"""Losses that put another overlap in the place of IoU, ``L_base + IoU - IoU'``: Inner-IoU, Focaler-IoU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import Axis, Pair, overlap_ratio
from implementations.boxes.losses.contract import box_loss
from implementations.boxes.losses.overlap import ciou, diou, giou, iou
from implementations.boxes.losses.shape import eiou, siou

BASES = {loss.__name__: loss.formula for loss in (iou, giou, diou, ciou, eiou, siou)}


@box_loss
def inner_iou(pair: Pair, eps: float, *, ratio: float = 0.75, base: str = "iou") -> Float[Tensor, "*n"]:
    """``L_base + IoU - IoU'``, IoU' of both boxes scaled by ``ratio`` about their centres (2311.02877).

    Under 1 the gradient of well placed boxes is steeper, over 1 boxes that are apart have one.
    """
    positive(ratio=ratio)
    x, y = (_scaled(axis, ratio) for axis in pair[:2])
    return _remapped(pair, eps, base, overlap_ratio(pair._replace(x=x, y=y), eps * ratio))


@box_loss
def focaler_iou(
    pair: Pair, eps: float, *, lower: float = 0.0, upper: float = 0.95, base: str = "iou"
) -> Float[Tensor, "*n"]:
    """``L_base + IoU - IoU'``, ``IoU' = clip((IoU - lower) / (upper - lower), 0, 1)`` (2401.10525).

    With ``base="iou"`` it has no gradient where IoU is outside of (lower, upper).
    """
    if not 0 <= lower < upper <= 1:
        raise ValueError(f"lower is {lower}, upper {upper}; accepted is 0 <= lower < upper <= 1")
    other = (overlap_ratio(pair, eps) - lower) / (upper - lower)
    # Not clamp, which by torch's version has no gradient at its bounds: a box without a side must be able to grow.
    return _remapped(pair, eps, base, torch.where(other < 0, 0, torch.where(other > 1, 1, other)))


def _remapped(pair: Pair, eps: float, base: str, other: Tensor) -> Tensor:
    choose("base", base, tuple(BASES))
    return 1 - other if base == "iou" else BASES[base](pair, eps) + overlap_ratio(pair, eps) - other


def _scaled(axis: Axis, ratio: float) -> Axis:
    """The axis with both boxes scaled about their centres; of it, only sides and overlap are meant."""
    pred, target = ratio * axis.pred, ratio * axis.target
    high = torch.minimum(axis.offset + pred / 2, target / 2)
    low = torch.maximum(axis.offset - pred / 2, -target / 2)
    return axis._replace(pred=pred, target=target, overlap=torch.where(high < low, 0, high - low))

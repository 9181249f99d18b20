"""Losses that replace the IoU in another loss, ``L_base + IoU - IoU'``: Inner-IoU and Focaler-IoU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import Axis, BoxPair, overlap_ratio
from implementations.boxes.losses.contract import BoxLoss
from implementations.boxes.losses.overlap import ciou, diou, giou, iou
from implementations.boxes.losses.shape import eiou, siou

BASES = {loss.__name__: loss.formula for loss in (iou, giou, diou, ciou, eiou, siou)}


@BoxLoss
def inner_iou(pair: BoxPair, eps: float, *, ratio: float = 0.75, base: str = "iou") -> Float[Tensor, "*n"]:
    """Inner-IoU loss, ``L_base + IoU - IoU'``, IoU' being that of both boxes scaled by ``ratio`` about their centres.

    The paper is 2311.02877. A ratio under 1 makes the gradient of well placed boxes steeper; one over 1 gives a
    gradient to boxes that lie apart. ``base`` names L_base: iou, giou, diou, ciou, eiou or siou.
    """
    positive(ratio=ratio)
    x, y = (_scale(axis, ratio) for axis in pair[:2])
    return _replace_overlap(pair, eps, base, overlap_ratio(pair._replace(x=x, y=y), eps * ratio))


@BoxLoss
def focaler_iou(
    pair: BoxPair, eps: float, *, lower: float = 0.0, upper: float = 0.95, base: str = "iou"
) -> Float[Tensor, "*n"]:
    """Focaler-IoU loss, ``L_base + IoU - IoU'``, where IoU' stretches the IoU from an interval to [0, 1] (2401.10525).

    ``IoU' = clip((IoU - lower) / (upper - lower), 0, 1)``. With ``base="iou"`` there is no gradient where the IoU is
    outside of (lower, upper). ``base`` names L_base: iou, giou, diou, ciou, eiou or siou.
    """
    if not 0 <= lower < upper <= 1:
        raise ValueError(f"lower is {lower}, upper {upper}; accepted is 0 <= lower < upper <= 1")
    other = (overlap_ratio(pair, eps) - lower) / (upper - lower)
    # Not clamp, whose gradient at its bounds depends on torch's version: a box with a side of 0 must be able to grow.
    return _replace_overlap(pair, eps, base, torch.where(other < 0, 0, torch.where(other > 1, 1, other)))


def _replace_overlap(pair: BoxPair, eps: float, base: str, other: Tensor) -> Tensor:
    choose("base", base, tuple(BASES))
    return 1 - other if base == "iou" else BASES[base](pair, eps) + overlap_ratio(pair, eps) - other


def _scale(axis: Axis, ratio: float) -> Axis:
    """The axis with both boxes scaled about their centres; only its sides and overlap are updated."""
    pred, target = ratio * axis.pred, ratio * axis.target
    high = torch.minimum(axis.offset + pred / 2, target / 2)
    low = torch.maximum(axis.offset - pred / 2, -target / 2)
    return axis._replace(pred=pred, target=target, overlap=torch.where(high < low, 0, high - low))

"""The alpha-IoU family: every term of a loss is raised to one power, which gives well placed boxes more weight.

The paper is 2110.13675; ``power`` is its alpha, written a below.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import positive
from implementations.boxes.geometry import BoxPair, aspect_gap, distance_ratio, empty_ratio, overlap_ratio
from implementations.boxes.geometry import power as raise_to
from implementations.boxes.losses.contract import BoxLoss
from implementations.boxes.losses.overlap import aspect_weight


@BoxLoss
def alpha_iou(pair: BoxPair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """Alpha-IoU loss, ``1 - IoU^a`` with a = ``power`` (2110.13675).

    A power above 1 gives well placed boxes more weight.
    """
    return _lost_overlap(pair, eps, power)


@BoxLoss
def alpha_giou(pair: BoxPair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """Alpha-GIoU loss, ``1 - IoU^a + ((C - U) / C)^a`` with a = ``power`` (2110.13675).

    C is the area of the enclosing box and U that of the union.
    """
    return _lost_overlap(pair, eps, power) + raise_to(empty_ratio(pair, eps), power, eps)


@BoxLoss
def alpha_diou(pair: BoxPair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """Alpha-DIoU loss, ``1 - IoU^a + (rho^2 / c^2)^a`` with a = ``power`` (2110.13675).

    rho is the distance of the centres and c the diagonal of the enclosing box.
    """
    return _lost_overlap(pair, eps, power) + raise_to(distance_ratio(pair, eps), power, eps)


@BoxLoss
def alpha_ciou(pair: BoxPair, eps: float, *, power: float = 3.0, alpha: str = "detached") -> Float[Tensor, "*n"]:
    """Alpha-CIoU loss, ``1 - IoU^a + (rho^2 / c^2)^a + (alpha v)^a`` with a = ``power`` (2110.13675).

    rho is the distance of the centres, c the diagonal of the enclosing box, ``v = 4 / pi^2 (atan(wg / hg) - atan(w /
    h))^2`` of the sides of target and prediction, and ``alpha = v / (1 - IoU + v)``: the argument ``alpha`` says
    whether it is a constant to autograd (``detached``), differentiated (``attached``), or also 0 where IoU is at most
    .5 (``thresholded``, ``thresholded_attached``).
    """
    v = aspect_gap(pair, eps)
    weighted = aspect_weight(v, overlap_ratio(pair, eps), alpha) * v
    distance = raise_to(distance_ratio(pair, eps), power, eps)
    return _lost_overlap(pair, eps, power) + distance + raise_to(weighted, power, eps)


def _lost_overlap(pair: BoxPair, eps: float, exponent: float) -> Tensor:
    positive(power=exponent)
    return 1 - raise_to(overlap_ratio(pair, eps), exponent, eps)

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
    """``1 - IoU^a``, where a is ``power`` (2110.13675)."""
    return _lost_overlap(pair, eps, power)


@BoxLoss
def alpha_giou(pair: BoxPair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """``1 - IoU^a + ((C - U) / C)^a``, with a = ``power``, C the enclosing area and U the union (2110.13675)."""
    return _lost_overlap(pair, eps, power) + raise_to(empty_ratio(pair, eps), power, eps)


@BoxLoss
def alpha_diou(pair: BoxPair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """``1 - IoU^a + (rho^2 / c^2)^a``, with a = ``power``, and rho^2 / c^2 as in ``diou`` (2110.13675)."""
    return _lost_overlap(pair, eps, power) + raise_to(distance_ratio(pair, eps), power, eps)


@BoxLoss
def alpha_ciou(pair: BoxPair, eps: float, *, power: float = 3.0, alpha: str = "detached") -> Float[Tensor, "*n"]:
    """``1 - IoU^a + (rho^2 / c^2)^a + (alpha v)^a``, with a = ``power``, alpha and v as in ``ciou`` (2110.13675)."""
    v = aspect_gap(pair, eps)
    weighted = aspect_weight(v, overlap_ratio(pair, eps), alpha) * v
    distance = raise_to(distance_ratio(pair, eps), power, eps)
    return _lost_overlap(pair, eps, power) + distance + raise_to(weighted, power, eps)


def _lost_overlap(pair: BoxPair, eps: float, exponent: float) -> Tensor:
    positive(power=exponent)
    return 1 - raise_to(overlap_ratio(pair, eps), exponent, eps)

"""The alpha-IoU family: every term of a loss to one power, which weighs well placed boxes up (2110.13675)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import positive
from implementations.boxes.geometry import Pair, aspect_gap, distance_ratio, empty_ratio, overlap_ratio
from implementations.boxes.geometry import power as raise_to
from implementations.boxes.losses.contract import box_loss
from implementations.boxes.losses.overlap import aspect_weight


@box_loss
def alpha_iou(pair: Pair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """``1 - IoU^a``."""
    return _missing(pair, eps, power)


@box_loss
def alpha_giou(pair: Pair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """``1 - IoU^a + ((C - U) / C)^a``."""
    return _missing(pair, eps, power) + raise_to(empty_ratio(pair, eps), power, eps)


@box_loss
def alpha_diou(pair: Pair, eps: float, *, power: float = 3.0) -> Float[Tensor, "*n"]:
    """``1 - IoU^a + (rho^2 / c^2)^a``."""
    return _missing(pair, eps, power) + raise_to(distance_ratio(pair, eps), power, eps)


@box_loss
def alpha_ciou(pair: Pair, eps: float, *, power: float = 3.0, alpha: str = "detached") -> Float[Tensor, "*n"]:
    """``1 - IoU^a + (rho^2 / c^2)^a + (alpha v)^a``, with CIoU's weight alpha in one of its versions (see ``ciou``)."""
    v = aspect_gap(pair, eps)
    weighted = aspect_weight(v, overlap_ratio(pair, eps), alpha) * v
    distance = raise_to(distance_ratio(pair, eps), power, eps)
    return _missing(pair, eps, power) + distance + raise_to(weighted, power, eps)


def _missing(pair: Pair, eps: float, exponent: float) -> Tensor:
    positive(power=exponent)
    return 1 - raise_to(overlap_ratio(pair, eps), exponent, eps)

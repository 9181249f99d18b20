"""Losses of boxes as Gaussians, mean at the centre and half a side the deviation along each axis: NWD and KLD."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import Pair, held, root
from implementations.boxes.losses.contract import box_loss


@box_loss
def nwd(pair: Pair, eps: float, *, constant: float = 12.8) -> Float[Tensor, "*n"]:
    """``1 - exp(-W2 / C)``, ``W2^2 = dx^2 + dy^2 + ((w - wg)^2 + (h - hg)^2) / 4`` (2110.13389).

    ``constant`` is C in units of the coordinates, about the mean size of the data set's objects: the loss is the only
    one but L1 that knows scale.
    """
    positive(constant=constant)
    square = sum(axis.offset**2 + (axis.pred - axis.target) ** 2 / 4 for axis in pair[:2])
    return -torch.expm1(-pair.unit * (root(square) * (4 / constant)))


@box_loss
def kld(
    pair: Pair, eps: float, *, function: str = "log", tau: float = 1.0, direction: str = "pred_to_target"
) -> Float[Tensor, "*n"]:
    """``1 - 1 / (tau + f(D))``, D the divergence of the prediction's Gaussian from the target's (2106.01883).

    ``D = 2 dx^2 / wg^2 + (w^2 / wg^2 - 1) / 2 - ln(w / wg)``, and likewise along y; f is ``ln(1 + D)`` or
    (``function="sqrt"``) the root. ``direction="target_to_pred"`` exchanges the two. At ``tau = 1`` equal boxes have 0.
    """
    choose("function", function, ("log", "sqrt"))
    choose("direction", direction, ("pred_to_target", "target_to_pred"))
    if not tau >= 1:
        raise ValueError(f"tau is {tau}; accepted is 1 and more")
    divergence = torch.zeros_like(pair.unit)
    for axis in pair[:2]:
        of, to = held(axis.pred, eps), held(axis.target, eps)
        if direction == "target_to_pred":
            of, to = to, of
        ratio = of / to
        divergence = divergence + 2 * (axis.offset / to) ** 2 + ((ratio - 1) * (ratio + 1) / 2 - ratio.log())
    divergence = divergence.clamp(min=0)  # rounding
    return 1 - 1 / (tau + (divergence.log1p() if function == "log" else root(divergence)))

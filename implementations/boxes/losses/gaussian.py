"""Losses of boxes as Gaussians with mean at the centre and half a side as standard deviation per axis: NWD and KLD."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import BoxPair, clamp_straight_through, root
from implementations.boxes.losses.contract import BoxLoss


@BoxLoss
def nwd(pair: BoxPair, eps: float, *, constant: float = 12.8) -> Float[Tensor, "*n"]:
    """Normalised Wasserstein distance of boxes as Gaussians, as a loss ``1 - exp(-W2 / C)`` (2110.13389).

    ``W2^2 = dx^2 + dy^2 + ((w - wg)^2 + (h - hg)^2) / 4``, with dx, dy between the centres, w, h the sides of the
    prediction and wg, hg those of the target. ``constant`` is C in units of the coordinates, about the mean size of the
    objects of the data set, so that this loss depends on scale.
    """
    positive(constant=constant)
    square = sum(axis.offset**2 + (axis.pred - axis.target) ** 2 / 4 for axis in pair[:2])
    return -torch.expm1(-pair.unit * (root(square) * (4 / constant)))


@BoxLoss
def kld(
    pair: BoxPair, eps: float, *, function: str = "log", tau: float = 1.0, direction: str = "pred_to_target"
) -> Float[Tensor, "*n"]:
    """Kullback-Leibler divergence D between boxes as Gaussians, as a loss ``1 - 1 / (tau + f(D))`` (2106.01883).

    Mean and standard deviation are the centre and half a side, per axis. ``D = KL(prediction || target)`` is the sum
    over both axes of ``2 dx^2 / wg^2 + (w^2 / wg^2 - 1) / 2 - ln(w / wg)``, with dx between the centres, w the side of
    the prediction and wg that of the target; f is ``ln(1 + D)`` or (``function="sqrt"``) the square root.
    ``direction="target_to_pred"`` exchanges the two boxes. With ``tau = 1`` equal boxes have loss 0; ValueError for a
    tau under 1.
    """
    choose("function", function, ("log", "sqrt"))
    choose("direction", direction, ("pred_to_target", "target_to_pred"))
    if not tau >= 1:
        raise ValueError(f"tau is {tau}; accepted is 1 and more")
    divergence = torch.zeros_like(pair.unit)
    for axis in pair[:2]:
        of, to = clamp_straight_through(axis.pred, eps), clamp_straight_through(axis.target, eps)
        if direction == "target_to_pred":
            of, to = to, of
        ratio = of / to
        divergence = divergence + 2 * (axis.offset / to) ** 2 + ((ratio - 1) * (ratio + 1) / 2 - ratio.log())
    divergence = divergence.clamp(min=0)  # rounding may leave it below
    return 1 - 1 / (tau + (divergence.log1p() if function == "log" else root(divergence)))

"""Losses that weigh each box by its quality: Focal-EIoU, WIoU's three versions, PIoU v2."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import BoxPair, overlap_ratio, power
from implementations.boxes.losses.contract import BoxLoss
from implementations.boxes.losses.shape import edge_distance, eiou, piou


class RunningMean:
    """The running mean of ``1 - IoU`` over training, by which WIoU judges a box.

    Each call of the loss does ``mean += momentum (mean of the batch - mean)``. It starts at 1. Use one object per
    training run; ``value`` is its state, to be saved and restored. A batch without a finite number leaves it unchanged.
    """

    def __init__(self, momentum: float = 0.01, value: float = 1.0):
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum is {momentum}; accepted is a number from 0 (never moves) to 1 (the batch's own)"
            )
        self.momentum, self.value = momentum, value

    @classmethod
    def over(cls, batches: int, epochs: float) -> RunningMean:
        """A running mean of WIoU for ``epochs`` epochs of ``batches`` batches, after which 5 % of its start is left.

        ``momentum = 1 - .05^(1 / (batches epochs))`` (2301.10051).
        """
        return cls(1 - 0.05 ** (1 / (batches * epochs)))

    def update(self, mean: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Move the mean towards that of a batch, a scalar, and return it. This does not synchronise with the device."""
        now = torch.as_tensor(self.value, dtype=mean.dtype, device=mean.device)
        now = torch.where(mean.isnan(), now, now + self.momentum * (mean - now))
        self.value = now
        return now


State: TypeAlias = RunningMean | Tensor | float | None


@BoxLoss
def focal_eiou(pair: BoxPair, eps: float, *, gamma: float = 0.5, weight: str = "detached") -> Float[Tensor, "*n"]:
    """EIoU weighed by overlap, ``IoU^gamma EIoU`` (2101.08158); it is 0 where the boxes do not overlap.

    ``EIoU = 1 - IoU + rho^2 / c^2 + (w - wg)^2 / cw^2 + (h - hg)^2 / ch^2``, of the distance of the centres and the
    differences of the sides, over the diagonal and the sides of the enclosing box. The weight is a constant to
    autograd. ``weight="attached"`` differentiates it, which pushes poor boxes further away.
    """
    positive(gamma=gamma)
    return _weigh(power(overlap_ratio(pair, eps), gamma, eps), weight) * eiou.formula(pair, eps)


@BoxLoss
def wiou_v1(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """IoU loss weighed by the distance of the centres, ``exp(rho^2 / c^2) (1 - IoU)`` (2301.10051).

    rho is the distance of the centres; c^2, the squared diagonal of the enclosing box, is a constant to autograd.
    """
    return _weigh_by_distance(pair, eps, 1 - overlap_ratio(pair, eps))


@BoxLoss
def wiou_v2(pair: BoxPair, eps: float, *, gamma: float = 0.5, state: State = None) -> Float[Tensor, "*n"]:
    """WIoU v1 times ``beta^gamma``, which gives poor boxes more weight (2301.10051).

    WIoU v1 is ``exp(rho^2 / c^2) (1 - IoU)``, of the distance of the centres over the enclosing diagonal. ``beta`` is
    the ``1 - IoU`` of a box over the mean of ``1 - IoU``, and a constant to autograd. ``state`` says which mean: None
    for that of the batch, in which case every row depends on all; a ``RunningMean``, which each call updates; or a
    number.
    """
    positive(gamma=gamma)
    lost = 1 - overlap_ratio(pair, eps)
    return _outlier(lost, eps, state) ** gamma * _weigh_by_distance(pair, eps, lost)


@BoxLoss
def wiou_v3(
    pair: BoxPair, eps: float, *, alpha: float = 1.9, delta: float = 3.0, state: State = None
) -> Float[Tensor, "*n"]:
    """WIoU v1 times ``beta / (delta alpha^(beta - delta))``, which gives boxes of ordinary quality more weight.

    WIoU v1 is ``exp(rho^2 / c^2) (1 - IoU)``, of the distance of the centres over the enclosing diagonal (2301.10051).
    ``beta`` is the ``1 - IoU`` of a box over the mean of ``1 - IoU``: the batch's where ``state`` is None, that of a
    ``RunningMean``, or a number. The weight is a constant to autograd, 1 at ``beta = delta`` and greatest at ``beta = 1
    / ln alpha``.
    """
    positive(alpha=alpha, delta=delta)
    lost = 1 - overlap_ratio(pair, eps)
    beta = _outlier(lost, eps, state)
    return beta / delta * alpha ** (delta - beta) * _weigh_by_distance(pair, eps, lost)


@BoxLoss
def piou_v2(pair: BoxPair, eps: float, *, strength: float = 1.3, weight: str = "attached") -> Float[Tensor, "*n"]:
    """PIoU weighed towards boxes of medium quality, ``3 q exp(-q^2) PIoU`` with ``q = strength exp(-P)``.

    P is the mean distance of the four edges in sides of the target, and PIoU is ``1 - IoU + 1 - exp(-P^2)``. The weight
    is differentiated, as in the authors' code (10.1016/j.neunet.2023.11.041); ``weight="detached"`` makes it a constant
    to autograd.
    """
    positive(strength=strength)
    quality = strength * torch.exp(-edge_distance(pair, eps))
    return _weigh(3 * quality * torch.exp(-(quality**2)), weight) * piou.formula(pair, eps)


def _weigh(value: Tensor, weight: str) -> Tensor:
    choose("weight", weight, ("detached", "attached"))
    return value if weight == "attached" else value.detach()


def _weigh_by_distance(pair: BoxPair, eps: float, lost: Tensor) -> Tensor:
    x, y = pair[:2]
    diagonal = (x.enclosing**2 + y.enclosing**2).detach().clamp(min=eps**2)
    return torch.exp((x.offset**2 + y.offset**2) / diagonal) * lost


def _outlier(lost: Tensor, eps: float, state: State) -> Tensor:
    """Beta, the ``1 - IoU`` of a box over the mean; rows that are NaN have no part in a batch's mean."""
    lost = lost.detach()
    if state is None:
        mean = lost.nanmean()
    elif isinstance(state, RunningMean):
        mean = state.update(lost.nanmean())
    else:
        mean = torch.as_tensor(state, dtype=lost.dtype, device=lost.device)
    return lost / mean.clamp(min=eps)

"""Losses that weigh each box by its quality: Focal-EIoU, WIoU's three versions, PIoU v2."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose, positive
from implementations.boxes.geometry import Pair, overlap_ratio, power
from implementations.boxes.losses.contract import box_loss
from implementations.boxes.losses.shape import edge_distance, eiou, piou


class RunningMean:
    """WIoU's mean of ``1 - IoU`` over training, ``mean += momentum (batch's mean - mean)`` at each call, from 1.

    One object belongs to one training; ``value`` is what to save and restore. A batch without a number leaves it be.
    """

    def __init__(self, momentum: float = 0.01, value: float = 1.0):
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum is {momentum}; accepted is a number from 0 (never moves) to 1 (the batch's own)"
            )
        self.momentum, self.value = momentum, value

    @classmethod
    def over(cls, batches: int, epochs: float) -> RunningMean:
        """One whose start has 5 % left after ``epochs`` of ``batches``, ``m = 1 - .05^(1 / tn)`` (2301.10051)."""
        return cls(1 - 0.05 ** (1 / (batches * epochs)))

    def update(self, mean: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Move towards the mean of a batch and return where it is now; never waits for the device."""
        now = torch.as_tensor(self.value, dtype=mean.dtype, device=mean.device)
        now = torch.where(mean.isnan(), now, now + self.momentum * (mean - now))
        self.value = now
        return now


State: TypeAlias = RunningMean | Tensor | float | None


@box_loss
def focal_eiou(pair: Pair, eps: float, *, gamma: float = 0.5, weight: str = "detached") -> Float[Tensor, "*n"]:
    """EIoU weighed by overlap, ``IoU^gamma EIoU`` (2101.08158): nothing at all where the boxes are apart.

    The weight is a constant to autograd; ``weight="attached"`` differentiates it, which pushes poor boxes further away.
    """
    positive(gamma=gamma)
    return _weigh(power(overlap_ratio(pair, eps), gamma, eps), weight) * eiou.formula(pair, eps)


@box_loss
def wiou_v1(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Overlap times attention to distance, ``exp(rho^2 / c^2) (1 - IoU)``; c^2 is a constant (2301.10051)."""
    return _attended(pair, eps, 1 - overlap_ratio(pair, eps))


@box_loss
def wiou_v2(pair: Pair, eps: float, *, gamma: float = 0.5, state: State = None) -> Float[Tensor, "*n"]:
    """WIoU v1 times ``beta^gamma``, a constant to autograd: attention to poor boxes (2301.10051).

    ``beta`` is a box's ``1 - IoU`` over its mean: that of the batch, of training (``state``, a ``RunningMean``, which
    the call moves), or a number. With the batch's own mean every row depends on all.
    """
    positive(gamma=gamma)
    lost = 1 - overlap_ratio(pair, eps)
    return _outlier(lost, eps, state) ** gamma * _attended(pair, eps, lost)


@box_loss
def wiou_v3(
    pair: Pair, eps: float, *, alpha: float = 1.9, delta: float = 3.0, state: State = None
) -> Float[Tensor, "*n"]:
    """WIoU v1 times ``beta / (delta alpha^(beta - delta))``, a constant to autograd: attention to ordinary boxes.

    The weight is 1 at ``beta = delta`` and greatest at ``1 / ln alpha`` (2301.10051); beta as in v2.
    """
    positive(alpha=alpha, delta=delta)
    lost = 1 - overlap_ratio(pair, eps)
    beta = _outlier(lost, eps, state)
    return beta / delta * alpha ** (delta - beta) * _attended(pair, eps, lost)


@box_loss
def piou_v2(pair: Pair, eps: float, *, strength: float = 1.3, weight: str = "attached") -> Float[Tensor, "*n"]:
    """PIoU times attention to boxes of middling quality, ``3 u exp(-u^2) PIoU``, ``u = strength exp(-P)``.

    The weight is differentiated, as in the authors' code (10.1016/j.neunet.2023.11.041); ``weight="detached"`` makes it
    a constant to autograd.
    """
    positive(strength=strength)
    u = strength * torch.exp(-edge_distance(pair, eps))
    return _weigh(3 * u * torch.exp(-(u**2)), weight) * piou.formula(pair, eps)


def _weigh(value: Tensor, weight: str) -> Tensor:
    choose("weight", weight, ("detached", "attached"))
    return value if weight == "attached" else value.detach()


def _attended(pair: Pair, eps: float, lost: Tensor) -> Tensor:
    x, y = pair[:2]
    diagonal = (x.enclosing**2 + y.enclosing**2).detach().clamp(min=eps**2)
    return torch.exp((x.offset**2 + y.offset**2) / diagonal) * lost


def _outlier(lost: Tensor, eps: float, state: State) -> Tensor:
    """Beta, a box's ``1 - IoU`` over the mean; rows that are not numbers have no part in a batch's mean."""
    lost = lost.detach()
    if state is None:
        mean = lost.nanmean()
    elif isinstance(state, RunningMean):
        mean = state.update(lost.nanmean())
    else:
        mean = torch.as_tensor(state, dtype=lost.dtype, device=lost.device)
    return lost / mean.clamp(min=eps)

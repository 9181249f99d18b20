"""Score matching of a function ``score(x) -> (n, d)`` at one level: implicit, sliced and denoising; a loss per sample.

Their expectations over data of density p differ from ``E |score - grad log p|^2 / 2`` by a constant, so that all have
the same minimiser, but cost and variance differ: ``implicit`` takes d backward passes and has no randomness of its own,
``sliced`` takes one and has that of a direction, ``denoising`` takes none and has that of the noise, and learns the
score of the noised density.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Points: TypeAlias = Float[Tensor, "n d"]
Score: TypeAlias = Callable[[Tensor], Tensor]


def implicit(score: Score, x: Points) -> Float[Tensor, " n"]:
    """``|s|^2 / 2 + div s`` (n,), with the exact divergence (Hyvärinen 2005, eq. 4), by d backward passes."""
    x, s = _ask(score, x)
    divergence = torch.zeros_like(x[:, 0])
    for k in range(x.shape[1]):
        divergence = divergence + _gradient(s[:, k].sum(), x)[:, k]
    return s.square().sum(1) / 2 + divergence


def sliced(score: Score, x: Points, directions: Points, *, reduced: bool = True) -> Float[Tensor, " n"]:
    """``v' (ds/dx) v + |s|^2 / 2`` (n,) along one direction v per sample (1905.07088, eq. 8).

    Without ``reduced`` the second term is ``(v' s)^2 / 2`` (eq. 7). ``directions`` are draws of mean 0 and covariance
    1, standard normal or of signs; their expectation is ``implicit``.
    """
    x, s = _ask(score, x)
    along = (s * directions).sum(1)
    curvature = (_gradient(along.sum(), x) * directions).sum(1)
    return curvature + (s.square().sum(1) if reduced else along.square()) / 2


def denoising(score: Score, x: Points, noise: Points, *, sigma: float) -> Float[Tensor, " n"]:
    """``|s(x + sigma z) + z / sigma|^2 / 2`` (n,), z the ``noise`` (Vincent 2011, eq. 11).

    Its minimiser is the score of the data with Gaussian noise of standard deviation sigma. Raises ValueError on a sigma
    that is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    return (score(x + sigma * noise) + noise / sigma).square().sum(1) / 2


def _ask(score: Score, x: Points) -> tuple[Points, Points]:
    x = x.detach().requires_grad_()
    return x, score(x)


def _gradient(value: Tensor, x: Points) -> Points:
    if not value.requires_grad:  # a score that does not depend on x
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if found is None else found

"""Weights of the squared error of x0 over the noise level, ``weight(path, t) -> (n,)``.

All are functions of ``snr = (alpha/sigma)^2`` but for ``likelihood``. Papers state them for other heads: the squared
error of eps is snr times that of x0, and that of v, where variance is preserved, (snr + 1) times. So a weight for eps
is multiplied by snr here.

| name          | weight of x0's squared error               | paper                    |
|---------------|--------------------------------------------|--------------------------|
| snr           | snr, which is plain eps                    | 2006.11239 (eq. 14)      |
| truncated_snr | max(snr, 1)                                | 2202.00512 (sec. 4)      |
| snr_plus_one  | snr + 1, which is plain v                  | 2202.00512 (sec. 4)      |
| min_snr       | min(snr, gamma)                            | 2303.09556 (sec. 3.4)    |
| soft_min_snr  | snr gamma / (snr + gamma)                  | 2401.11605 (sec. 3)      |
| p2            | snr / (k + snr)^gamma                      | 2204.00227 (eq. 8)       |
| edm           | (r^2 + d^2) / (r d)^2, r = sigma/alpha     | 2206.00364 (table 1)     |
| sigmoid       | snr sigmoid(bias - log snr)                | 2303.00848 (sec. 4)      |
| likelihood    | snr g^2 / (2 sigma^2)                      | 2101.09258 (eq. 7)       |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.path import Path

Weights: TypeAlias = Float[Tensor, "*n"]


def snr(path: Path, t: Weights) -> Weights:
    """The signal-to-noise ratio ``(alpha/sigma)^2``, by which an error of x0 weighs as an error of eps."""
    return (2 * path.log_snr(t)).exp()


def truncated_snr(path: Path, t: Weights) -> Weights:
    """``max(snr, 1)``: the larger of the errors of x0 and eps (2202.00512, sec. 4)."""
    return snr(path, t).clamp(min=1)


def snr_plus_one(path: Path, t: Weights) -> Weights:
    """``snr + 1``: the error of v where variance is preserved (2202.00512, sec. 4)."""
    return snr(path, t) + 1


def min_snr(path: Path, t: Weights, *, gamma: float = 5.0) -> Weights:
    """``min(snr, gamma)``: the error of eps at high noise, that of x0 at low noise (2303.09556, sec. 3.4)."""
    return snr(path, t).clamp(max=_positive("gamma", gamma))


def soft_min_snr(path: Path, t: Weights, *, gamma: float = 4.0) -> Weights:
    """``snr gamma / (snr + gamma)``, a smooth ``min_snr`` (2401.11605, sec. 3)."""
    return _positive("gamma", gamma) * torch.sigmoid(2 * path.log_snr(t) - torch.as_tensor(gamma).double().log())


def p2(path: Path, t: Weights, *, k: float = 1.0, gamma: float = 1.0) -> Weights:
    """``snr / (k + snr)^gamma``: perception-prioritised, the paper's weight of eps times snr (2204.00227, eq. 8)."""
    return snr(path, t) / (_positive("k", k) + snr(path, t)) ** gamma


def edm(path: Path, t: Weights, *, sigma_data: float = 0.5) -> Weights:
    """``(r^2 + d^2) / (r d)^2``, r = sigma/alpha: an untrained preconditioned network has the same loss at each level.

    d is ``sigma_data``, the standard deviation of the data (2206.00364, table 1).
    """
    ratio, deviation = path.ratio(t), _positive("sigma_data", sigma_data)
    return (ratio**2 + deviation**2) / (ratio * deviation) ** 2


def sigmoid(path: Path, t: Weights, *, bias: float = 2.0) -> Weights:
    """``snr sigmoid(bias - log snr)``: the paper's weight of eps, which falls at low noise, times snr (2303.00848)."""
    return snr(path, t) * torch.sigmoid(bias - 2 * path.log_snr(t))


def likelihood(path: Path, t: Weights) -> Weights:
    """``snr g^2 / (2 sigma^2)``, g the diffusion: the loss bounds the negative log-likelihood (2101.09258, eq. 7).

    The bound is an integral over t, and so for ``uniform`` times.
    """
    return snr(path, t) * (path.diffusion(t) / path.sigma(t)) ** 2 / 2


WEIGHTINGS: dict[str, Callable[..., Weights]] = {
    weight.__name__: weight
    for weight in (snr, truncated_snr, snr_plus_one, min_snr, soft_min_snr, p2, edm, sigmoid, likelihood)
}


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return value

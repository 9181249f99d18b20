"""Densities of the times at which a loss is taken, as quantile functions: ``timesteps(path, u) -> t``, u uniform.

A quantile function turns evenly spread u, (u_0 + i/n) mod 1 over a batch, into evenly spread times of the same density
(2107.00630, app. I.1). All but ``uniform`` are densities of the noise level ``r = sigma/alpha``, by way of the straight
path's time ``tau = r / (1 + r)``, and so the same on every path; times beyond a path's ends are put on the ends.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.path import Path

Quantiles: TypeAlias = Float[Tensor, " n"]  # in (0, 1)


def uniform(path: Path, u: Quantiles) -> Quantiles:
    """Times t (n,) uniform between the path's ends, ``t_min + u (t_max - t_min)``."""
    return path.t_min + u.double() * (path.t_max - path.t_min)


def logit_normal(path: Path, u: Quantiles, *, mean: float = 0.0, std: float = 1.0) -> Quantiles:
    """Times t (n,) at which ``log sigma/alpha`` is normal, of this mean and standard deviation.

    On the straight path it is ``logit t`` (2403.03206, eq. 19), and on EDM's ``log sigma``, with -1.2 and 1.2 in the
    paper (2206.00364, table 1). Raises ValueError on a std that is not positive.
    """
    if not 0 < std < math.inf:
        raise ValueError(f"std must be positive and finite, got {std}")
    return _at(path, -(mean + std * torch.special.ndtri(u.double())))


def mode(path: Path, u: Quantiles, *, scale: float = 1.29) -> Quantiles:
    """Times t (n,) of SD3's density with heavy tails, ``tau = u - s (sin^2(pi u / 2) - u)`` (2403.03206, eq. 20).

    It is the paper's map of 1 - u. s is ``scale``: above 0 it favours the middle, below 0 the ends. Raises ValueError
    where s is outside [-1, 2 / (pi - 2)], beyond which the map turns back.
    """
    if not -1 <= scale <= 2 / (math.pi - 2):
        raise ValueError(f"scale must lie in [-1, {2 / (math.pi - 2):.4f}], got {scale}")
    u = u.double()
    return _at(path, -torch.logit(u - scale * ((math.pi / 2 * u).sin() ** 2 - u)))


def cosmap(path: Path, u: Quantiles) -> Quantiles:
    """Times t (n,) at which log-SNRs are those of the cosine path, ``tau = 1 - 1 / (tan(pi u / 2) + 1)``.

    sigma/alpha is ``tan(pi u / 2)`` (2403.03206, eq. 21).
    """
    return _at(path, -torch.tan(math.pi / 2 * u.double()).log())


def _at(path: Path, log_snr: Quantiles) -> Quantiles:
    return path.time(log_snr).clamp(path.t_min, path.t_max)

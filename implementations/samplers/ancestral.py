"""Ancestral samplers: draw the next state from a Gaussian around the data predicted."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.path import Images
from implementations.samplers.grid import Callback, Grid, Point
from implementations.samplers.noise import Noise, PerSampleNoise

Times: TypeAlias = Float[Tensor, " points"]


def ddim(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 0.0,
) -> Images:
    """DDIM: ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z`` (2010.02502, eq. 12 and 16).

    ``s^2 = eta^2 sigma'^2 (1 - e^(2 (lambda - lambda')))``; ``eta`` in [0, 1] goes from the probability flow to
    ancestral sampling. The default ``noise`` is that of seeds 0 to n-1, the same at each call: for further batches,
    hand over ``PerSampleNoise`` with other seeds. Raises ValueError on another eta, and on ascending times unless eta
    is 0.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    grid = Grid(denoiser.path, times, "either" if eta == 0 else "down")
    noise = noise or PerSampleNoise(range(len(x)))

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        if eta == 0:
            return prediction.combine(there.alpha, there.sigma)
        fresh = eta**2 * _fresh(here, there)
        mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fresh))
        return mean.add_(noise(i, x), alpha=there.sigma * math.sqrt(fresh))

    return grid.solve(denoiser, x, step, callback, condition)


def ddpm(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    condition: Any = None,
    variance: Literal["small", "large"] = "small",
) -> Images:
    """Ancestral sampling: the posterior of ``x'`` given x and the data predicted (2006.11239, alg. 2).

    ``variance``: ``small`` is the posterior's; ``large`` the forward variance of the step on the variance-preserving
    path of the same log-SNR, ``1 - alpha^2/alpha'^2`` there (2006.11239, sec. 3.2). A step that touches an end of the
    path takes no noise. The default ``noise`` is that of seeds 0 to n-1, the same at each call: for further batches,
    hand over ``PerSampleNoise`` with other seeds. Raises ValueError on another variance and on ascending times.
    """
    if variance not in ("small", "large"):
        raise ValueError(f"variance must be small or large, got {variance!r}")
    grid = Grid(denoiser.path, times, "down")
    noise = noise or PerSampleNoise(range(len(x)))

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        fresh = _fresh(here, there)
        mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fresh))
        deviation = there.sigma * math.sqrt(fresh) if variance == "small" else _forward_deviation(here, there)
        return mean.add_(noise(i, x), alpha=deviation)

    return grid.solve(denoiser, x, step, callback, condition)


def _fresh(here: Point, there: Point) -> float:
    """Share of sigma'^2 that is drawn afresh in the posterior, ``1 - e^(2 (lambda - lambda'))``."""
    return -math.expm1(2 * (here.log_snr - there.log_snr))


def _forward_deviation(here: Point, there: Point) -> float:
    """Of the forward step from ``there`` to ``here``, in units of the path at ``there``.

    With sigma_vp^2 = 1 / (1 + e^(2 lambda)), it is ``sigma_vp^2 (1 - e^(2 (lambda - lambda')))``.
    """
    sigma_vp2 = 1 / (1 + math.exp(2 * here.log_snr))
    return math.hypot(there.alpha, there.sigma) * math.sqrt(_fresh(here, there) * sigma_vp2)

"""Gradient estimation: DDIM on a prediction that is carried beyond the latest by its change."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.runge_kutta import COORDINATES


@sampler
def gradient_estimation(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    gamma: float = 2.0,
) -> Images:
    """Euler in sigma on ``gamma eps + (1 - gamma) eps_prev`` (2306.04848).

    gamma = 1 is DDIM; 3/2 would be Adams-Bashforth's on equal steps of sigma/alpha. The first step takes eps. Raises
    ValueError on a gamma that is not finite.
    """
    if not math.isfinite(gamma):
        raise ValueError(f"gamma must be finite, got {gamma}")
    grid = Grid(denoiser.path, times)
    before: dict[int, Images] = {}  # eps of the step before, by that step; an end step leaves none

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        moved = prediction.combine(there.alpha, there.sigma)
        eps, past = prediction.eps, before.pop(i - 1, None)
        before[i] = eps
        if past is None or gamma == 1:
            return moved
        _, reach, _ = COORDINATES["sigma"].step(here, there)
        beyond = reach * (gamma - 1)
        return moved.add_(eps, alpha=beyond).add_(past, alpha=-beyond)

    return grid.solve(denoiser, x, step, callback, condition)

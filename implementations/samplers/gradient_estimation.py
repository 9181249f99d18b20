"""Gradient estimation: DDIM with eps extrapolated beyond the latest prediction."""

from __future__ import annotations

import math

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.runge_kutta import COORDINATES


@sampler
def gradient_estimation(problem: Problem, *, gamma: float = 2.0) -> Images:
    """Gradient estimation: Euler in sigma on ``gamma eps + (1 - gamma) eps_prev`` (2306.04848).

    eps_prev is the noise predicted one step before. gamma = 1 is DDIM; 3/2 is Adams-Bashforth of order 2 on equal steps
    of sigma/alpha. The first step takes eps alone. Raises ValueError on a gamma that is not finite.
    """
    if not math.isfinite(gamma):
        raise ValueError(f"gamma must be finite, got {gamma}")
    before: dict[int, Images] = {}  # eps of the step before, by that step; a step that touches an end leaves none

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        y = prediction.combine(there.alpha, there.sigma)
        eps, past = prediction.eps, before.pop(i - 1, None)
        before[i] = eps
        if past is None or gamma == 1:
            return y
        _, reach, _ = COORDINATES["sigma"].step(here, there)
        beyond = reach * (gamma - 1)
        return y.add_(eps, alpha=beyond).add_(past, alpha=-beyond)

    return problem.solve(step)

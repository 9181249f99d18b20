"""Inversion: the noise from which DDIM makes given data."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, combined, costs
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler


def _cost(touching: list[bool], *, iterations: int, **options: Any) -> int:
    return len(touching) * (1 + iterations)


@sampler
@costs(_cost)
def ddim_inversion(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    iterations: int = 0,
) -> Images:
    """DDIM from data to noise: ``x' = alpha' x0 + sigma' eps`` predicted at x, times ascending (2010.02502, sec. 4.3).

    DDIM back from x' predicts at x', so that this is its inverse to first order. Each of ``iterations`` puts what is
    predicted at x' itself into

        ``x' = ((alpha'^2 + sigma'^2) x + (alpha sigma' - sigma alpha') v) / (alpha alpha' + sigma sigma')``,

    whose fixed point is the exact inverse, the clean end's included: written with v, it is regular at both ends.
    Raises ValueError on descending times, on iterations that are no count, and, with any, on a single step from clean
    data to alpha = 0, which has no inverse.
    """
    iterations = whole("iterations", iterations, 0)
    grid = Grid(denoiser.path, times, "up")
    if iterations and grid.points[0].sigma == grid.points[1].alpha == 0:
        raise ValueError("iterations must be 0 for a single step from sigma = 0 to alpha = 0: DDIM forgets x there")

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        there_x: Images = prediction.combine(there.alpha, there.sigma)
        cosine = here.alpha * there.alpha + here.sigma * there.sigma
        for _ in range(iterations):
            v = denoiser(there_x, grid.times[i + 1], condition).v
            sine = here.alpha * there.sigma - here.sigma * there.alpha
            there_x = combined((there.radius**2 / cosine, x), (sine / cosine, v))
        return there_x

    return grid.solve(denoiser, x, step, callback, condition, regular=True)

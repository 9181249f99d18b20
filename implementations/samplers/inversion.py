"""Inversion: the noise from which DDIM makes given data."""

from __future__ import annotations

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler


@sampler(count=lambda touching, *, iterations, **_: len(touching) * (1 + iterations))
def ddim_inversion(problem: Problem, *, iterations: int = 0) -> Images:
    """DDIM inversion, from data to noise: ``x' = alpha' x0 + sigma' eps`` as predicted at x, with times ascending.

    The paper is 2010.02502, sec. 4.3. DDIM's step back from x' takes its prediction at x', so that this is its inverse
    to first order only. Each of ``iterations`` repeats the step with v predicted at the latest x':

        ``x' = ((alpha'^2 + sigma'^2) x + (alpha sigma' - sigma alpha') v) / (alpha alpha' + sigma sigma')``.

    The fixed point is the exact inverse, also from the clean end: written with v, the formula is regular at both ends.
    Raises ValueError on descending times, on iterations that are no count, and, with any, on a single step from clean
    data to alpha = 0, which has no inverse.
    """
    iterations = check_integer("iterations", iterations, 0)
    problem.grid.require_ascending()
    if iterations and problem.points[0].sigma == problem.points[1].alpha == 0:
        raise ValueError("iterations must be 0 for a single step from sigma = 0 to alpha = 0: DDIM forgets x there")

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        y = prediction.combine(there.alpha, there.sigma)
        cosine = here.alpha * there.alpha + here.sigma * there.sigma
        for _ in range(iterations):
            sine = here.alpha * there.sigma - here.sigma * there.alpha
            y = add_scaled((there.radius**2 / cosine, x), (sine / cosine, problem.ask(y, there).v))
        return y

    return problem.solve(step, regular=True)

"""EDM's stochastic samplers: before each step, fresh noise lifts the state to a noisier level (2206.00364, alg. 2).

Noise levels are ``u = sigma/alpha``, so that they mean the same on every path.
"""

from __future__ import annotations

import math

import torch

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point, Points, add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Lift, Problem, sampler
from implementations.samplers.runge_kutta import COORDINATES, trapezoid


@sampler
def edm_euler(
    problem: Problem, *, s_churn: float = 0.0, s_tmin: float = 0.0, s_tmax: float = math.inf, s_noise: float = 1.0
) -> Images:
    """Euler in sigma with EDM's churn: before each step, fresh noise lifts the state to a noisier level.

    With u = sigma/alpha, each step goes up to (1 + gamma) u and then down by Euler (2206.00364, alg. 2 without its
    second evaluation). ``gamma = min(s_churn / steps, sqrt 2 - 1)`` where u lies in [s_tmin, s_tmax], else 0. The noise
    added has standard deviation ``s_noise``. No level is raised above the first of the grid. Raises ValueError on
    options out of range, and on ascending times unless s_churn is 0.
    """
    _, lift = _churn(problem, s_churn, s_tmin, s_tmax, s_noise)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        there = problem.points[i + 1]
        return prediction.combine(there.alpha, there.sigma)

    return problem.solve(step, lift)


@sampler
def edm_heun(
    problem: Problem, *, s_churn: float = 0.0, s_tmin: float = 0.0, s_tmax: float = math.inf, s_noise: float = 1.0
) -> Images:
    """EDM's Heun in sigma with churn (2206.00364, alg. 2).

    Each step first raises the noise level from u to (1 + gamma) u. u is sigma/alpha. ``gamma = min(s_churn / steps,
    sqrt 2 - 1)`` where u lies in [s_tmin, s_tmax], else 0. The noise added has standard deviation ``s_noise``. No level
    is raised above the first of the grid: the model may never have seen what lies there. Raises ValueError on options
    out of range, and on ascending times unless s_churn is 0.
    """
    starts, lift = _churn(problem, s_churn, s_tmin, s_tmax, s_noise)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        return trapezoid(problem, COORDINATES["sigma"], starts[i], problem.points[i + 1], x, prediction)

    return problem.solve(step, lift)


def add_noise(x: Images, here: Point, there: Point, z: Images, scale: float = 1.0) -> Images:
    """Carry a state to a noisier point by fresh noise: ``x'/alpha' = x/alpha + scale sqrt(r'^2 - r^2) z``.

    r is the level sigma/alpha, and z is standard normal.
    """
    rise = math.sqrt((there.ratio - here.ratio) * (there.ratio + here.ratio))
    return add_scaled((there.alpha / here.alpha, x), (there.alpha * rise * scale, z))


def _churn(
    problem: Problem, s_churn: float, s_tmin: float, s_tmax: float, s_noise: float
) -> tuple[list[Point], Lift | None]:
    """Where each step starts, and the lift to there; step i takes draw i."""
    if not 0 <= s_churn < math.inf:
        raise ValueError(f"s_churn must be at least 0 and finite, got {s_churn}")
    if not 0 <= s_tmin <= s_tmax:
        raise ValueError(f"s_tmin must lie in [0, s_tmax], got s_tmin {s_tmin} and s_tmax {s_tmax}")
    if not 0 <= s_noise < math.inf:
        raise ValueError(f"s_noise must be at least 0 and finite, got {s_noise}")
    points = problem.points[:-1]
    if s_churn == 0:
        return points, None
    problem.require_descending()
    gamma, top = min(s_churn / len(problem), math.sqrt(2) - 1), points[0].ratio
    # at alpha = 0 the state is noise and nothing else: there is nothing to lift
    churned = [i for i, p in enumerate(points) if p.alpha > 0 and s_tmin <= p.ratio <= s_tmax and p.ratio < top]
    levels = torch.tensor([min(points[i].ratio * (1 + gamma), top) for i in churned], dtype=torch.float64)
    lifted = dict(zip(churned, Points.at_log_snrs(problem.path, -levels.log()).unbind(), strict=True))

    def lift(i: int, x: Images) -> tuple[Point, Images]:
        if i not in lifted:
            return points[i], x
        return lifted[i], add_noise(x, points[i], lifted[i], problem.noise(i, x), s_noise)

    return [lifted.get(i, point) for i, point in enumerate(points)], lift

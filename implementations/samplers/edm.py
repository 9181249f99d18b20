"""EDM's stochastic samplers: before each step the state is lifted to a noisier level (2206.00364, alg. 2).

Noise levels are ``u = sigma/alpha``, so that they mean the same on every path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, Point, combined
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.runge_kutta import COORDINATES, Levels, trapezoid

Times: TypeAlias = Float[Tensor, " points"]
Lift: TypeAlias = Callable[[int, Images], tuple[Point, Images]]


@sampler
def edm_euler(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Images:
    """``edm_heun`` without the second evaluation: churn, then Euler in sigma."""
    grid = Grid(denoiser.path, times, "either" if s_churn == 0 else "down")
    _, lift = _churn(grid, noise, s_churn, s_tmin, s_tmax, s_noise)

    def step(i: int, x: Images, prediction: Any) -> Images:
        there = grid.points[i + 1]
        return prediction.combine(there.alpha, there.sigma)

    return grid.solve(denoiser, x, step, callback, condition, lift)


@sampler
def edm_heun(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Images:
    """Heun in sigma with churn (2206.00364, alg. 2): a step from u starts at ``(1 + gamma) u``.

    ``gamma = min(s_churn / steps, sqrt 2 - 1)`` where u lies in [s_tmin, s_tmax], else 0; the noise that is added has
    deviation ``s_noise``. No lift goes beyond the level that the grid starts at: what lies there the model may never
    have seen. Raises ValueError on options out of range, and on ascending times unless s_churn is 0.
    """
    grid = Grid(denoiser.path, times, "either" if s_churn == 0 else "down")
    starts, lift = _churn(grid, noise, s_churn, s_tmin, s_tmax, s_noise)

    def step(i: int, x: Images, prediction: Any) -> Images:
        return trapezoid(COORDINATES["sigma"], denoiser, starts[i], grid.points[i + 1], x, prediction, condition)

    return grid.solve(denoiser, x, step, callback, condition, lift)


def noised(x: Images, here: Point, there: Point, z: Images, scale: float = 1.0) -> Images:
    """Carry ``x`` to a noisier point: ``x'/alpha' = x/alpha + scale sqrt(u'^2 - u^2) z``."""
    rise = math.sqrt((there.ratio - here.ratio) * (there.ratio + here.ratio))
    return combined((there.alpha / here.alpha, x), (there.alpha * rise * scale, z))


def _churn(
    grid: Grid, noise: Noise, s_churn: float, s_tmin: float, s_tmax: float, s_noise: float
) -> tuple[list[Point], Lift | None]:
    """Where each step starts, and the lift to there; draw i belongs to step i."""
    if not 0 <= s_churn < math.inf:
        raise ValueError(f"s_churn must be at least 0 and finite, got {s_churn}")
    if not 0 <= s_tmin <= s_tmax:
        raise ValueError(f"s_tmin must lie in [0, s_tmax], got s_tmin {s_tmin} and s_tmax {s_tmax}")
    if not 0 <= s_noise < math.inf:
        raise ValueError(f"s_noise must be at least 0 and finite, got {s_noise}")
    points = grid.points[:-1]
    if s_churn == 0:
        return points, None
    gamma, top = min(s_churn / len(grid), math.sqrt(2) - 1), points[0].ratio
    # at alpha = 0 the state is noise and nothing else: there is nothing to lift
    churned = [i for i, p in enumerate(points) if p.alpha > 0 and s_tmin <= p.ratio <= s_tmax and p.ratio < top]
    levels = torch.tensor([min(points[i].ratio * (1 + gamma), top) for i in churned], dtype=torch.float64)
    lifted = dict(zip(churned, Levels.at(grid.path, -levels.log()).points(), strict=True))

    def lift(i: int, x: Images) -> tuple[Point, Images]:
        if i not in lifted:
            return points[i], x
        return lifted[i], noised(x, points[i], lifted[i], noise(i, x), s_noise)

    return [lifted.get(i, point) for i, point in enumerate(points)], lift

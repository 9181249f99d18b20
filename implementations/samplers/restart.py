"""Restart: go back to a noisier level by fresh noise and down again, several times over (2306.14878)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, Point, costs, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.edm import noised
from implementations.samplers.runge_kutta import COORDINATES, Levels, trapezoid

Interval = Sequence[float | int]  # low, high, restarts, steps


def _evaluations(
    touching: list[bool], *, intervals: Sequence[Interval], levels: list[float] | None = None, **_: Any
) -> int:
    """Without levels, as if every interval held one."""
    plan = [tuple(interval) for interval in intervals] if levels is None else _planned(levels, intervals)
    return sum(1 if end else 2 for end in touching) + sum(2 * int(again) * int(steps) for *_, again, steps in plan)


@sampler
@order_of(lambda *, intervals, **_: None if intervals else 2)
@costs(_evaluations)
def restart(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    intervals: Sequence[Interval] = ((0.06, 0.3, 2, 2),),
) -> Images:
    """Heun in sigma with restarts (2306.14878, alg. 1): at ``low``, ``x += sqrt(high^2 - low^2) z``, then down again.

    ``intervals`` are ``(low, high, restarts, steps)``: two levels sigma/alpha, how often to go back, and in how many
    steps down, on Karras' grid with rho = 7 (the paper's N_restart is steps + 1). ``low`` stands for the nearest level
    within the grid, by their ratio; where that is no lower than ``high``, the interval is left out. Without intervals
    it is Heun. Raises ValueError on intervals out of order or above the grid's first level, and on ascending times
    unless there are none.
    """
    grid = Grid(denoiser.path, times, "down" if intervals else "either")
    draws, sigma = itertools.count(), COORDINATES["sigma"]
    ways: dict[int, list[list[Point]]] = {}  # by the point of the grid that they start from and end at
    for index, high, again, steps in _planned([point.ratio for point in grid.points], intervals):
        bottom = grid.points[index]
        ramp = torch.linspace(high ** (1 / 7), bottom.ratio ** (1 / 7), steps + 1, dtype=torch.float64)[:-1] ** 7
        ways.setdefault(index, []).extend([[*Levels.at(grid.path, -ramp.log()).points(), bottom]] * again)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        if here.end or there.end:
            x = prediction.combine(there.alpha, there.sigma)
        else:
            x = trapezoid(sigma, denoiser, here, there, x, prediction, condition)
        for way in ways.get(i + 1, ()):
            x = noised(x, there, way[0], noise(next(draws), x))
            for above, below in itertools.pairwise(way):
                x = trapezoid(sigma, denoiser, above, below, x, denoiser(x, above.time, condition), condition)
        return x

    return grid.solve(denoiser, x, step, callback, condition, regular=True)


def _planned(levels: Sequence[float], intervals: Sequence[Interval]) -> list[tuple[int, float, int, int]]:
    """Of each interval that holds a level: its point of the grid, where to go back to, how often, in how many steps."""
    inside = [i for i, level in enumerate(levels) if i > 0 and 0 < level < math.inf]
    plan = []
    for interval in intervals:
        if len(interval) != 4:
            raise ValueError(f"intervals must be of (low, high, restarts, steps), got {tuple(interval)}")
        low, high, again, steps = interval
        if not 0 < low < high < math.inf:
            raise ValueError(f"intervals must have 0 < low < high, finite, got {low} and {high}")
        again, steps = whole("intervals: restarts", again, 1), whole("intervals: steps", steps, 1)
        if high > levels[0]:
            raise ValueError(f"intervals must lie below the grid's first level, {levels[0]:.6g}, got high {high}")
        nearest = min(inside, key=lambda i: abs(math.log(levels[i] / low)), default=None)
        if nearest is not None and levels[nearest] < high:
            plan.append((nearest, float(high), again, steps))
    return plan

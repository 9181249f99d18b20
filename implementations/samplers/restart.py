"""Restart: return to a noisier level by fresh noise and solve down again, several times over (2306.14878)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point, Points
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.edm import add_noise
from implementations.samplers.runge_kutta import COORDINATES, trapezoid

Interval = Sequence[float | int]  # low, high, restarts, steps


def _count_evaluations(
    touching: list[bool], *, intervals: Sequence[Interval], levels: list[float] | None = None, **_: Any
) -> int:
    """Where the levels are not known, every interval is taken to hold one of the grid."""
    plan = [tuple(interval) for interval in intervals] if levels is None else _plan(levels, intervals)
    return sum(1 if end else 2 for end in touching) + sum(2 * int(again) * int(steps) for *_, again, steps in plan)


@sampler(count=_count_evaluations, order_of=lambda *, intervals, **_: None if intervals else 2)
def restart(problem: Problem, *, intervals: Sequence[Interval] = ((0.06, 0.3, 2, 2),)) -> Images:
    """Restart sampling: Heun in sigma, which returns several times from a low level to a high one by fresh noise.

    At ``low`` it does ``x += sqrt(high^2 - low^2) z`` on x/alpha, and goes down again (2306.14878, alg. 1).
    ``intervals`` are ``(low, high, restarts, steps)``: two levels sigma/alpha, how often to return from the lower to
    the higher, and in how many steps down, on Karras' grid with rho = 7 (the paper's N_restart is steps + 1). ``low``
    stands for the level within the grid that is nearest by ratio; where that is no lower than ``high``, the interval is
    left out. Without intervals it is Heun. Raises ValueError on intervals out of order or above the grid's first level,
    and on ascending times unless there are none.
    """
    if intervals:
        problem.require_descending()
    draws, sigma = itertools.count(), COORDINATES["sigma"]
    ways: dict[int, list[list[Point]]] = {}  # by the point of the grid that they start from and end at
    for index, high, again, steps in _plan([point.ratio for point in problem.points], intervals):
        bottom = problem.points[index]
        ramp = torch.linspace(high ** (1 / 7), bottom.ratio ** (1 / 7), steps + 1, dtype=torch.float64)[:-1] ** 7
        way = [*Points.at_log_snrs(problem.path, -ramp.log()).unbind(), bottom]
        ways.setdefault(index, []).extend([way] * again)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        if here.end or there.end:
            x = prediction.combine(there.alpha, there.sigma)
        else:
            x = trapezoid(problem, sigma, here, there, x, prediction)
        for way in ways.get(i + 1, ()):
            x = add_noise(x, there, way[0], problem.noise(next(draws), x))
            for above, below in itertools.pairwise(way):
                x = trapezoid(problem, sigma, above, below, x, problem.ask(x, above))
        return x

    return problem.solve(step, regular=True)


def _plan(levels: Sequence[float], intervals: Sequence[Interval]) -> list[tuple[int, float, int, int]]:
    """For each interval that holds a level: its point of the grid, the higher level, restarts and steps."""
    inside = [i for i, level in enumerate(levels) if i > 0 and 0 < level < math.inf]
    plan = []
    for interval in intervals:
        if len(interval) != 4:
            raise ValueError(f"intervals must be of (low, high, restarts, steps), got {tuple(interval)}")
        low, high, again, steps = interval
        if not 0 < low < high < math.inf:
            raise ValueError(f"intervals must have 0 < low < high, finite, got {low} and {high}")
        again, steps = check_integer("intervals: restarts", again, 1), check_integer("intervals: steps", steps, 1)
        if high > levels[0]:
            raise ValueError(f"intervals must lie below the grid's first level, {levels[0]:.6g}, got high {high}")
        nearest = min(inside, key=lambda i: abs(math.log(levels[i] / low)), default=None)
        if nearest is not None and levels[nearest] < high:
            plan.append((nearest, float(high), again, steps))
    return plan

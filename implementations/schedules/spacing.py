"""Time grids: ``schedule(path, steps, **options)`` gives ``steps + 1`` strictly descending times in float64.

This file holds what the schedules share. Most are spaced in the noise level ``r = sigma/alpha``, so that they are the
same grid on every path, and have these options:

| option    | meaning                                                                                             |
|-----------|-----------------------------------------------------------------------------------------------------|
| sigma_max | level of the first time; by default the path's largest, for some schedules at most 80 (2206.00364)  |
| sigma_min | last level above 0; by default the path's least, for some schedules at least 0.002 (2206.00364)     |
| clean     | after ``sigma_min``, the last step goes to the end where sigma = 0, on a path that has one          |

Others are spaced in ``t`` itself, between ``start`` and ``end``, or on the timesteps of a training table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.path import Path

Times: TypeAlias = Float[Tensor, " times"]
Levels: TypeAlias = Float[Tensor, "*points"]  # sigma/alpha: 0 at the clean end, infinite where alpha = 0


def grade(times: Times, halvings: int = 10) -> Float[Tensor, " points"]:
    """Split the first interval of a grid into ``halvings`` + 1 intervals, each about twice as long as the one before.

    A method of k steps begins with fewer. Over such short intervals the error of these first steps, of low order, is
    negligible, and a ladder of grids shows the order of the method itself.
    """
    shares = 0.5 ** torch.arange(halvings, 0, -1, dtype=torch.float64)
    return torch.cat([times[:1], times[0] + (times[1] - times[0]) * shares, times[1:]])


def lay_out(
    path: Path,
    steps: int,
    forward: Callable[[Levels], Levels],
    inverse: Callable[[Levels], Levels],
    bounds: tuple[float, float],
    clean: bool,
    positions: Callable[[int], Levels] | None = None,
) -> Times:
    """Make a time grid whose noise levels sigma/alpha are equally spaced in ``forward(level)``, the highest first.

    ``inverse`` undoes ``forward``. With ``clean`` the last step goes to sigma = 0. ``positions(intervals)``, which
    rises from 0 to 1, replaces the equal spacing. Raises ValueError where float64 cannot tell the times apart.
    """
    low, high = bounds
    last = clean and low > 0 and float(path.sigma(path.t_min)) == 0
    intervals = steps - 1 if last else steps
    ramp = (positions or _equal)(intervals) if intervals else torch.zeros(1, dtype=torch.float64)
    first, final = (forward(torch.tensor(bound, dtype=torch.float64)) for bound in (high, low))
    levels = inverse(first + ramp * (final - first))
    levels[-1], levels[0] = low, high  # the inverse rounds; where there is but one, it is the first
    return times_at(path, torch.cat([levels, torch.zeros(1, dtype=torch.float64)]) if last else levels)


def times_at(path: Path, levels: Float[Tensor, " times"]) -> Times:
    """Give the path's times of descending noise levels sigma/alpha.

    Raises ValueError on levels that it does not have.
    """
    check_levels(path, float(levels[-1]), float(levels[0]))
    times = path.time(-levels.log()).clamp(path.t_min, path.t_max)  # the inverse may round past an end
    for end in (path.t_min, path.t_max):
        times = torch.where(levels == path.ratio(end), end, times)
    return require_descending(times)


def bound_levels(
    path: Path, steps: int, sigma_min: float | None, sigma_max: float | None, default: tuple[float, float]
) -> tuple[float, float]:
    """Check ``steps``, and give the least and the greatest noise level sigma/alpha of a time grid.

    They are ``sigma_min`` and ``sigma_max`` where given, else those of ``default``, within those of the path.
    """
    check_steps(steps)
    least, largest = float(path.ratio(path.t_min)), float(path.ratio(path.t_max))
    low = max(default[0], least) if sigma_min is None else float(sigma_min)
    high = min(default[1], largest) if sigma_max is None else float(sigma_max)
    check_levels(path, low, high)
    if (low == 0 < default[0]) or (math.isinf(high) and math.isfinite(default[1])):
        raise ValueError(
            f"sigma_min and sigma_max must be finite levels sigma/alpha > 0 here; got {low:.6g} and {high:.6g}"
        )
    return low, high


WHOLE, EDM_RANGE = (0.0, math.inf), (0.002, 80.0)  # default bounds of a level, where a path reaches them


def check_levels(path: Path, low: float, high: float) -> None:
    """Raise ValueError unless ``low`` and ``high`` are a range of noise levels sigma/alpha that the path has."""
    least, largest = float(path.ratio(path.t_min)), float(path.ratio(path.t_max))
    rounding = 1 + 1e-12  # a level read off the path's own end must pass
    if not (0 <= low < high and low * rounding >= least and high <= largest * rounding):
        raise ValueError(
            f"sigma_min < sigma_max must be levels sigma/alpha within {path!r}, "
            f"which spans {least:.6g} to {largest:.6g}; got {low:.6g} and {high:.6g}"
        )


def spread(path: Path, steps: int, shares: Times, start: float | None, end: float | None) -> Times:
    """Space times at shares that fall from 1, at ``start`` (default ``t_max``), to 0, at ``end`` (default ``t_min``).

    Raises ValueError where start and end are not a range within the path.
    """
    check_steps(steps)
    start, end = path.t_max if start is None else start, path.t_min if end is None else end
    if not path.t_min <= end < start <= path.t_max:
        raise ValueError(f"{path.t_min} <= end < start <= {path.t_max} is needed, got start {start} and end {end}")
    times = end + shares * (start - end)
    times[-1], times[0] = end, start
    return require_descending(times)


def check_steps(steps: int) -> None:
    """Raise ValueError unless ``steps``, the number of steps of a time grid, is an integer of at least 1."""
    check_integer("steps", steps, 1)


def require_positive(name: str, value: float) -> None:
    """Raise ValueError, naming the option, unless the value is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def require_descending(times: Times) -> Times:
    """Give the times of a grid; raises ValueError unless each is less than the one before."""
    if not bool((times.diff() < 0).all()):
        raise ValueError(f"{len(times) - 1} steps are too many to be told apart in float64 on this path")
    return times


def _equal(intervals: int) -> Levels:
    return torch.linspace(0, 1, intervals + 1, dtype=torch.float64)

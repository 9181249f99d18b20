"""Time grids: ``schedule(path, steps, **options)`` gives ``steps + 1`` strictly descending times in float64.

``karras`` and ``log_snr`` are laid out in the noise level ``sigma/alpha``, so that they are the same grid on every
path. Their bounds default to 0.002 and 80 (2206.00364), or to the path's own least and largest level where it does
not reach these. ``clean`` makes the last step go to ``t_min``, where sigma = 0, after ``steps`` grid points; without
it, or on a path that never reaches sigma = 0, there are ``steps + 1`` grid points.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.path import Path

Times: TypeAlias = Float[Tensor, " times"]


def uniform(path: Path, steps: int, *, start: float | None = None, end: float | None = None) -> Times:
    """Equal steps of t from ``start`` (default ``t_max``) to ``end`` (default ``t_min``); raises ValueError outside."""
    _check_steps(steps)
    start, end = path.t_max if start is None else start, path.t_min if end is None else end
    if not path.t_min <= end < start <= path.t_max:
        raise ValueError(f"{path.t_min} <= end < start <= {path.t_max} is needed, got start {start} and end {end}")
    return _descending(torch.linspace(start, end, steps + 1, dtype=torch.float64))


def karras(
    path: Path,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Equal steps of ``(sigma/alpha)^(1/rho)`` (2206.00364, eq. 5); raises ValueError on levels outside the path."""
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be positive and finite, got {rho}")
    low, high = _bounds(path, steps, sigma_min, sigma_max)
    ramp = _ramp(path, steps, clean)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return _times(path, -levels.log(), clean)


def log_snr(
    path: Path,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Equal steps of ``log(alpha/sigma)`` (2206.00927); raises ValueError on levels outside the path."""
    low, high = _bounds(path, steps, sigma_min, sigma_max)
    ramp = _ramp(path, steps, clean)
    return _times(path, -math.log(high) + ramp * (math.log(high) - math.log(low)), clean)


def graded(times: Times, halvings: int = 10) -> Times:
    """Split the first interval of a grid into ``halvings`` + 1 that double from the start.

    A method of k steps starts with fewer: over intervals this short its first, low-order steps leave no trace, and a
    ladder of grids shows the order of the method itself.
    """
    shares = 0.5 ** torch.arange(halvings, 0, -1, dtype=torch.float64)
    return torch.cat([times[:1], times[0] + (times[1] - times[0]) * shares, times[1:]])


def _check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}")


def _reaches_zero(path: Path) -> bool:
    return float(path.sigma(path.t_min)) == 0


def _bounds(path: Path, steps: int, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    _check_steps(steps)
    least, largest = float(path.ratio(path.t_min)), float(path.ratio(path.t_max))
    low = max(0.002, least) if sigma_min is None else float(sigma_min)
    high = min(80.0, largest) if sigma_max is None else float(sigma_max)
    rounding = 1 + 1e-12  # a level read off the path's own end must pass
    if not (0 < low < high < math.inf and low * rounding >= least and high <= largest * rounding):
        raise ValueError(
            f"sigma_min < sigma_max must be finite levels sigma/alpha > 0 within {path!r}, "
            f"which spans {least:.6g} to {largest:.6g}; got {low:.6g} and {high:.6g}"
        )
    return low, high


def _ramp(path: Path, steps: int, clean: bool) -> Float[Tensor, " points"]:
    points = steps if clean and _reaches_zero(path) else steps + 1
    return torch.linspace(0, 1, points, dtype=torch.float64)


def _times(path: Path, log_snrs: Float[Tensor, " points"], clean: bool) -> Times:
    times = path.time(log_snrs).clamp(path.t_min, path.t_max)  # the inverse may round past an end
    if clean and _reaches_zero(path):
        times = torch.cat([times, torch.tensor([path.t_min], dtype=torch.float64)])
    return _descending(times)


def _descending(times: Times) -> Times:
    if not bool((times.diff() < 0).all()):
        raise ValueError(f"{len(times) - 1} steps are too many to be told apart in float64 on this path")
    return times

"""Runge-Kutta methods for the probability flow, in a coordinate of one's choice.

In a coordinate, a step is ``x' = A x + B q``, exact for a constant quantity q:

| coordinate | equation                                                          | q           |
|------------|-------------------------------------------------------------------|-------------|
| sigma      | ``d(x/alpha) / d(sigma/alpha) = eps``                             | eps         |
| lambda     | ``d(x/sigma) / d lambda = e^lambda x0``, lambda = log alpha/sigma | x0          |
| angle      | ``d(x/r) / d theta = v/r``, r = hypot(alpha, sigma)               | v/r         |
| t          | ``dx/dt = velocity``                                              | velocity    |

All but ``t`` depend only on the log-SNR of the grid: on another path the same grid gives the same samples, rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Head
from implementations.diffusion.path import Images
from implementations.samplers.grid import Callback, Grid, Point
from implementations.samplers.noise import Noise

Times: TypeAlias = Float[Tensor, " points"]


def euler(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Explicit Euler: ``x' = A x + B q``. In ``sigma`` and in ``lambda`` it is DDIM (2010.02502, sec. 4.3)."""
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)

    def step(i: int, x: Images, prediction: Any) -> Images:
        a, b, _ = rule.step(grid.points[i], grid.points[i + 1])
        return _euler(a, x, b, getattr(prediction, rule.view))

    return grid.solve(denoiser, x, step, callback, condition)


def heun(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Heun's trapezoid (2206.00364, alg. 1): ``x' = A x + B ((1 - c) q + c q')``, q' at Euler's end.

    c is 1/2, but in ``lambda``, where the quantity is taken linear under the exponential.
    """
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)

    def step(i: int, x: Images, prediction: Any) -> Images:
        a, b, c = rule.step(grid.points[i], grid.points[i + 1])
        q = getattr(prediction, rule.view)
        there = denoiser(_euler(a, x, b, q), grid.times[i + 1], condition)
        # the second quantity is in its own units: v/r has another r
        other = b * c * rule.unit(grid.points[i]) / rule.unit(grid.points[i + 1])
        return _euler(a, x, b * (1 - c), q).add_(getattr(there, rule.view), alpha=other)

    return grid.solve(denoiser, x, step, callback, condition)


@dataclass(frozen=True)
class Coordinate:
    """A coordinate as its step ``(start, end) -> (A, B, c)``, with ``x' = A x + B view``.

    c is the share of the end in the trapezoid. ``q = view / unit``, and B holds the unit of the step's start.
    """

    view: Head
    step: Callable[[Point, Point], tuple[float, float, float]]
    unit: Callable[[Point], float] = lambda point: 1.0


def coordinate_named(name: str) -> Coordinate:
    """Look a coordinate up; raises ValueError on a name that is none."""
    if name not in COORDINATES:
        raise ValueError(f"coordinate must be one of {', '.join(COORDINATES)}, got {name!r}")
    return COORDINATES[name]


def _euler(a: float, x: Images, b: float, q: Images) -> Images:
    return torch.add(x, q, alpha=b) if a == 1 else (x * a).add_(q, alpha=b)


def _sigma(p: Point, q: Point) -> tuple[float, float, float]:
    return q.alpha / p.alpha, q.sigma - q.alpha * p.sigma / p.alpha, 0.5


def _lambda(p: Point, q: Point) -> tuple[float, float, float]:
    h = q.log_snr - p.log_snr
    # 1/(1 - e^-h) - 1/h = (h - 1 + e^-h) / (h (1 - e^-h)); its terms cancel at small h, where the series takes over
    share = 0.5 + h / 12 - h**3 / 720 if abs(h) < 0.02 else -1 / math.expm1(-h) - 1 / h
    return q.sigma / p.sigma, -q.alpha * math.expm1(-h), share


def _angle(p: Point, q: Point) -> tuple[float, float, float]:
    growth = _radius(q) / _radius(p)
    turn = math.atan2(q.sigma, q.alpha) - math.atan2(p.sigma, p.alpha)
    return growth, growth * turn, 0.5


def _t(p: Point, q: Point) -> tuple[float, float, float]:
    return 1.0, q.t - p.t, 0.5


def _radius(point: Point) -> float:
    return math.hypot(point.alpha, point.sigma)


COORDINATES = {
    "sigma": Coordinate("eps", _sigma),
    "lambda": Coordinate("x0", _lambda),
    "angle": Coordinate("v", _angle, _radius),
    "t": Coordinate("velocity", _t),
}

"""Runge-Kutta methods for the probability flow, in a coordinate of one's choice.

| coordinate | equation                                                              | variable        |
|------------|-----------------------------------------------------------------------|-----------------|
| sigma      | ``d(x/alpha) / d(sigma/alpha) = eps``                                 | sigma/alpha     |
| lambda     | ``d(x/sigma) / d(alpha/sigma) = x0``, alpha/sigma = e^lambda          | alpha/sigma     |
| angle      | ``d(x/r) / d theta = v/r``, r = hypot(alpha, sigma)                   | theta           |
| t          | ``dx/dt = velocity``                                                  | t               |

A step is exact where the quantity on the right is constant. All coordinates but ``t`` depend only on the log-SNR of the
grid: on another path the same grid gives the same samples, rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Head
from implementations.diffusion.grid import Callback, Grid, Point, ask, combined
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import sampler

Times: TypeAlias = Float[Tensor, " points"]


@sampler
def euler(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Explicit Euler: ``x' = A x + B q``. In ``sigma`` and in ``lambda`` it is DDIM (2010.02502, sec. 4.3)."""
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)

    def step(i: int, x: Images, prediction: Any) -> Images:
        if rule.view in ("eps", "x0"):  # the same step, in one pass from any head
            return prediction.combine(grid.points[i + 1].alpha, grid.points[i + 1].sigma)
        a, b, _ = rule.step(grid.points[i], grid.points[i + 1])
        return _euler(a, x, b, getattr(prediction, rule.view))

    return grid.solve(denoiser, x, step, callback, condition)


@sampler
def heun(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Heun's trapezoid (2206.00364, alg. 1): ``x' = A x + B ((1 - c) q + c q')``, q' at Euler's end.

    c is 1/2, but in ``lambda``, where the quantity is taken linear in lambda under the exponential.
    """
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)

    def step(i: int, x: Images, prediction: Any) -> Images:
        return trapezoid(rule, denoiser, grid.points[i], grid.points[i + 1], x, prediction, condition)

    return grid.solve(denoiser, x, step, callback, condition)


@sampler
def midpoint(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Explicit midpoint: ``x' = A x + B q``, q at the middle of the step in log-SNR; in ``t``, in t.

    In ``sigma`` this is DPM-Solver-2 with r = 1/2 (2206.00927, alg. 1), in ``lambda`` DPM-Solver++(2S) with r = 1/2
    (2211.01095, alg. 1).
    """
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)
    if rule.inverse is None:
        t = torch.stack(grid.times)
        middles = Levels.at_times(grid.path, (t[1:] + t[:-1]) / 2).points()
    else:
        log_snr = torch.tensor([point.log_snr for point in grid.points], dtype=torch.float64)
        middles = Levels.at(grid.path, (log_snr[1:] + log_snr[:-1]) / 2).points()

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, middle, there = grid.points[i], middles[i], grid.points[i + 1]
        a, b, _ = rule.step(here, middle)
        between = ask(denoiser, _euler(a, x, b, getattr(prediction, rule.view)), middle, condition)
        a, b, _ = rule.step(here, there)
        return _euler(a, x, b * rule.unit(here) / rule.unit(middle), getattr(between, rule.view))

    return grid.solve(denoiser, x, step, callback, condition)


@sampler
def bosh3(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Bogacki and Shampine's third order in three stages (10.1016/0893-9659(89)90079-7), without its error estimate."""
    return _tabulated(BOSH3, denoiser, x, times, callback, condition, coordinate)


@sampler
def rk4(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "sigma",
) -> Images:
    """Kutta's classical fourth order in four stages (Kutta, 1901)."""
    return _tabulated(RK4, denoiser, x, times, callback, condition, coordinate)


class Levels(NamedTuple):
    """The path at many times: what ``Point`` is at one, as float64 tensors of one shape."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    log_snr: Tensor

    @classmethod
    def at(cls, path: Path, log_snr: Tensor) -> Levels:
        """Give the levels of log-SNRs within the path."""
        t = path.time(log_snr).clamp(path.t_min, path.t_max)
        return cls(t, path.alpha(t), path.sigma(t), log_snr)

    @classmethod
    def at_times(cls, path: Path, t: Tensor) -> Levels:
        """Give the levels of times within the path."""
        return cls(t, path.alpha(t), path.sigma(t), path.log_snr(t))

    def points(self) -> list[Point]:
        """One point each."""
        return [Point(*row) for row in zip(*(column.tolist() for column in self), strict=True)]

    @property
    def ratio(self) -> Tensor:
        """``sigma / alpha``."""
        return self.sigma / self.alpha

    @property
    def radius(self) -> Tensor:
        """``hypot(alpha, sigma)``."""
        return torch.hypot(self.alpha, self.sigma)

    @property
    def angle(self) -> Tensor:
        """``atan2(sigma, alpha)``."""
        return torch.atan2(self.sigma, self.alpha)


@dataclass(frozen=True)
class Coordinate:
    """The flow as ``d(x/scale) / d variable = view/unit``, each a function of a ``Point`` or of ``Levels``.

    ``inverse`` gives the log-SNR of a variable; ``t`` has none, since it is no function of the log-SNR alone.
    ``share`` is that of the end in the trapezoid.
    """

    view: Head
    variable: Callable[[Any], Any]
    scale: Callable[[Any], Any]
    inverse: Callable[[Tensor], Tensor] | None
    unit: Callable[[Any], Any] = lambda point: 1.0
    share: Callable[[Point, Point], float] = lambda here, there: 0.5

    def step(self, here: Point, there: Point) -> tuple[float, float, float]:
        """(A, B, c) of Euler's step ``x' = A x + B view`` and the trapezoid; B holds the unit of the step's start."""
        scale = self.scale(there)
        reach = scale * (self.variable(there) - self.variable(here)) / self.unit(here)
        return scale / self.scale(here), reach, self.share(here, there)

    def levels(self, path: Path, variable: Tensor) -> Levels:
        """Give the path where the coordinate has these values."""
        return Levels.at_times(path, variable) if self.inverse is None else Levels.at(path, self.inverse(variable))


def coordinate_named(name: str) -> Coordinate:
    """Look a coordinate up; raises ValueError on a name that is none."""
    if name not in COORDINATES:
        raise ValueError(f"coordinate must be one of {', '.join(COORDINATES)}, got {name!r}")
    return COORDINATES[name]


def trapezoid(
    rule: Coordinate, denoiser: Denoiser, here: Point, there: Point, x: Images, first: Any, condition: Any
) -> Images:
    """Give Heun's step to ``there`` from ``here``, where ``first`` was predicted of x."""
    a, b, c = rule.step(here, there)
    q = getattr(first, rule.view)
    second = ask(denoiser, _euler(a, x, b, q), there, condition)
    # the second quantity is in its own units: v/r has another r
    other = b * c * rule.unit(here) / rule.unit(there)
    return _euler(a, x, b * (1 - c), q).add_(getattr(second, rule.view), alpha=other)


@dataclass(frozen=True)
class Tableau:
    """Butcher's: stage k + 1 at node ``nodes[k]`` from the quantities before it; the first is the step's start.

    ``error`` is the difference of the weights and those of an embedded method, the end's own quantity the last.
    """

    nodes: Sequence[float]
    stages: Sequence[Sequence[float]]
    weights: Sequence[float]
    error: Sequence[float] = ()


RK4 = Tableau((1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
BOSH3 = Tableau((1 / 2, 3 / 4), ((1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9))


def _tabulated(
    tableau: Tableau,
    denoiser: Denoiser,
    x: Images,
    times: Times,
    callback: Callback | None,
    condition: Any,
    coordinate: str,
) -> Images:
    """A tableau's method, its nodes laid out in the coordinate's variable."""
    rule, grid = coordinate_named(coordinate), Grid(denoiser.path, times)
    variable = torch.tensor(
        [math.nan if point.end else rule.variable(point) for point in grid.points], dtype=torch.float64
    )
    inside = {
        node: rule.levels(grid.path, variable[:-1].lerp(variable[1:], node)).points()
        for node in set(tableau.nodes) - {1.0}
    }

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        span = rule.variable(there) - rule.variable(here)
        slopes, units = [getattr(prediction, rule.view)], [rule.unit(here)]

        def moved(point: Point, weights: Sequence[float]) -> Images:
            scale = rule.scale(point)
            terms = ((scale * span * w / u, q) for w, u, q in zip(weights, units, slopes, strict=True))
            return combined((scale / rule.scale(here), x), *terms)

        for node, row in zip(tableau.nodes, tableau.stages, strict=True):
            point = there if node == 1 else inside[node][i]
            stage = ask(denoiser, moved(point, row), point, condition)
            slopes.append(getattr(stage, rule.view))
            units.append(rule.unit(point))
        return moved(there, tableau.weights)

    return grid.solve(denoiser, x, step, callback, condition)


def _euler(a: float, x: Images, b: float, q: Images) -> Images:
    return torch.add(x, q, alpha=b) if a == 1 else (x * a).add_(q, alpha=b)


def _lambda_share(here: Point, there: Point) -> float:
    """``1/(1 - e^-h) - 1/h``, the weight of the end where x0 is linear in lambda."""
    h = there.log_snr - here.log_snr
    # its terms cancel at small h, where the series takes over
    return 0.5 + h / 12 - h**3 / 720 if abs(h) < 0.02 else -1 / math.expm1(-h) - 1 / h


COORDINATES = {
    "sigma": Coordinate("eps", lambda p: p.ratio, lambda p: p.alpha, lambda u: -u.log()),
    "lambda": Coordinate("x0", lambda p: p.alpha / p.sigma, lambda p: p.sigma, lambda u: u.log(), share=_lambda_share),
    "angle": Coordinate("v", lambda p: p.angle, lambda p: p.radius, lambda u: -u.tan().log(), unit=lambda p: p.radius),
    "t": Coordinate("velocity", lambda p: p.t, lambda p: 1.0, None),
}

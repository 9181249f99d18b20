"""Runge-Kutta methods for the probability flow, each in a coordinate of one's choice.

| coordinate | equation                                                              | variable        |
|------------|-----------------------------------------------------------------------|-----------------|
| sigma      | ``d(x/alpha) / d(sigma/alpha) = eps``                                 | sigma/alpha     |
| lambda     | ``d(x/sigma) / d(alpha/sigma) = x0``, alpha/sigma = e^lambda          | alpha/sigma     |
| angle      | ``d(x/r) / d theta = v/r``, r = hypot(alpha, sigma)                   | theta           |
| t          | ``dx/dt = velocity``                                                  | t               |

A step is exact where the quantity on the right is constant over it. All coordinates but ``t`` depend on the log-SNR of
the grid alone: on another path the same grid gives the same samples, rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Head, Prediction
from implementations.diffusion.grid import Point, Points, add_scaled
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import Problem, sampler


@sampler
def euler(problem: Problem, *, coordinate: str = "sigma") -> Images:
    """Explicit Euler on the probability flow, ``x' = A x + B q``, of order 1; in ``sigma`` and ``lambda`` it is DDIM.

    q is what the flow integrates in a coordinate: eps in ``sigma``, x0 in ``lambda``, v in ``angle``, the velocity in
    ``t``; A and B rescale the state and step by the coordinate's variable (2010.02502, sec. 4.3).
    """
    rule = find_coordinate(coordinate)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        if coordinate in ("sigma", "lambda"):  # the same step, in one pass from any head
            return prediction.combine(there.alpha, there.sigma)
        a, b, _ = rule.step(here, there)
        return _advance(a, x, b, rule.read(prediction))

    return problem.solve(step)


@sampler
def heun(problem: Problem, *, coordinate: str = "sigma") -> Images:
    """Heun's trapezoid on the probability flow, ``x' = A x + B ((1 - c) q + c q')``, of order 2 (2206.00364, alg. 1).

    q is what the flow integrates in a coordinate: eps in ``sigma``, x0 in ``lambda``, v in ``angle``, the velocity in
    ``t``; q' is predicted at Euler's end, and A and B rescale the state and step by the coordinate's variable. c is
    1/2, except in ``lambda``, where the quantity is taken to be linear in lambda under the exponential.
    """
    rule = find_coordinate(coordinate)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        return trapezoid(problem, rule, problem.points[i], problem.points[i + 1], x, prediction)

    return problem.solve(step)


@sampler
def midpoint(problem: Problem, *, coordinate: str = "sigma") -> Images:
    """Explicit midpoint on the probability flow: a step by what is predicted halfway, in log-SNR (in ``t``, in t).

    It is of order 2. What is predicted is eps in the coordinate ``sigma``, x0 in ``lambda``, v in ``angle``, the
    velocity in ``t``. In ``sigma`` this is DPM-Solver-2 with r = 1/2 (2206.00927, alg. 1), in ``lambda``
    DPM-Solver++(2S) with r = 1/2 (2211.01095, alg. 1).
    """
    rule = find_coordinate(coordinate)
    if rule.inverse is None:
        t = torch.stack(problem.times)
        middles = Points.at_times(problem.path, (t[1:] + t[:-1]) / 2).unbind()
    else:
        log_snr = torch.tensor([point.log_snr for point in problem.points], dtype=torch.float64)
        middles = Points.at_log_snrs(problem.path, (log_snr[1:] + log_snr[:-1]) / 2).unbind()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, middle, there = problem.points[i], middles[i], problem.points[i + 1]
        a, b, _ = rule.step(here, middle)
        halfway = problem.ask(_advance(a, x, b, rule.read(prediction)), middle)
        a, b, _ = rule.step(here, there)
        return _advance(a, x, b * rule.unit(here) / rule.unit(middle), rule.read(halfway))

    return problem.solve(step)


@sampler
def bosh3(problem: Problem, *, coordinate: str = "sigma") -> Images:
    """Bogacki and Shampine's Runge-Kutta method on the probability flow, order 3 in three stages, at fixed steps.

    It integrates eps over sigma/alpha (``sigma``), x0 over alpha/sigma (``lambda``), v over the angle, or the velocity
    over t (10.1016/0893-9659(89)90079-7); its error estimate is not used.
    """
    return solve_by_tableau(problem, BOSH3, coordinate)


@sampler
def rk4(problem: Problem, *, coordinate: str = "sigma") -> Images:
    """Kutta's classical Runge-Kutta method on the probability flow, order 4 in four stages (Kutta, 1901).

    It integrates eps over sigma/alpha (``sigma``), x0 over alpha/sigma (``lambda``), v over the angle, or the velocity
    over t.
    """
    return solve_by_tableau(problem, RK4, coordinate)


@dataclass(frozen=True)
class Coordinate:
    """A variable in which the probability flow is integrated, as ``d(x/scale) / d variable = view/unit``.

    ``view`` names what is predicted; the others are functions of a ``Point`` or of ``Points`` of the path. ``inverse``
    gives the log-SNR of a variable; ``t`` has none, since it is no function of the log-SNR alone. ``share`` is the
    weight of the end in the trapezoid.
    """

    view: Head
    variable: Callable[[Any], Any]
    scale: Callable[[Any], Any]
    inverse: Callable[[Tensor], Tensor] | None
    unit: Callable[[Any], Any] = lambda point: 1.0
    share: Callable[[Point, Point], float] = lambda here, there: 0.5

    def read(self, prediction: Prediction) -> Images:
        """Give the view of a prediction that is integrated in this coordinate, such as eps in sigma/alpha."""
        view: Images = getattr(prediction, self.view)
        return view

    def step(self, here: Point, there: Point) -> tuple[float, float, float]:
        """Coefficients (A, B, c) of Euler's step and the trapezoid's in this coordinate, between two points.

        ``x' = A x + B q`` and ``x' = A x + B ((1 - c) q + c q')``, where q is the view at the start and q' that at the
        end; B includes one over the unit of the start.
        """
        scale = self.scale(there)
        reach = scale * (self.variable(there) - self.variable(here)) / self.unit(here)
        return scale / self.scale(here), reach, self.share(here, there)

    def points(self, path: Path, variable: Tensor) -> Points:
        """Give the points of the path at which the coordinate's variable has these values."""
        if self.inverse is None:
            return Points.at_times(path, variable)
        return Points.at_log_snrs(path, self.inverse(variable))


def find_coordinate(name: str) -> Coordinate:
    """Look up a coordinate of the flow: sigma, lambda, angle or t; raises ValueError on another name."""
    if name not in COORDINATES:
        raise ValueError(f"coordinate must be one of {', '.join(COORDINATES)}, got {name!r}")
    return COORDINATES[name]


def trapezoid(
    problem: Problem, rule: Coordinate, here: Point, there: Point, x: Images, prediction: Prediction
) -> Images:
    """Take Heun's step of the flow from ``here`` to ``there``, in the coordinate ``rule``.

    One more evaluation, at Euler's end. ``prediction`` is that at x and ``here``.
    """
    a, b, c = rule.step(here, there)
    q = rule.read(prediction)
    end = problem.ask(_advance(a, x, b, q), there)
    # the second quantity is in its own units: v/r has another r
    other = b * c * rule.unit(here) / rule.unit(there)
    return _advance(a, x, b * (1 - c), q).add_(rule.read(end), alpha=other)


@dataclass(frozen=True)
class Tableau:
    """The Butcher tableau of an explicit Runge-Kutta method.

    Stage k + 1 stands at ``nodes[k]`` and follows by the row ``stages[k]`` from the quantities of the stages before it;
    the first stage is the start of the step. ``weights`` end the step. ``error`` holds the weights less those of an
    embedded method, the last of them for the quantity at the end of the step.
    """

    nodes: Sequence[float]
    stages: Sequence[Sequence[float]]
    weights: Sequence[float]
    error: Sequence[float] = ()


EULER = Tableau((), (), (1.0,))
HEUN = Tableau((1.0,), ((1.0,),), (1 / 2, 1 / 2))
KUTTA3 = Tableau((1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6))
BOSH3 = Tableau((1 / 2, 3 / 4), ((1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9))
RK4 = Tableau((1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def solve_by_tableau(problem: Problem, tableau: Tableau, coordinate: str) -> Images:
    """Run the Runge-Kutta method of a tableau on the probability flow, in a coordinate: sigma, lambda, angle or t.

    Nodes are shares of the step in the coordinate's variable.
    """
    rule = find_coordinate(coordinate)
    variable = torch.tensor(
        [math.nan if point.end else rule.variable(point) for point in problem.points], dtype=torch.float64
    )
    inside = {
        node: rule.points(problem.path, variable[:-1].lerp(variable[1:], node)).unbind()
        for node in set(tableau.nodes) - {1.0}
    }

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        span = rule.variable(there) - rule.variable(here)
        slopes = [(rule.unit(here), rule.read(prediction))]
        for node, row in zip(tableau.nodes, tableau.stages, strict=True):
            point = there if node == 1 else inside[node][i]
            stage = problem.ask(add_slopes(rule, here, point, x, span, row, slopes), point)
            slopes.append((rule.unit(point), rule.read(stage)))
        return add_slopes(rule, here, there, x, span, tableau.weights, slopes)

    return problem.solve(step)


def add_slopes(
    rule: Coordinate,
    here: Point,
    there: Point,
    x: Images,
    span: float,
    weights: Sequence[float],
    slopes: Sequence[tuple[float, Images]],
) -> Images:
    """Advance a state by the slopes of a Runge-Kutta method's stages, in the coordinate ``rule``.

    ``x'/scale' = x/scale + span sum_k w_k q_k/u_k`` over slopes (u, q), each the unit and the view of a stage; ``span``
    is the step in the coordinate's variable.
    """
    scale = rule.scale(there)
    terms = ((scale * span * w / u, q) for w, (u, q) in zip(weights, slopes, strict=True))
    return add_scaled((scale / rule.scale(here), x), *terms)


def _advance(a: float, x: Images, b: float, q: Images) -> Images:
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

"""Solvers that choose their own steps, separately for each sample: time, step and error have one value per sample.

The solver stops at every time of the grid, where a callback may look, and chooses the steps in between: a grid of two
times leaves all of them to it. A step of the grid that touches an end of the path stays one step. The whole batch is
evaluated until its last sample has arrived; samples that arrive earlier are evaluated in vain and do not move.

A trial from x to x' with the estimated error e is accepted where ``rms(e/r' / max(atol, rtol max(|x/r|, |x'/r'|)))``
is at most 1, with r = hypot(alpha, sigma): in these units it is the same on every path, and on a variance-preserving
one it is that of 2206.00927, app. C. The next step is ``0.9 error^(-1/order)`` of this one, within [0.2, 5].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point, Points
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.runge_kutta import Coordinate, Tableau, find_coordinate
from implementations.samplers.stochastic import check_eta, check_s_noise

PerSample: TypeAlias = Tensor  # (n,), float64 on the CPU
Batch: TypeAlias = Tensor  # (n, *shape), which is not spelt out: the tests would check it some 10^5 times
Ends: TypeAlias = tuple[Points, Points]  # of a step
Evaluate: TypeAlias = Callable[[Batch, Points], Batch]  # the state and where it is -> the quantity to integrate

# Dormand and Prince's fifth order with an embedded fourth (10.1016/0771-050X(80)90013-3)
DOPRI5 = Tableau(
    (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)


@sampler
def dopri5(
    problem: Problem,
    *,
    coordinate: str = "angle",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_evaluations: int = 10_000,
) -> Images:
    """Dormand and Prince's pair of orders 5 and 4 on the probability flow, with steps of its own for each sample.

    A step is accepted where the root mean square of its estimated error, over ``max(atol, rtol |x|)`` in units of
    hypot(alpha, sigma), is at most 1 (2011.13456, sec. 4.3). The default coordinate is the one that needs the fewest
    evaluations at a given tolerance on smooth data. Raises ValueError on options out of range, RuntimeError beyond
    ``max_evaluations`` of the denoiser, and FloatingPointError where a step is too short to be told from none.
    """
    return _integrate(problem, _Dopri5(find_coordinate(coordinate)), "dopri5", rtol, atol, max_evaluations)


@sampler
def dpm_adaptive(
    problem: Problem,
    *,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    max_evaluations: int = 10_000,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Images:
    """DPM-Solver-12 or, with order 3, DPM-Solver-23, with its own steps in log-SNR per sample (2206.00927, app. C).

    A step is accepted where the root mean square of the difference of its two methods, over ``max(atol, rtol |x|)`` in
    units of hypot(alpha, sigma), is at most 1. With ``eta`` in (0, 1] each step goes to below the next noise level,
    never below the last of the grid, and noise times ``s_noise`` lifts it back, as k-diffusion does. Raises ValueError
    on options out of range and on ascending times unless eta is 0, RuntimeError beyond ``max_evaluations`` of the
    denoiser, and FloatingPointError where a step is too short to be told from none.
    """
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, got {order}")
    eta, s_noise = check_eta(eta, 1.0), check_s_noise(s_noise)
    if eta:
        problem.require_descending()
    return _integrate(problem, _DpmSolver(order, eta > 0), "dpm_adaptive", rtol, atol, max_evaluations, eta, s_noise)


class _Pair(ABC):
    """A method and one of lower order with the same stages, for a quantity q of the flow in some variable u."""

    order: int  # of the step's error estimate

    @abstractmethod
    def variable(self, point: Point) -> float:
        """Give u at a point."""

    @abstractmethod
    def points(self, path: Path, u: PerSample) -> Points:
        """Give the points of the path at these u."""

    @abstractmethod
    def quantity(self, prediction: Prediction, points: Points) -> Batch:
        """Give q of a prediction at these points."""

    @abstractmethod
    def first(self, x: Batch, here: Points, q: Batch) -> PerSample:
        """Choose the length in u of the first step."""

    @abstractmethod
    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        """Step by ``span`` and give the state there and its estimated error; the last evaluation is at its end."""


@dataclass(frozen=True)
class _Dopri5(_Pair):
    """DOPRI5 in a coordinate."""

    rule: Coordinate
    order: int = 5

    def variable(self, point: Point) -> float:
        return float(self.rule.variable(point))

    def points(self, path: Path, u: PerSample) -> Points:
        return self.rule.points(path, u)

    def quantity(self, prediction: Prediction, points: Points) -> Batch:
        return _scale_each(self.rule.read(prediction), 1 / self.rule.unit(points))

    def first(self, x: Batch, here: Points, q: Batch) -> PerSample:
        """A hundredth of a step that would change the state by its own size (Hairer et al., 1993, sec. II.4)."""
        return 0.01 * _rms(_scale_each(x, 1 / self.rule.scale(here))) / _rms(q)

    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        slopes, start = [q], _scale_each(x, 1 / self.rule.scale(ends[0]))
        for node, row in zip((*DOPRI5.nodes, 1.0), (*DOPRI5.stages, DOPRI5.weights), strict=True):
            points = self.points(path, u + node * span) if node < 1 else ends[1]
            state = _scale_each(start + _scale_each(_weigh(row, slopes), span), self.rule.scale(points))
            slopes.append(evaluate(state, points))
        return state, _scale_each(_weigh(DOPRI5.error, slopes), self.rule.scale(points) * span)


@dataclass(frozen=True)
class _DpmSolver(_Pair):
    """Exponential integrators on eps of order k, with stages at multiples of h/k, and of the order below."""

    order: int
    noisy: bool = False  # noise moves the end of a step, which is asked afterwards

    def variable(self, point: Point) -> float:
        return point.log_snr

    def points(self, path: Path, u: PerSample) -> Points:
        return Points.at_log_snrs(path, u)

    def quantity(self, prediction: Prediction, points: Points) -> Batch:
        return prediction.eps

    def first(self, x: Batch, here: Points, q: Batch) -> PerSample:
        return torch.full_like(here.t, 0.05)

    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        h, (here, there) = span, ends

        def move(points: Points, share: float, other: Batch | None = None, weight: Tensor | None = None) -> Batch:
            """Go to ``share`` of the step with eps = q, and ``weight`` times the difference of ``other`` and q."""
            total = _scale_each(x, points.alpha / here.alpha) - _scale_each(q, points.sigma * torch.expm1(share * h))
            return total if other is None else total - _scale_each(other - q, points.sigma * weight)

        r = 1 / self.order
        points = self.points(path, u + r * h)
        second = evaluate(move(points, r), points)
        slope = torch.expm1(h) / (2 * r)
        if self.order == 2:
            low, high = move(there, 1.0), move(there, 1.0, second, slope)
        else:
            points = self.points(path, u + 2 * r * h)
            third = evaluate(move(points, 2 * r, second, 2 * _ramp(2 * r * h)), points)
            low, high = move(there, 1.0, second, slope), move(there, 1.0, third, 1.5 * _ramp(h))
        if not self.noisy:
            evaluate(high, there)
        return high, high - low


def _integrate(
    problem: Problem,
    pair: _Pair,
    name: str,
    rtol: float,
    atol: float,
    max_evaluations: int,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Images:
    for option, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{option} must be at least 0 and finite, got {value}")
    if rtol == atol == 0:
        raise ValueError("rtol or atol must be positive, got 0 and 0")
    max_evaluations = check_integer("max_evaluations", max_evaluations, 1)
    path = problem.path
    exponent = -1 / (1.5 if eta else pair.order)  # k-diffusion's with noise
    calls, length, latest = 0, None, None  # the steps' length goes on from one time of the grid to the next

    def evaluate(x: Batch, points: Points) -> Batch:
        nonlocal calls, latest
        calls += 1
        if calls > max_evaluations:
            raise RuntimeError(
                f"{name} took more than {max_evaluations} evaluations: rtol {rtol} and atol {atol} ask for more, or "
                "the denoiser is not smooth"
            )
        latest = pair.quantity(problem.denoiser(x, points.t, problem.condition), points)
        return latest

    def step(i: int, x: Batch, prediction: Prediction) -> Batch:
        nonlocal length
        here, end = problem.points[i], torch.tensor(pair.variable(problem.points[i + 1]), dtype=torch.float64)
        u = torch.full((len(x),), pair.variable(here), dtype=torch.float64)
        points = Points(*(torch.full_like(u, value) for value in here))
        q = pair.quantity(prediction, points)
        if length is None:
            length = pair.first(x, points, q)
        trials = 0  # which number the draws of a step of the grid, so that a sample's do not depend on its neighbours
        while bool((u != end).any()):
            left = end - u
            # a rest that is hardly longer than the step is taken at once, so that no sliver remains
            reach = torch.where(left.abs() <= 1.01 * length, left, left.sign() * length)
            target = torch.where(reach == left, end, u + reach)
            there = pair.points(path, target)
            aim = _aim_below(points, there, eta, problem.points[-1].log_snr) if eta else there
            span = aim.log_snr - u if eta else target - u
            new, error = pair.trial(evaluate, path, x, q, u, span, (points, aim))
            size = torch.maximum(*(_scale_each(v.abs(), 1 / at.radius) for v, at in ((x, points), (new, aim))))
            amount = _rms(_scale_each(error, 1 / aim.radius) / (rtol * size).clamp(min=atol))
            moving = left != 0
            if not bool(amount[moving].isfinite().all()):
                return torch.where(_column(amount.isfinite(), x), x, math.nan)
            done = amount <= 1
            if eta and bool((done & moving).any()):
                up = there.sigma * (-torch.expm1(2 * (there.log_snr - aim.log_snr))).sqrt()
                new = new + _scale_each(problem.noise(i * max_evaluations + trials, x), s_noise * up)
                evaluate(new, there)
            trials += 1
            short = moving & ~done & (reach.abs() <= 4 * torch.finfo(torch.float64).eps * u.abs())
            if bool(short.any()):
                where = float(points.t[short][0])
                raise FloatingPointError(
                    f"{name}: a step at t = {where:.6g} is too short to be told from none: rtol {rtol} and atol {atol} "
                    "ask for more than the denoiser's precision gives, or it is not smooth"
                )
            x = torch.where(_column(done, x), new, x)
            q = torch.where(_column(done, x), latest, q)
            u = torch.where(done, target, u)
            points = Points(*(torch.where(done, after, before) for after, before in zip(there, points, strict=True)))
            next_length = reach.abs() * (0.9 * amount**exponent).clamp(0.2, 5.0)
            # a step that the grid has cut short says nothing against the longer one
            cut = done & (reach == left)
            next_length = torch.where(cut, torch.maximum(length, next_length), next_length)
            length = torch.where(moving, next_length, length)
        return x

    return problem.solve(step)


def _ramp(h: PerSample) -> PerSample:
    """``(e^h - 1)/h - 1``; its terms cancel at small h, where the series takes over."""
    small = h.abs() < 1e-3
    return torch.where(small, h / 2 + h**2 / 6 + h**3 / 24, torch.expm1(h) / torch.where(small, 1.0, h) - 1)


def _column(values: Tensor, x: Batch) -> Tensor:
    return values.to(x.device).reshape(-1, *[1] * (x.ndim - 1))


def _scale_each(x: Batch, factor: float | PerSample) -> Batch:
    """Multiply each sample by its own factor."""
    return x * factor if isinstance(factor, float) else x * _column(factor, x).to(x.dtype)


def _aim_below(here: Points, there: Points, eta: float, last: float) -> Points:
    """Where an ancestral step goes, per sample, below ``there`` but not beyond the log-SNR ``last``; on its alpha.

    In the level r = sigma/alpha it is ``r_down = sqrt(r'^2 - r_up^2)`` with ``r_up = eta r' sqrt(1 - r'^2/r^2)``.
    """
    kept = (1 + eta**2 * torch.expm1(2 * (here.log_snr - there.log_snr))).sqrt()
    log_snr = (there.log_snr - kept.log()).clamp(max=last)
    return Points(there.t, there.alpha, there.alpha * torch.exp(-log_snr), log_snr)


def _weigh(weights: Sequence[float], terms: Sequence[Batch]) -> Batch:
    total = terms[0] * weights[0]
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        if weight:
            total.add_(term, alpha=weight)
    return total


def _rms(x: Batch) -> PerSample:
    return x.reshape(len(x), -1).double().square().mean(1).sqrt().cpu()

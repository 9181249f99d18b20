"""Solvers that choose their steps, each sample its own: time, step and error are one value a sample.

Every time of the grid is visited, since a callback may ask for it, and between two of them the steps are chosen: two
times leave all to the solver. A step that touches an end of the path remains the grid's own. The whole batch is
evaluated at once until its last sample is there; those that are there already are evaluated in vain and stay.

A trial from x to x' with the estimated error e is accepted where ``rms(e/r' / max(atol, rtol max(|x/r|, |x'/r'|)))``
is at most 1, with r = hypot(alpha, sigma): in these units it is the same on every path, and on a variance-preserving
one it is that of 2206.00927, app. C. The next step is ``0.9 error^(-1/order)`` of this one, within [0.2, 5].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, Point
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import sampler
from implementations.samplers.runge_kutta import Coordinate, Levels, Tableau, coordinate_named

Times: TypeAlias = Float[Tensor, " points"]
PerSample: TypeAlias = Tensor  # (n,), float64 on the CPU
Batch: TypeAlias = Tensor  # (n, *shape); not by its shape, which the tests would check some 10^5 times
Ends: TypeAlias = tuple[Levels, Levels]  # of a step
Evaluate: TypeAlias = Callable[[Batch, Levels], Batch]  # the state and where it is -> the quantity integrated

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
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: str = "angle",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_evaluations: int = 10_000,
) -> Images:
    """Dormand and Prince's pair of orders 5 and 4, on the probability flow (2011.13456, sec. 4.3).

    The default coordinate is the one that asks for the fewest evaluations at a tolerance on smooth data.

    Raises ValueError on options out of range, RuntimeError beyond ``max_evaluations`` of the denoiser, and
    FloatingPointError where a step is too short to be told from none.
    """
    pair = _Dopri5(coordinate_named(coordinate))
    return _integrate(pair, "dopri5", denoiser, x, times, callback, condition, rtol, atol, max_evaluations)


@sampler
def dpm_adaptive(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    max_evaluations: int = 10_000,
) -> Images:
    """DPM-Solver-12 or, with order 3, DPM-Solver-23, in the log-SNR (2206.00927, app. C).

    Raises as ``dopri5``.
    """
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, got {order}")
    pair = _DpmSolver(order)
    return _integrate(pair, "dpm_adaptive", denoiser, x, times, callback, condition, rtol, atol, max_evaluations)


class _Pair(ABC):
    """A method and a lower one of the same stages, on a quantity q of the flow in some variable u."""

    order: int  # of the step's error estimate

    @abstractmethod
    def variable(self, point: Point) -> float:
        """u."""

    @abstractmethod
    def levels(self, path: Path, u: PerSample) -> Levels:
        """Its inverse."""

    @abstractmethod
    def quantity(self, prediction: Prediction, levels: Levels) -> Batch:
        """q."""

    @abstractmethod
    def first(self, x: Batch, here: Levels, q: Batch) -> PerSample:
        """Length of the first step."""

    @abstractmethod
    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        """The state after ``span`` and its estimated error; the last evaluation is there."""


@dataclass(frozen=True)
class _Dopri5(_Pair):
    """DOPRI5 in a coordinate."""

    rule: Coordinate
    order: int = 5

    def variable(self, point: Point) -> float:
        return float(self.rule.variable(point))

    def levels(self, path: Path, u: PerSample) -> Levels:
        return self.rule.levels(path, u)

    def quantity(self, prediction: Prediction, levels: Levels) -> Batch:
        return _each(getattr(prediction, self.rule.view), 1 / self.rule.unit(levels))

    def first(self, x: Batch, here: Levels, q: Batch) -> PerSample:
        """A hundredth of what would change the state by its own size (Hairer, Norsett and Wanner, 1993, sec. II.4)."""
        return 0.01 * _rms(_each(x, 1 / self.rule.scale(here))) / _rms(q)

    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        slopes, start = [q], _each(x, 1 / self.rule.scale(ends[0]))
        for node, row in zip((*DOPRI5.nodes, 1.0), (*DOPRI5.stages, DOPRI5.weights), strict=True):
            levels = self.levels(path, u + node * span) if node < 1 else ends[1]
            state = _each(start + _each(_weighted(row, slopes), span), self.rule.scale(levels))
            slopes.append(evaluate(state, levels))
        return state, _each(_weighted(DOPRI5.error, slopes), self.rule.scale(levels) * span)


@dataclass(frozen=True)
class _DpmSolver(_Pair):
    """Exponential integrators on eps: order k, its stages at multiples of h/k, and the order below."""

    order: int

    def variable(self, point: Point) -> float:
        return point.log_snr

    def levels(self, path: Path, u: PerSample) -> Levels:
        return Levels.at(path, u)

    def quantity(self, prediction: Prediction, levels: Levels) -> Batch:
        return prediction.eps

    def first(self, x: Batch, here: Levels, q: Batch) -> PerSample:
        return torch.full_like(here.t, 0.05)

    def trial(
        self, evaluate: Evaluate, path: Path, x: Batch, q: Batch, u: PerSample, span: PerSample, ends: Ends
    ) -> tuple[Batch, Batch]:
        h, (here, there) = span, ends

        def moved(levels: Levels, share: float, other: Batch | None = None, weight: Tensor | None = None) -> Batch:
            """To ``share`` of the step with eps constant, and ``weight`` of the ``other`` quantity's difference."""
            total = _each(x, levels.alpha / here.alpha) - _each(q, levels.sigma * torch.expm1(share * h))
            return total if other is None else total - _each(other - q, levels.sigma * weight)

        r = 1 / self.order
        levels = self.levels(path, u + r * h)
        second = evaluate(moved(levels, r), levels)
        slope = torch.expm1(h) / (2 * r)
        if self.order == 2:
            low, high = moved(there, 1.0), moved(there, 1.0, second, slope)
        else:
            levels = self.levels(path, u + 2 * r * h)
            third = evaluate(moved(levels, 2 * r, second, 2 * _ramp(2 * r * h)), levels)
            low, high = moved(there, 1.0, second, slope), moved(there, 1.0, third, 1.5 * _ramp(h))
        evaluate(high, there)
        return high, high - low


def _integrate(
    pair: _Pair,
    name: str,
    denoiser: Denoiser,
    x: Images,
    times: Times,
    callback: Callback | None,
    condition: Any,
    rtol: float,
    atol: float,
    max_evaluations: int,
) -> Images:
    for option, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{option} must be at least 0 and finite, got {value}")
    if rtol == atol == 0:
        raise ValueError("rtol or atol must be positive, got 0 and 0")
    max_evaluations = whole("max_evaluations", max_evaluations, 1)
    grid, path = Grid(denoiser.path, times), denoiser.path
    calls, length, latest = 0, None, None  # the steps' length goes on from one time of the grid to the next

    def evaluate(x: Batch, levels: Levels) -> Batch:
        nonlocal calls, latest
        calls += 1
        if calls > max_evaluations:
            raise RuntimeError(
                f"{name} took more than {max_evaluations} evaluations: rtol {rtol} and atol {atol} ask for more, or "
                "the denoiser is not smooth"
            )
        latest = pair.quantity(denoiser(x, levels.t, condition), levels)
        return latest

    def step(i: int, x: Batch, prediction: Prediction) -> Batch:
        nonlocal length
        here, end = grid.points[i], torch.tensor(pair.variable(grid.points[i + 1]), dtype=torch.float64)
        u = torch.full((len(x),), pair.variable(here), dtype=torch.float64)
        levels = Levels(*(torch.full_like(u, value) for value in here))
        q = pair.quantity(prediction, levels)
        if length is None:
            length = pair.first(x, levels, q)
        while bool((u != end).any()):
            left = end - u
            # a rest that is hardly longer than the step is taken at once, so that no sliver remains
            reach = torch.where(left.abs() <= 1.01 * length, left, left.sign() * length)
            target = torch.where(reach == left, end, u + reach)
            there = pair.levels(path, target)
            new, error = pair.trial(evaluate, path, x, q, u, target - u, (levels, there))
            size = torch.maximum(*(_each(v.abs(), 1 / at.radius) for v, at in ((x, levels), (new, there))))
            amount = _rms(_each(error, 1 / there.radius) / (rtol * size).clamp(min=atol))
            moving = left != 0
            if not bool(amount[moving].isfinite().all()):
                return torch.where(_column(amount.isfinite(), x), x, math.nan)
            done = amount <= 1
            short = moving & ~done & (reach.abs() <= 4 * torch.finfo(torch.float64).eps * u.abs())
            if bool(short.any()):
                where = float(levels.t[short][0])
                raise FloatingPointError(
                    f"{name}: a step at t = {where:.6g} is too short to be told from none: rtol {rtol} and atol {atol} "
                    "ask for more than the denoiser's precision gives, or it is not smooth"
                )
            x = torch.where(_column(done, x), new, x)
            q = torch.where(_column(done, x), latest, q)
            u = torch.where(done, target, u)
            levels = Levels(*(torch.where(done, after, before) for after, before in zip(there, levels, strict=True)))
            next_length = reach.abs() * (0.9 * amount ** (-1 / pair.order)).clamp(0.2, 5.0)
            # what the grid has cut short says nothing against the longer step
            cut = done & (reach == left)
            next_length = torch.where(cut, torch.maximum(length, next_length), next_length)
            length = torch.where(moving, next_length, length)
        return x

    return grid.solve(denoiser, x, step, callback, condition)


def _ramp(h: PerSample) -> PerSample:
    """``(e^h - 1)/h - 1``; its terms cancel at small h, where the series takes over."""
    small = h.abs() < 1e-3
    return torch.where(small, h / 2 + h**2 / 6 + h**3 / 24, torch.expm1(h) / torch.where(small, 1.0, h) - 1)


def _column(values: Tensor, x: Batch) -> Tensor:
    return values.to(x.device).reshape(-1, *[1] * (x.ndim - 1))


def _each(x: Batch, factor: float | PerSample) -> Batch:
    """Each sample times its own factor."""
    return x * factor if isinstance(factor, float) else x * _column(factor, x).to(x.dtype)


def _weighted(weights: Sequence[float], terms: Sequence[Batch]) -> Batch:
    total = terms[0] * weights[0]
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        if weight:
            total.add_(term, alpha=weight)
    return total


def _rms(x: Batch) -> PerSample:
    return x.reshape(len(x), -1).double().square().mean(1).sqrt().cpu()

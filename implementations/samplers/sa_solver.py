"""SA-Solver: stochastic Adams methods for the reverse SDE, with a chosen rate of noise at each level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import (
    FormName,
    History,
    check_order,
    exact_moments,
    find_form,
    flat_moments,
)
from implementations.samplers.stochastic import ReverseSde, reverse_sde

Tau: TypeAlias = float | Callable[[float], float]


class _LastStep(NamedTuple):
    """A step before the model saw its end: what the corrector needs to take it again."""

    i: int
    sde: ReverseSde
    start: Images
    noise: Images | None


def _order(*, tau: Tau, order: int, corrector_order: int | None, **_: Any) -> int:
    corrected = order if corrector_order is None else corrector_order
    flow = min(order + 1, corrected) if corrected else order
    return min(flow, 2) if tau else flow


def _count_evaluations(touching: list[bool], *, pece: bool, **_: Any) -> int:
    """With ``pece``, every state that a step inside the path has led to is asked again, corrected."""
    return len(touching) + (touching[:-1].count(False) if pece else 0)


@sampler(count=_count_evaluations, order_of=_order)
def sa_solver(
    problem: Problem,
    *,
    order: int = 2,
    corrector_order: int | None = None,
    tau: Tau = 1.0,
    interval: tuple[float, float] = (0.0, math.inf),
    prediction: FormName = "data",
    few_steps: bool = False,
    pece: bool = False,
) -> Images:
    """SA-Solver: stochastic Adams methods for the reverse SDE.

    Predict, evaluate, correct, at one evaluation per step (2309.05019). The predictor is the polynomial through the
    last ``order`` predictions, 1 to 4. The corrector takes the step again with the same noise, by the last
    ``corrector_order`` predictions including that at the step's end: as many as the predictor's by default, 0 for no
    corrector. The first steps use the predictions there are, and the last step is not corrected. ``tau`` is a number or
    a function of the level sigma/alpha, read at the start of a step and constant over it, and 0 where that level lies
    outside ``interval`` (the paper's is a piece of constant tau). The rate of noise is tau^2. ``few_steps`` takes 1/2
    for the kernel's first moment where two values are used, as diffusers and the authors' code for few steps do.
    ``pece`` evaluates again at each corrected state, which makes two evaluations per step but the first, and goes on
    with that prediction; then the last state before sigma = 0 is corrected, too. At tau = 0 it is an Adams method of
    the flow, of the predictor's order, or one more if the corrector has one value more; with noise it is of weak order
    2 at most. Raises ValueError on other orders, on ``pece`` without a corrector, where
    tau is negative, and on ascending times unless it is 0.
    """
    order = check_order(order, 4)
    corrected = order if corrector_order is None else check_integer("corrector_order", corrector_order, 0, 4)
    find_form(prediction)
    if not 0 <= interval[0] <= interval[1]:
        raise ValueError(f"interval must be two levels, 0 <= low <= high, got {interval}")
    if pece and not corrected:
        raise ValueError("pece must have a corrector, got corrector_order 0")
    if tau != 0:
        problem.require_descending()
    rates = [_rate(tau, interval, point) for point in problem.points[:-1]]
    sdes = {rate: reverse_sde(prediction, rate) for rate in rates}
    moments, history = flat_moments if few_steps else exact_moments, History(max(order, corrected))
    last: _LastStep | None = None

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        nonlocal last
        here, there = problem.points[i], problem.points[i + 1]
        if here.end:
            return prediction.combine(there.alpha, there.sigma)
        sde = sdes[rates[i]]
        values = history.push(i, here.log_snr, sde.form.read(prediction))
        if corrected and last is not None and last.i == i - 1:
            x = last.sde.form.integrate(problem.points[i - 1], here, last.start, values[:corrected], moments)
            x = x if last.noise is None else x.add_(last.noise)
            if pece:
                prediction = problem.ask(x, here)
                values[0] = here.log_snr, sde.form.read(prediction)
        if there.end:
            return prediction.combine(there.alpha, there.sigma)
        deviation = sde.deviation(here, there)
        fresh = problem.noise(i, x) * deviation if deviation else None
        y = sde.form.integrate(here, there, x, values[:order], moments)
        if corrected:
            last = _LastStep(i, sde, x, fresh)
        return y if fresh is None else y.add_(fresh)

    return problem.solve(step, regular=pece)


def _rate(tau: Tau, interval: tuple[float, float], point: Point) -> float:
    """``tau^2`` at a point: the rate of noise."""
    if not interval[0] <= point.ratio <= interval[1]:
        return 0.0
    value = float(tau(point.ratio) if callable(tau) else tau)
    if not 0 <= value < math.inf:
        raise ValueError(f"tau must be finite and not negative, got {value} at sigma/alpha = {point.ratio:.6g}")
    return value**2

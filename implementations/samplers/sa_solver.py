"""SA-Solver: stochastic Adams methods for the reverse SDE, with as much noise at each level as one likes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, Point, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import History, checked_order, exact, flat, form_named
from implementations.samplers.stochastic import Law, law_of

Tau: TypeAlias = float | Callable[[float], float]


class _Done(NamedTuple):
    """The last step before the model saw its end: what a corrector needs to do it again."""

    i: int
    law: Law
    start: Images
    noise: Images | None


def _order(*, tau: Tau, order: int, corrector_order: int | None, **_: Any) -> int:
    corrected = order if corrector_order is None else corrector_order
    flow = min(order + 1, corrected) if corrected else order
    return min(flow, 2) if tau else flow


@sampler
@order_of(_order)
def sa_solver(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 2,
    corrector_order: int | None = None,
    tau: Tau = 1.0,
    interval: tuple[float, float] = (0.0, math.inf),
    prediction: Literal["data", "noise"] = "data",
    few_steps: bool = False,
) -> Images:
    """SA-Solver: predict, evaluate, correct, at one evaluation a step (2309.05019).

    The predictor is the polynomial through the last ``order`` predictions, 1 to 4. The corrector does the step again
    with the same noise and the last ``corrector_order`` of them, its end's included: as many as the predictor's by
    default, 0 for none. The first steps use what there is, and the last is not corrected.
    ``tau`` is a number or a function of the level sigma/alpha, read at a step's start and constant over it, and 0
    where that level lies outside ``interval`` (the paper's is a piece of constant tau); noise comes at the rate tau^2.
    ``few_steps`` takes 1/2 for the kernel's first moment where two values are used, as the authors' code for few
    steps and diffusers do. At tau = 0 it is an Adams method of the flow, of the predictor's order, and of one more if
    the corrector has one value more; with noise it is of weak order 2 at most. Raises ValueError on other orders, where
    tau is negative, and on ascending times unless it is 0.
    """
    order = checked_order(order, 4)
    corrected = order if corrector_order is None else whole("corrector_order", corrector_order, 0, 4)
    form_named(prediction)
    if not 0 <= interval[0] <= interval[1]:
        raise ValueError(f"interval must be two levels, 0 <= low <= high, got {interval}")
    grid = Grid(denoiser.path, times, "either" if tau == 0 else "down")
    rates = [_rate(tau, interval, point) for point in grid.points[:-1]]
    laws = {rate: law_of(prediction, rate) for rate in rates}
    moments, history = flat if few_steps else exact, History(max(order, corrected))
    done: _Done | None = None

    def step(i: int, x: Images, prediction: Any) -> Images:
        nonlocal done
        here, there = grid.points[i], grid.points[i + 1]
        law = laws[rates[i]]
        values = history.push(i, here.log_snr, law.form.read(prediction))
        if corrected and done is not None and done.i == i - 1:
            x = done.law.form.integrate(grid.points[i - 1], here, done.start, values[:corrected], moments)
            x = x if done.noise is None else x.add_(done.noise)
        deviation = law.deviation(here, there)
        fresh = noise(i, x) * deviation if deviation else None
        moved = law.form.integrate(here, there, x, values[:order], moments)
        if corrected:
            done = _Done(i, law, x, fresh)
        return moved if fresh is None else moved.add_(fresh)

    return grid.solve(denoiser, x, step, callback, condition)


def _rate(tau: Tau, interval: tuple[float, float], point: Point) -> float:
    """``tau^2`` at a point: the rate of noise."""
    if not interval[0] <= point.ratio <= interval[1]:
        return 0.0
    value = float(tau(point.ratio) if callable(tau) else tau)
    if not 0 <= value < math.inf:
        raise ValueError(f"tau must be finite and not negative, got {value} at sigma/alpha = {point.ratio:.6g}")
    return value**2

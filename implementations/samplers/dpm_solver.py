"""DPM-Solver on the predicted noise and DPM-Solver++ on the predicted data, single-step and multistep."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import (
    FORMS,
    Form,
    Moments,
    check_order,
    exact_moments,
    midpoint_moments,
    multistep,
)

SolverType = Literal["midpoint", "heun"]


def _single_step_order(*, r2: float, **_: Any) -> int:
    return 3 if math.isclose(r2, 2 / 3) else 2


def _multistep_order(*, half_curvature: bool, lower_order_final: bool, order: int = 3, **_: Any) -> int:
    return min(order, 2) if half_curvature or lower_order_final else order


@sampler
def dpm_solver_2(problem: Problem, *, r1: float = 0.5, solver_type: SolverType = "midpoint") -> Images:
    """DPM-Solver-2, single-step on the predicted noise, with one stage at ``lambda + r1 h``.

    h is the step of lambda = log(alpha/sigma) (2206.00927, alg. 1 at r1 = 1/2). ``solver_type`` is how the line through
    both predictions is integrated under the exponential kernel: ``midpoint`` puts half the kernel's mass in place of
    its first moment, as the paper does, ``heun`` takes the exact moment. Raises ValueError on an r1 outside (0, 1] and
    on another solver_type.
    """
    return singlestep(problem, FORMS["noise"], (r1,), solver_type)


@sampler(order_of=_single_step_order)
def dpm_solver_3(
    problem: Problem, *, r1: float = 1 / 3, r2: float = 2 / 3, solver_type: SolverType = "midpoint"
) -> Images:
    """DPM-Solver-3, single-step on the predicted noise, with stages at ``lambda + r1 h`` and ``lambda + r2 h``.

    h is the step of lambda = log(alpha/sigma) (2206.00927, alg. 2). ``solver_type``: ``midpoint`` ends with the line
    through the start and the second stage, ``heun`` with the parabola through all three. Both are of order 3 where ``r2
    = 2/3``, whatever r1, and of order 2 otherwise. Raises ValueError unless 0 < r1 < r2 <= 1, and on another
    solver_type.
    """
    return singlestep(problem, FORMS["noise"], (r1, r2), solver_type)


@sampler(order_of=_multistep_order)
def dpm_solver_multistep(
    problem: Problem,
    *,
    order: int = 2,
    solver_type: SolverType = "midpoint",
    half_curvature: bool = False,
    lower_order_final: bool = False,
) -> Images:
    """Multistep DPM-Solver on the predicted noise: the polynomial through the last ``order`` predictions, 1 to 3.

    It is integrated under the exponential kernel of the log-SNR (2211.01095, sec. 4.2). ``solver_type`` says how two
    predictions are used: ``midpoint`` puts half the kernel's mass in place of its first moment, ``heun`` takes the
    exact moment. ``half_curvature`` halves the second moment, which makes order 3 order 2: the authors' code and
    diffusers do so, since they take the second divided difference for the second derivative, which is twice that.
    ``lower_order_final`` uses no more predictions than steps are left. Raises ValueError on another order or
    solver_type.
    """
    moments = moments_of(solver_type, half_curvature)
    return multistep(problem, FORMS["noise"], check_order(order, 3), moments, lower_order_final)


@sampler
def dpmpp_2s(problem: Problem, *, r1: float = 0.5, solver_type: SolverType = "midpoint") -> Images:
    """DPM-Solver++(2S), single-step on the predicted data: one stage at ``lambda + r1 h`` (2211.01095, alg. 1).

    h is the step of lambda = log(alpha/sigma). ``solver_type`` is how the line through both predictions is integrated
    under the exponential kernel: ``midpoint`` puts half the kernel's mass in place of its first moment, as the paper
    does, ``heun`` takes the exact moment. Raises ValueError on an r1 outside (0, 1] and on another solver_type.
    """
    return singlestep(problem, FORMS["data"], (r1,), solver_type)


@sampler(order_of=_single_step_order)
def dpmpp_3s(problem: Problem, *, r1: float = 1 / 3, r2: float = 2 / 3, solver_type: SolverType = "midpoint") -> Images:
    """DPM-Solver++(3S), single-step on the predicted data, with stages at ``lambda + r1 h`` and ``lambda + r2 h``.

    h is the step of lambda = log(alpha/sigma) (2211.01095). ``solver_type``: ``midpoint`` ends with the line through
    the start and the second stage, ``heun`` with the parabola through all three. Both are of order 3 where ``r2 =
    2/3``, whatever r1, and of order 2 otherwise. Raises ValueError unless 0 < r1 < r2 <= 1, and on another solver_type.
    """
    return singlestep(problem, FORMS["data"], (r1, r2), solver_type)


@sampler
def dpmpp_2m(problem: Problem, *, solver_type: SolverType = "midpoint", lower_order_final: bool = False) -> Images:
    """DPM-Solver++(2M): ``x' = (sigma'/sigma) x - alpha' (e^-h - 1) D`` (2211.01095, alg. 2).

    ``D = (1 + 1/2r) x0 - x0_prev/2r`` with h the step of the log-SNR and r = h_prev/h; the first step takes D = x0.
    That is ``midpoint``; ``heun`` takes the exact first moment of the exponential kernel. ``lower_order_final`` makes
    the last step of first order. Raises ValueError on another solver_type.
    """
    return multistep(problem, FORMS["data"], 2, moments_of(solver_type), lower_order_final)


@sampler(order_of=_multistep_order)
def dpmpp_3m(
    problem: Problem,
    *,
    solver_type: SolverType = "midpoint",
    half_curvature: bool = False,
    lower_order_final: bool = False,
) -> Images:
    """DPM-Solver++(3M): the parabola through three predictions of the data, under the exponential kernel (2211.01095).

    ``half_curvature`` halves the second moment, as the authors' code and diffusers do, which is of order 2;
    ``solver_type`` (``midpoint`` or ``heun``) says how the second step, which has two predictions, is made;
    ``lower_order_final`` uses no more predictions than steps are left. Raises ValueError on another solver_type.
    """
    return multistep(problem, FORMS["data"], 3, moments_of(solver_type, half_curvature), lower_order_final)


def singlestep(problem: Problem, form: Form, fractions: tuple[float, ...], solver_type: SolverType) -> Images:
    """Run a single-step exponential integrator, with stages at ``fractions`` of the step in log-SNR.

    ``form`` is what is integrated, the data or the noise. Each stage is by the line through the start and the stage
    before it, and ``solver_type`` says how the step ends.
    """
    if not all(here < there for here, there in itertools.pairwise((0.0, *fractions))) or fractions[-1] > 1:
        names = " < ".join(f"r{k + 1}" for k in range(len(fractions)))
        raise ValueError(f"r1 must be such that 0 < {names} <= 1, got {', '.join(map(str, fractions))}")
    moments = moments_of(solver_type)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        return single_step(problem, form, here, there, x, prediction, fractions, moments, solver_type == "heun")

    return problem.solve(step)


def single_step(
    problem: Problem,
    form: Form,
    here: Point,
    there: Point,
    x: Images,
    prediction: Prediction,
    fractions: tuple[float, ...],
    moments: Moments = midpoint_moments,
    every: bool = False,
) -> Images:
    """Take one step from ``here`` to ``there`` with stages at ``fractions`` of it in log-SNR; without stages, DDIM's.

    ``form`` is what is integrated, and ``moments`` those of the kernel where two values end the step. Of two stages and
    the start, the step ends by the line through the start and the second, or by the parabola through ``every`` one.
    """
    if not fractions:
        return prediction.combine(there.alpha, there.sigma)
    h = there.log_snr - here.log_snr
    # midpoint ends with the last stage and the start, which has no weight in one stage halfway: it is not even read
    halfway = not every and fractions == (0.5,)
    ends = slice(0, None) if every or len(fractions) == 1 else slice(0, None, 2)
    values = [] if halfway else [(here.log_snr, form.read(prediction))]
    for r in fractions:
        stage = problem.grid.at(here.log_snr + r * h) if r < 1 else there
        if r == fractions[0]:
            y = prediction.combine(stage.alpha, stage.sigma)
        else:
            y = form.integrate(here, stage, x, values)
        values.append((stage.log_snr, form.read(problem.ask(y, stage))))
    return form.integrate(here, there, x, values[ends], moments if len(values) == 2 else exact_moments)


def moments_of(solver_type: SolverType, half_curvature: bool = False) -> Moments:
    """Give the function of the exponential kernel's moments that a ``solver_type`` uses, ``midpoint`` or ``heun``.

    ``half_curvature`` halves the second moment. Raises ValueError on another solver_type.
    """
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"solver_type must be midpoint or heun, got {solver_type!r}")
    base = midpoint_moments if solver_type == "midpoint" else exact_moments
    if not half_curvature:
        return base
    return lambda z, n: [m / 2 if k == 2 else m for k, m in enumerate(base(z, n))]

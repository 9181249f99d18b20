"""SEEDS: stochastic exponential Runge-Kutta methods, whose stages see the Brownian path of their step."""

from __future__ import annotations

from typing import Any

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FormName, check_order, exact_moments, midpoint_moments
from implementations.samplers.stochastic import check_eta, check_s_noise, reverse_sde

STAGES = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # shares of the step, in log-SNR


def _count_evaluations(touching: list[bool], *, order: int, **_: Any) -> int:
    return sum(1 if end else order for end in touching)


@sampler(count=_count_evaluations, order_of=lambda *, order, eta, **_: min(order, 2) if eta else order)
def seeds(
    problem: Problem, *, order: int = 3, eta: float = 1.0, s_noise: float = 1.0, prediction: FormName = "noise"
) -> Images:
    """SEEDS: stochastic exponential Runge-Kutta methods on the reverse SDE, of ``order`` 1 to 3 (2305.14267).

    A step takes ``order`` evaluations; the paper has eta = 1. DPM-Solver's stages and weights on the reverse SDE: at
    ``eta`` = 0 it is ``euler``, ``dpm_solver_2`` or ``dpm_solver_3``; with ``prediction`` = ``data``, ``dpmpp_2s`` or
    ``dpmpp_3s``. Each stage adds a draw to the noise of its step: stage k of step i takes draw ``i order + k``. The
    weak order is 2 at most, also at order 3. ``s_noise`` multiplies the noise. Raises ValueError on another order or
    prediction, where eta or s_noise is negative, and on ascending times unless eta is 0.
    """
    order, s_noise = check_order(order, 3), check_s_noise(s_noise)
    sde = reverse_sde(prediction, check_eta(eta))
    if eta:
        problem.require_descending()
    form, moments = sde.form, midpoint_moments if order == 2 else exact_moments

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        start, end = problem.points[i], problem.points[i + 1]
        stages = [problem.grid.at(start.log_snr + r * (end.log_snr - start.log_snr)) for r in STAGES[order]]
        values = [(start.log_snr, form.read(prediction))]
        here, noise = start, None  # the noise since the start of the step
        for k, there in enumerate([*stages, end]):
            # the start and the latest stage make a line; of one stage at 1/2, its value alone
            line = [values[0], *values[1:][-1:]]
            y = form.integrate(start, there, x, line, moments)
            if eta:
                noise = sde.noise(here, there, problem.noise(i * order + k, x), noise, s_noise)
                y.add_(noise)
            if there is not end:
                values.append((there.log_snr, form.read(problem.ask(y, there))))
            here = there
        return y

    return problem.solve(step)


@sampler
def exp_heun_sde(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0) -> Images:
    """Exponential Heun on the reverse SDE: the line through x0 at both ends of the step, and one draw of noise.

    ``x' = A x + B ((1 - c) x0 + c x0') + n``, with x0' predicted at ``A x + B x0 + n``, the same noise n, and the
    weights exact for x0 linear in the log-SNR. At ``eta`` = 0 it is ``exp_heun`` (2308.02157); the noise is that of
    SEEDS (2305.14267) with its stage at the end of the step, and ``s_noise`` multiplies it. Raises ValueError where eta
    or s_noise is negative, and on ascending times unless eta is 0.
    """
    sde, s_noise = reverse_sde("data", check_eta(eta)), check_s_noise(s_noise)
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        values = [(here.log_snr, prediction.x0)]
        noise = sde.noise(here, there, problem.noise(i, x), scale=s_noise) if eta else None

        def reach() -> Images:
            y = sde.form.integrate(here, there, x, values)
            return y if noise is None else y.add_(noise)

        values.append((there.log_snr, problem.ask(reach(), there).x0))
        return reach()

    return problem.solve(step)

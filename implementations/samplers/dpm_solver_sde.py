"""SDE-DPM-Solver++: the reverse SDE on the data predicted, single-step and multistep."""

from __future__ import annotations

import math

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.ancestral_steps import aim_below
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.dpm_solver import SolverType, moments_of
from implementations.samplers.exponential import FORMS, History, Moments, midpoint_moments
from implementations.samplers.stochastic import check_eta, check_s_noise, reverse_sde


@sampler
def dpmpp_sde(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5) -> Images:
    """SDE-DPM-Solver++, single-step on the predicted data, with noise and a stage at ``lambda + r h``.

    h is the step of lambda = log(alpha/sigma); the method is k-diffusion's, on 2211.01095, alg. 1. Stage and step are
    both ancestral steps from the same start, of the same ``eta`` in [0, 1]: at 0 this is ``dpmpp_2s(r1=r)``. Their
    noises are increments of one Brownian motion in sigma/alpha, from draws 2i and 2i + 1: were they independent, the
    order would be 1. ``s_noise`` multiplies both. Raises ValueError on other values, on r outside (0, 1), and on
    ascending times unless eta is 0.
    """
    eta, s_noise = check_eta(eta, 1.0), check_s_noise(s_noise)
    if not 0 < r < 1:
        raise ValueError(f"r must lie in (0, 1), got {r}")
    if eta:
        problem.require_descending()
    form = FORMS["data"]

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        stage = problem.grid.at(here.log_snr + r * (there.log_snr - here.log_snr))
        down, up = aim_below(here, stage, eta)
        y = form.integrate(here, down, x, [(here.log_snr, prediction.x0)])
        if eta:
            first = problem.noise(2 * i, x)
            y.add_(first, alpha=up * s_noise)
        x0 = problem.ask(y, stage).x0
        down, up = aim_below(here, there, eta)
        # the stage stands at r of the step, also of the longer way down
        node = here.log_snr + r * (down.log_snr - here.log_snr)
        y = form.integrate(here, down, x, [(here.log_snr, prediction.x0), (node, x0)], midpoint_moments)
        if not eta:
            return y
        share = (here.ratio - stage.ratio) / (here.ratio - there.ratio)
        y.add_(first, alpha=up * s_noise * math.sqrt(share))
        return y.add_(problem.noise(2 * i + 1, x), alpha=up * s_noise * math.sqrt(1 - share))

    return problem.solve(step)


@sampler
def dpmpp_2m_sde(
    problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0, solver_type: SolverType = "midpoint"
) -> Images:
    """SDE-DPM-Solver++(2M): the line through two predictions of the data, under the reverse SDE's kernel, and noise.

    ``eta`` is the rate of noise, at 0 ``dpmpp_2m`` (2211.01095); ``s_noise`` multiplies the noise; ``solver_type`` puts
    half the kernel's mass in place of its first moment (``midpoint``) or takes the exact one (``heun``). Raises
    ValueError where eta or s_noise is negative, on another solver_type, and on ascending times unless eta is 0.
    """
    return _multistep(problem, 2, moments_of(solver_type), eta, s_noise)


@sampler(order_of=lambda *, eta, half_curvature, **_: 2 if eta or half_curvature else 3)
def dpmpp_3m_sde(
    problem: Problem,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: SolverType = "heun",
    half_curvature: bool = False,
) -> Images:
    """SDE-DPM-Solver++(3M): the parabola through three predictions of the data, and noise, on the reverse SDE.

    ``eta`` is the rate of noise, and ``s_noise`` multiplies the noise. Order 3 without noise, where it is ``dpmpp_3m``;
    with noise weak order 2, as ``dpmpp_2m_sde``, with a smaller error. ``half_curvature`` halves the second moment, as
    k-diffusion and diffusers do, which take the second divided difference for the second derivative, which is twice
    that; ``solver_type`` says how the second step is made. Raises ValueError where eta or s_noise is negative, on
    another solver_type, and on ascending times unless eta is 0.
    """
    return _multistep(problem, 3, moments_of(solver_type, half_curvature), eta, s_noise)


def _multistep(problem: Problem, order: int, moments: Moments, eta: float, s_noise: float) -> Images:
    sde, s_noise, history = reverse_sde("data", check_eta(eta)), check_s_noise(s_noise), History(order)
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        y = sde.form.integrate(here, there, x, history.push(i, here.log_snr, prediction.x0), moments)
        return y.add_(problem.noise(i, x), alpha=sde.deviation(here, there) * s_noise) if eta else y

    return problem.solve(step)

"""Ancestral samplers of second order: a step of the flow to below the next noise level, and noise back up to it.

In units of the data, r = sigma/alpha, a step goes down to ``r_down = sqrt(r'^2 - r_up^2)`` and is given noise of
``r_up = eta r' sqrt(1 - r'^2/r^2)``, so that at ``eta`` = 1 a step of first order is DDPM's. Its law is exact but for
the error of the flow's step, whose order is therefore also the weak order.
"""

from __future__ import annotations

import math

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FORMS, Form, midpoint_moments
from implementations.samplers.stochastic import check_eta, check_s_noise


@sampler
def dpm_2_ancestral(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0) -> Images:
    """Ancestral DPM-Solver-2: a midpoint step to below the next noise level, and noise back up to it.

    In the level r = sigma/alpha it goes down to ``r_down = sqrt(r'^2 - r_up^2)`` by ``d(x/alpha) = eps dr``, with eps
    predicted midway in log-SNR (2206.00927, alg. 1), and adds noise of deviation ``r_up = eta r' sqrt(1 - r'^2/r^2)``.
    ``eta`` in [0, 1]: at 0 it is ``midpoint``; ``s_noise`` multiplies the noise. Raises ValueError on others, and on
    ascending times unless eta is 0.
    """
    return _solve_ancestrally(problem, FORMS["noise"], eta, s_noise)


@sampler
def dpmpp_2s_ancestral(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0) -> Images:
    """Ancestral DPM-Solver++(2S), r1 = 1/2: its step to below the next noise level, and noise back up to it.

    In the level r = sigma/alpha it goes down to ``r_down = sqrt(r'^2 - r_up^2)`` and adds noise of deviation ``r_up =
    eta r' sqrt(1 - r'^2/r^2)`` (2211.01095, alg. 1). ``eta`` in [0, 1]: at 0 it is ``dpmpp_2s``; ``s_noise`` multiplies
    the noise. Raises ValueError on others, and on ascending times unless eta is 0.
    """
    return _solve_ancestrally(problem, FORMS["data"], eta, s_noise)


def _solve_ancestrally(problem: Problem, form: Form, eta: float, s_noise: float) -> Images:
    eta, s_noise = check_eta(eta, 1.0), check_s_noise(s_noise)
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        down, up = aim_below(here, there, eta)
        middle = problem.grid.at((here.log_snr + down.log_snr) / 2)  # above the next level: at eta = 1 it is that level
        values = [(here.log_snr, form.read(prediction))]
        stage = problem.ask(form.integrate(here, middle, x, values), middle)
        values.append((middle.log_snr, form.read(stage)))
        y = form.integrate(here, down, x, values, midpoint_moments)
        return y.add_(problem.noise(i, x), alpha=up * s_noise) if eta else y

    return problem.solve(step)


def aim_below(here: Point, there: Point, eta: float) -> tuple[Point, float]:
    """Give the point below ``there`` to which an ancestral step goes, and the deviation of the noise that lifts it.

    In the level r = sigma/alpha the point is at ``r_down = sqrt(r'^2 - r_up^2)`` with ``r_up = eta r' sqrt(1 -
    r'^2/r^2)``. Both are on the scale alpha' of ``there``.
    """
    if eta == 0:
        return there, 0.0
    fresh = -(eta**2) * math.expm1(2 * (here.log_snr - there.log_snr))  # share of sigma'^2
    below = math.sqrt(1 - fresh) if eta < 1 else there.sigma * here.alpha / (there.alpha * here.sigma)
    log_snr = there.log_snr - math.log(below)
    return Point(there.t, there.alpha, there.sigma * below, log_snr), there.sigma * math.sqrt(fresh)

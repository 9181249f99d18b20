"""DPM-Solver-fast: single steps of order 3, and of a lower order where the evaluations of a budget run out."""

from __future__ import annotations

import math
from typing import Any

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.ancestral_steps import aim_below
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.dpm_solver import single_step
from implementations.samplers.exponential import FORMS
from implementations.samplers.stochastic import check_eta, check_s_noise

FRACTIONS = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # of a step in log-SNR, where its stages stand
LAST = {0: [2, 1], 1: [1], 2: [2]}  # orders of the last steps, by the remainder


def _orders(steps: int, remainder: int) -> list[int]:
    return ([3] * steps + LAST[remainder])[-steps:]


def _count_evaluations(touching: list[bool], *, remainder: int, **_: Any) -> int:
    return sum(1 if end else k for end, k in zip(touching, _orders(len(touching), remainder), strict=True))


@sampler(count=_count_evaluations, order_of=lambda *, remainder, **_: 3 if remainder == 2 else 2)
def dpm_fast(problem: Problem, *, remainder: int = 2, eta: float = 0.0, s_noise: float = 1.0) -> Images:
    """DPM-Solver-fast: steps of DPM-Solver-3, and at last those of order 2 and 1 that the budget leaves (2206.00927).

    ``remainder`` is the number of evaluations modulo 3: at 0 the last two steps are of orders 2 and 1, at 1 the last
    step is of order 1, at 2 of order 2. n evaluations are ``n // 3 + 1`` steps; the paper's are equal in the log-SNR.
    With ``eta`` in (0, 1] each step goes to below the next noise level, never below the last of the grid, and noise
    times ``s_noise`` lifts it back, as k-diffusion does. Raises ValueError on other options, and on ascending times
    unless eta is 0.
    """
    orders = _orders(len(problem), check_integer("remainder", remainder, 0, 2))
    eta, s_noise, last = check_eta(eta, 1.0), check_s_noise(s_noise), problem.points[-1]
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        down, up = aim_below(here, there, eta)
        if eta and down.log_snr > last.log_snr:
            down = Point(there.t, there.alpha, there.alpha * last.ratio, last.log_snr)
            up = math.sqrt((there.sigma - down.sigma) * (there.sigma + down.sigma))
        y = single_step(problem, FORMS["noise"], here, down, x, prediction, FRACTIONS[orders[i]])
        return y.add_(problem.noise(i, x), alpha=up * s_noise) if eta else y

    return problem.solve(step)

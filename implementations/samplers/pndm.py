"""PNDM: pseudo linear multistep methods, whose weights are those of equal steps, and how they start.

The transfer of (2202.09778, eq. 9) is DDIM's step with a weighted sum of predicted noises, hence Adams-Bashforth in
sigma/alpha; where the steps are not equal in sigma/alpha, its order is 2.
"""

from __future__ import annotations

import math
from typing import Literal

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.adams import EQUAL_STEPS, transfer
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import History


@sampler(count=lambda touching, **_: len(touching) + 3 * min(3, touching.count(False)))
def pndm(problem: Problem, *, coordinate: Literal["t", "sigma"] = "t") -> Images:
    """F-PNDM: three pseudo Runge-Kutta steps of four evaluations, then Adams-Bashforth of order 4 (2202.09778, alg. 2).

    Every step is DDIM's, with a weighted sum of predicted noises in place of eps. ``coordinate`` is the variable in
    which a Runge-Kutta step is halved: the paper's ``t``, or ``sigma``, with which the three steps are the classical
    method in sigma/alpha. Raises ValueError on another.
    """
    if coordinate not in ("t", "sigma"):
        raise ValueError(f"coordinate must be t or sigma, got {coordinate!r}")
    history = History(4)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        past = [eps for _, eps in history.push(i, here.log_snr, prediction.eps)]
        if len(past) == 4:
            return transfer(here, there, x, EQUAL_STEPS[3], past)
        if coordinate == "t":
            middle = problem.grid.at_time((here.t + there.t) / 2)
        else:
            middle = problem.grid.at(-math.log((here.ratio + there.ratio) / 2))
        stages = [past[0]]
        for point in (middle, middle, there):
            inner = transfer(here, point, x, [1.0], stages[-1:])
            stages.append(problem.ask(inner, point).eps)
        return transfer(here, there, x, [1 / 6, 1 / 3, 1 / 3, 1 / 6], stages)

    return problem.solve(step)


@sampler(count=lambda touching, **_: len(touching) + min(1, touching.count(False)))
def plms(problem: Problem) -> Images:
    """PLMS, PNDM without Runge-Kutta steps: a trapezoid first, then Adams-Bashforth of orders 2, 3, 4.

    Every step is DDIM's, with a weighted sum of predicted noises in place of eps (2202.09778, eq. 12). The trapezoid's
    second evaluation is not kept, so that the first step costs two.
    """
    history = History(4)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        past = [eps for _, eps in history.push(i, here.log_snr, prediction.eps)]
        if len(past) > 1:
            return transfer(here, there, x, EQUAL_STEPS[len(past) - 1], past)
        ahead = problem.ask(transfer(here, there, x, [1.0], past), there).eps
        return transfer(here, there, x, [1 / 2, 1 / 2], [*past, ahead])

    return problem.solve(step)

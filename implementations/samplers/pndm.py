"""PNDM: pseudo linear multistep methods, whose weights are those of equal steps, and how they start.

The transfer of (2202.09778, eq. 9) is DDIM's step with a sum of noises predicted, hence Adams-Bashforth in
sigma/alpha; on steps that are not equal there, it is of order 2.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, ask, costs
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.adams import FIXED, transfer
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import History

Times: TypeAlias = Float[Tensor, " points"]


def _pndm_cost(touching: list[bool], **options: Any) -> int:
    return len(touching) + 3 * min(3, touching.count(False))


def _plms_cost(touching: list[bool], **options: Any) -> int:
    return len(touching) + min(1, touching.count(False))


@sampler
@costs(_pndm_cost)
def pndm(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    coordinate: Literal["t", "sigma"] = "t",
) -> Images:
    """F-PNDM: three pseudo Runge-Kutta steps of four evaluations, then Adams-Bashforth (2202.09778, alg. 2).

    ``coordinate`` is that in which a Runge-Kutta step is halved: the paper's ``t``, or ``sigma``, by which the three
    are the classical method in sigma/alpha. Raises ValueError on another.
    """
    if coordinate not in ("t", "sigma"):
        raise ValueError(f"coordinate must be t or sigma, got {coordinate!r}")
    grid, history = Grid(denoiser.path, times), History(4)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        past = [eps for _, eps in history.push(i, here.log_snr, prediction.eps)]
        if len(past) == 4:
            return transfer(here, there, x, FIXED[3], past)
        if coordinate == "t":
            middle = grid.at_time((here.t + there.t) / 2)
        else:
            middle = grid.at(-math.log((here.ratio + there.ratio) / 2))
        stages = [past[0]]
        for point in (middle, middle, there):
            inner = transfer(here, point, x, [1.0], stages[-1:])
            stages.append(ask(denoiser, inner, point, condition).eps)
        return transfer(here, there, x, [1 / 6, 1 / 3, 1 / 3, 1 / 6], stages)

    return grid.solve(denoiser, x, step, callback, condition)


@sampler
@costs(_plms_cost)
def plms(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
) -> Images:
    """PNDM without Runge-Kutta steps: a trapezoid first, then Adams-Bashforth of orders 2, 3, 4 (2202.09778, eq. 12).

    The trapezoid's second evaluation is not kept, so that the first step costs two.
    """
    grid, history = Grid(denoiser.path, times), History(4)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        past = [eps for _, eps in history.push(i, here.log_snr, prediction.eps)]
        if len(past) > 1:
            return transfer(here, there, x, FIXED[len(past) - 1], past)
        ahead = denoiser(transfer(here, there, x, [1.0], past), grid.times[i + 1], condition).eps
        return transfer(here, there, x, [1 / 2, 1 / 2], [*past, ahead])

    return grid.solve(denoiser, x, step, callback, condition)

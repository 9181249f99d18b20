"""DPM-Solver++: exponential integrators of the probability flow on the data prediction."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.path import Images
from implementations.samplers.grid import Callback, Grid
from implementations.samplers.noise import Noise


def dpmpp_2m(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    condition: Any = None,
) -> Images:
    """DPM-Solver++(2M): ``x' = (sigma'/sigma) x - alpha' (e^-h - 1) D`` (2211.01095, alg. 2).

    ``D = (1 + 1/2r) x0 - x0_prev/2r`` with h the step of the log-SNR and r = h_prev/h; the first step takes D = x0.
    """
    grid = Grid(denoiser.path, times)
    before: dict[int, Images] = {}  # the data predicted at the step before, by that step; an end step leaves none

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        h = there.log_snr - here.log_snr
        x0, scale = prediction.x0, -there.alpha * math.expm1(-h)
        past = before.pop(i - 1, None)
        before[i] = x0
        moved = x * (there.sigma / here.sigma)
        if past is None:
            return moved.add_(x0, alpha=scale)
        share = h / (here.log_snr - grid.points[i - 1].log_snr) / 2  # 1/2r
        return moved.add_(x0, alpha=scale * (1 + share)).add_(past, alpha=-scale * share)

    return grid.solve(denoiser, x, step, callback, condition)

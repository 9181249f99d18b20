"""Ancestral samplers of second order: a step of the flow to below the next noise level, and noise back up to it.

In units of the data, r = sigma/alpha, a step goes down to ``r_down = sqrt(r'^2 - r_up^2)`` and is given noise of
``r_up = eta r' sqrt(1 - r'^2/r^2)``, so that at ``eta`` = 1 a step of first order is DDPM's. Its law is exact but for
the error of the flow's step, whose order is therefore the weak order, too.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, Point, ask
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import FORMS, midpoint
from implementations.samplers.stochastic import checked_eta, checked_s_noise

Times: TypeAlias = Float[Tensor, " points"]


@sampler
def dpm_2_ancestral(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Images:
    """Ancestral DPM-Solver-2: ``d(x/alpha) = eps dr`` from r to r_down, by eps midway in log-SNR (2206.00927, alg. 1).

    ``eta`` in [0, 1]: at 0 it is ``midpoint``; ``s_noise`` multiplies the noise. Raises ValueError on others, and on
    ascending times unless eta is 0.
    """
    return _ancestral(denoiser, x, times, "noise", eta, s_noise, noise, callback, condition)


@sampler
def dpmpp_2s_ancestral(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Images:
    """Ancestral DPM-Solver++(2S), r1 = 1/2, from r to r_down (2211.01095, alg. 1).

    ``eta`` in [0, 1]: at 0 it is ``dpmpp_2s``; ``s_noise`` multiplies the noise. Raises as ``dpm_2_ancestral``.
    """
    return _ancestral(denoiser, x, times, "data", eta, s_noise, noise, callback, condition)


def _ancestral(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    prediction: str,
    eta: float,
    s_noise: float,
    noise: Noise,
    callback: Callback | None,
    condition: Any,
) -> Images:
    eta, s_noise = checked_eta(eta, 1.0), checked_s_noise(s_noise)
    form, grid = FORMS[prediction], Grid(denoiser.path, times, "down" if eta else "either")

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        down, up = lowered(here, there, eta)
        middle = grid.at((here.log_snr + down.log_snr) / 2)  # above the next level: at eta = 1 it is that level
        values = [(here.log_snr, form.read(prediction))]
        moved = form.integrate(here, middle, x, values)
        values.append((middle.log_snr, form.read(ask(denoiser, moved, middle, condition))))
        moved = form.integrate(here, down, x, values, midpoint)
        return moved.add_(noise(i, x), alpha=up * s_noise) if eta else moved

    return grid.solve(denoiser, x, step, callback, condition)


def lowered(here: Point, there: Point, eta: float) -> tuple[Point, float]:
    """The point below ``there`` that noise lifts back to it, on its scale alpha', and that noise's deviation."""
    if eta == 0:
        return there, 0.0
    fresh = -(eta**2) * math.expm1(2 * (here.log_snr - there.log_snr))  # share of sigma'^2
    below = math.sqrt(1 - fresh) if eta < 1 else there.sigma * here.alpha / (there.alpha * here.sigma)
    log_snr = there.log_snr - math.log(below)
    return Point(there.t, there.alpha, there.sigma * below, log_snr), there.sigma * math.sqrt(fresh)

"""SDE-DPM-Solver++: the reverse SDE on the data predicted, single-step and multistep."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, ask, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.ancestral_steps import lowered
from implementations.samplers.contract import sampler
from implementations.samplers.dpm_solver import SolverType, moments_of
from implementations.samplers.exponential import FORMS, History, Moments, midpoint
from implementations.samplers.stochastic import checked_eta, checked_s_noise, law_of

Times: TypeAlias = Float[Tensor, " points"]


@sampler
def dpmpp_sde(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Images:
    """SDE-DPM-Solver++ with a stage at ``lambda + r h`` (k-diffusion's, on 2211.01095, alg. 1).

    Stage and step are both ancestral steps from the same start, of the same ``eta`` in [0, 1]: at 0 this is
    ``dpmpp_2s(r1=r)``. Their noises are increments of one Brownian motion in sigma/alpha, from draws 2i and 2i + 1:
    were they independent, the order would be 1. ``s_noise`` multiplies both.
    Raises ValueError on other values, on r outside (0, 1), and on ascending times unless eta is 0.
    """
    eta, s_noise = checked_eta(eta, 1.0), checked_s_noise(s_noise)
    if not 0 < r < 1:
        raise ValueError(f"r must lie in (0, 1), got {r}")
    form, grid = FORMS["data"], Grid(denoiser.path, times, "down" if eta else "either")

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        stage = grid.at(here.log_snr + r * (there.log_snr - here.log_snr))
        down, up = lowered(here, stage, eta)
        moved = form.integrate(here, down, x, [(here.log_snr, prediction.x0)])
        if eta:
            first = noise(2 * i, x)
            moved.add_(first, alpha=up * s_noise)
        x0 = ask(denoiser, moved, stage, condition).x0
        down, up = lowered(here, there, eta)
        # the stage stands at r of the step, also of the longer way down
        node = here.log_snr + r * (down.log_snr - here.log_snr)
        moved = form.integrate(here, down, x, [(here.log_snr, prediction.x0), (node, x0)], midpoint)
        if not eta:
            return moved
        share = (here.ratio - stage.ratio) / (here.ratio - there.ratio)
        moved.add_(first, alpha=up * s_noise * math.sqrt(share))
        return moved.add_(noise(2 * i + 1, x), alpha=up * s_noise * math.sqrt(1 - share))

    return grid.solve(denoiser, x, step, callback, condition)


@sampler
def dpmpp_2m_sde(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: SolverType = "midpoint",
) -> Images:
    """SDE-DPM-Solver++(2M): the line through two predictions of the data, and noise (2211.01095).

    ``eta`` is the rate of noise, at 0 ``dpmpp_2m``; ``s_noise`` multiplies the noise; ``solver_type`` takes half the
    kernel's mean for its first moment (``midpoint``) or the exact one (``heun``). Raises ValueError where eta or
    s_noise is negative, on another solver_type, and on ascending times unless eta is 0.
    """
    return _multi(denoiser, x, times, 2, moments_of(solver_type), eta, s_noise, noise, callback, condition)


@sampler
@order_of(lambda *, eta, half_curvature, **_: 2 if eta or half_curvature else 3)
def dpmpp_3m_sde(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: SolverType = "heun",
    half_curvature: bool = False,
) -> Images:
    """SDE-DPM-Solver++(3M): the parabola through three predictions of the data, and noise.

    Order 3 without noise, where it is ``dpmpp_3m``; with noise weak order 2, as ``dpmpp_2m_sde``, by a smaller error.
    ``half_curvature`` halves the second moment, as k-diffusion and diffusers do, who take the second divided difference
    for the second derivative, twice that; ``solver_type`` is how the second step is made. Raises as ``dpmpp_2m_sde``.
    """
    moments = moments_of(solver_type, half_curvature)
    return _multi(denoiser, x, times, 3, moments, eta, s_noise, noise, callback, condition)


def _multi(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    order: int,
    moments: Moments,
    eta: float,
    s_noise: float,
    noise: Noise,
    callback: Callback | None,
    condition: Any,
) -> Images:
    law, s_noise = law_of("data", checked_eta(eta)), checked_s_noise(s_noise)
    grid, history = Grid(denoiser.path, times, "down" if eta else "either"), History(order)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        moved = law.form.integrate(here, there, x, history.push(i, here.log_snr, prediction.x0), moments)
        return moved.add_(noise(i, x), alpha=law.deviation(here, there) * s_noise) if eta else moved

    return grid.solve(denoiser, x, step, callback, condition)

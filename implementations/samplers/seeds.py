"""SEEDS: stochastic exponential Runge-Kutta methods, whose stages see the Brownian path of their step."""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, ask, costs, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import checked_order, exact, midpoint
from implementations.samplers.stochastic import checked_eta, checked_s_noise, law_of

STAGES = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # where they stand in the step, in log-SNR


def _count(touching: list[bool], *, order: int, **_: Any) -> int:
    return sum(1 if end else order for end in touching)


@sampler
@costs(_count)
@order_of(lambda *, order, eta, **_: min(order, 2) if eta else order)
def seeds(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 3,
    eta: float = 1.0,
    s_noise: float = 1.0,
    prediction: Literal["noise", "data"] = "noise",
) -> Images:
    """SEEDS of ``order`` 1 to 3, evaluations a step (2305.14267; eta = 1 there).

    DPM-Solver's stages and weights on the reverse SDE: at ``eta`` = 0 it is ``euler``, ``dpm_solver_2`` or
    ``dpm_solver_3``; with ``prediction`` = ``data``, ``dpmpp_2s`` or ``dpmpp_3s``. Each stage adds a draw to the noise
    of its step: stage k of step i takes draw ``i order + k``. Weak order 2 at order 3, too. ``s_noise`` multiplies the
    noise. Raises ValueError on another order or prediction, where eta or s_noise is negative, and on ascending times
    unless eta is 0.
    """
    order, law, s_noise = checked_order(order, 3), law_of(prediction, checked_eta(eta)), checked_s_noise(s_noise)
    form, grid = law.form, Grid(denoiser.path, times, "down" if eta else "either")

    def step(i: int, x: Images, prediction: Any) -> Images:
        start, end = grid.points[i], grid.points[i + 1]
        stages = [grid.at(start.log_snr + r * (end.log_snr - start.log_snr)) for r in STAGES[order]]
        values = [(start.log_snr, form.read(prediction))]
        here, gathered = start, None  # the noise since the start
        for k, there in enumerate([*stages, end]):
            # the start and the latest stage make a line; of one stage at 1/2, its value alone
            line = [values[0], *values[1:][-1:]]
            moved = form.integrate(start, there, x, line, midpoint if order == 2 else exact)
            if eta:
                gathered = law.noise(here, there, noise(i * order + k, x), gathered, s_noise)
                moved.add_(gathered)
            if there is not end:
                values.append((there.log_snr, form.read(ask(denoiser, moved, there, condition))))
            here = there
        return moved

    return grid.solve(denoiser, x, step, callback, condition)

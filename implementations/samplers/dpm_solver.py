"""DPM-Solver on the noise predicted and DPM-Solver++ on the data predicted, single-step and multistep."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, ask, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import FORMS, Moments, checked_order, exact, midpoint, multistep

Times: TypeAlias = Float[Tensor, " points"]
SolverType = Literal["midpoint", "heun"]
Prediction = Literal["data", "noise"]


def _single_step_order(*, r2: float, **_: Any) -> int:
    return 3 if math.isclose(r2, 2 / 3) else 2


def _multistep_order(*, half_curvature: bool, lower_order_final: bool, order: int = 3, **_: Any) -> int:
    return min(order, 2) if half_curvature or lower_order_final else order


@sampler
def dpm_solver_2(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    r1: float = 0.5,
    solver_type: SolverType = "midpoint",
) -> Images:
    """DPM-Solver-2: a stage at ``lambda + r1 h``, on the noise (2206.00927, alg. 1 at r1 = 1/2).

    ``midpoint`` takes the kernel's mean for its first moment, ``heun`` the exact one. Raises ValueError on an r1
    outside (0, 1] and on another solver_type.
    """
    return _single(denoiser, x, times, "noise", (r1,), solver_type, callback, condition)


@sampler
@order_of(_single_step_order)
def dpm_solver_3(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
    solver_type: SolverType = "midpoint",
) -> Images:
    """DPM-Solver-3: stages at ``lambda + r1 h`` and ``lambda + r2 h``, on the noise (2206.00927, alg. 2).

    ``midpoint`` ends with the line through the start and the second stage, ``heun`` with the parabola through all
    three. Order 3 asks for ``r2 = 2/3`` of both, whatever r1: else it is 2. Raises ValueError unless
    0 < r1 < r2 <= 1, and on another solver_type.
    """
    return _single(denoiser, x, times, "noise", (r1, r2), solver_type, callback, condition)


@sampler
@order_of(_multistep_order)
def dpm_solver_multistep(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 2,
    solver_type: SolverType = "midpoint",
    half_curvature: bool = False,
    lower_order_final: bool = False,
) -> Images:
    """Multistep DPM-Solver on the noise: the polynomial through ``order`` predictions, 1 to 3 (2211.01095, sec. 4.2).

    ``solver_type`` says how two predictions are used: ``midpoint`` takes half the kernel's mean for its first moment,
    ``heun`` the exact one. ``half_curvature`` halves the second moment, which makes order 3 order 2: the authors' code
    and diffusers do so, since they take the second divided difference for the second derivative, twice that.
    ``lower_order_final`` looks back no further than there are steps left.
    Raises ValueError on another order or solver_type.
    """
    return _multi(denoiser, x, times, "noise", checked_order(order, 3), moments_of(solver_type, half_curvature),
                  lower_order_final, callback, condition)  # fmt: skip


@sampler
def dpmpp_2s(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    r1: float = 0.5,
    solver_type: SolverType = "midpoint",
) -> Images:
    """DPM-Solver++(2S): a stage at ``lambda + r1 h``, on the data (2211.01095, alg. 1); options as ``dpm_solver_2``."""
    return _single(denoiser, x, times, "data", (r1,), solver_type, callback, condition)


@sampler
@order_of(_single_step_order)
def dpmpp_3s(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
    solver_type: SolverType = "midpoint",
) -> Images:
    """DPM-Solver++(3S): ``dpm_solver_3`` on the data (2211.01095); the same options."""
    return _single(denoiser, x, times, "data", (r1, r2), solver_type, callback, condition)


@sampler
def dpmpp_2m(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    solver_type: SolverType = "midpoint",
    lower_order_final: bool = False,
) -> Images:
    """DPM-Solver++(2M): ``x' = (sigma'/sigma) x - alpha' (e^-h - 1) D`` (2211.01095, alg. 2).

    ``D = (1 + 1/2r) x0 - x0_prev/2r`` with h the step of the log-SNR and r = h_prev/h; the first step takes D = x0.
    That is ``midpoint``; options as ``dpm_solver_multistep``.
    """
    return _multi(denoiser, x, times, "data", 2, moments_of(solver_type), lower_order_final, callback, condition)


@sampler
@order_of(_multistep_order)
def dpmpp_3m(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    solver_type: SolverType = "midpoint",
    half_curvature: bool = False,
    lower_order_final: bool = False,
) -> Images:
    """DPM-Solver++(3M): the parabola through three predictions of the data, under the exponential (2211.01095).

    Options as ``dpm_solver_multistep``: ``half_curvature`` is the authors' code, of order 2; ``solver_type`` says how
    the second step is made.
    """
    moments = moments_of(solver_type, half_curvature)
    return _multi(denoiser, x, times, "data", 3, moments, lower_order_final, callback, condition)


def _multi(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    form: Prediction,
    order: int,
    moments: Moments,
    lower_order_final: bool,
    callback: Callback | None,
    condition: Any,
) -> Images:
    return multistep(
        denoiser,
        x,
        times,
        form=FORMS[form],
        order=order,
        moments=moments,
        lower_order_final=lower_order_final,
        callback=callback,
        condition=condition,
    )


def _single(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    form: Prediction,
    fractions: tuple[float, ...],
    solver_type: SolverType,
    callback: Callback | None,
    condition: Any,
) -> Images:
    """Stages at fractions of the step, each by the line through the start and the stage before it."""
    if not all(here < there for here, there in itertools.pairwise((0.0, *fractions))) or fractions[-1] > 1:
        names = " < ".join(f"r{k + 1}" for k in range(len(fractions)))
        raise ValueError(f"r1 must be such that 0 < {names} <= 1, got {', '.join(map(str, fractions))}")
    moments, rule, grid = moments_of(solver_type), FORMS[form], Grid(denoiser.path, times)
    # midpoint ends with the last stage and the start, which has no weight in one stage halfway: it is not even read
    halfway = solver_type == "midpoint" and fractions == (0.5,)
    ends = slice(0, None) if solver_type == "heun" or len(fractions) == 1 else slice(0, None, 2)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        h = there.log_snr - here.log_snr
        values = [] if halfway else [(here.log_snr, rule.read(prediction))]
        for r in fractions:
            stage = grid.at(here.log_snr + r * h) if r < 1 else there
            first = r == fractions[0]
            moved = prediction.combine(stage.alpha, stage.sigma) if first else rule.integrate(here, stage, x, values)
            values.append((stage.log_snr, rule.read(ask(denoiser, moved, stage, condition))))
        return rule.integrate(here, there, x, values[ends], moments if len(values) == 2 else exact)

    return grid.solve(denoiser, x, step, callback, condition)


def moments_of(solver_type: SolverType, half_curvature: bool = False) -> Moments:
    """Give the moments of a ``solver_type``; raises ValueError on another than midpoint and heun."""
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"solver_type must be midpoint or heun, got {solver_type!r}")
    base = midpoint if solver_type == "midpoint" else exact
    if not half_curvature:
        return base
    return lambda z, n: [m / 2 if k == 2 else m for k, m in enumerate(base(z, n))]

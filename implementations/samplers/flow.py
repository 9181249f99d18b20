"""Stochastic samplers of the flow-matching school: fresh noise at every level, and SiT's reverse SDE in t."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, order_of
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import sampler

Times: TypeAlias = Float[Tensor, " points"]
LAST_STEPS = ("tweedie", "mean", "euler", "none")


@sampler
@order_of(lambda *, fraction, **_: None if fraction else 1)
def flow_stochastic(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    fraction: float = 1.0,
) -> Images:
    """Predict the data and noise it again: ``x' = alpha' x0 + sigma' (sqrt(1 - f^2) eps + f z)``.

    With f > 0 it does not converge to the path's law: what x0 predicted lacks of the data's variance, no number of
    steps brings back. With f = 0 it is DDIM. Raises ValueError on another fraction, and on ascending times unless it is
    0.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}")
    grid = Grid(denoiser.path, times, "either" if fraction == 0 else "down")

    def step(i: int, x: Images, prediction: Any) -> Images:
        there = grid.points[i + 1]
        kept = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fraction**2))
        return kept.add_(noise(i, x), alpha=there.sigma * fraction) if there.sigma * fraction else kept

    # the same first-order step holds at the ends: from alpha = 0, too, the noise may be fresh
    return grid.solve(denoiser, x, step, callback, condition, regular=True)


@sampler
def sit_sde(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    form: str = "sbdm",
    norm: float = 1.0,
    last: str = "tweedie",
) -> Images:
    """Euler-Maruyama on ``dx = (velocity - w/2 score) dt + sqrt(w) dw``, t falling (2401.08740, eq. 10).

    The law is the path's for any w >= 0; ``form`` names it, ``norm`` scales it. With tau in [0, 1] the share of the
    path's time and in its units:

    | form                  | w                 |
    |-----------------------|-------------------|
    | constant              | 1                 |
    | sbdm                  | g^2 of the path   |
    | sigma                 | sigma             |
    | linear                | tau               |
    | decreasing            | sin^4(pi tau / 2) |
    | increasing_decreasing | sin^2(pi tau)     |

    All but sbdm are bounded, and their noise starts at alpha = 0; sbdm takes that step without. A form that does not
    vanish with sigma is stiff there: a step below ``4 sigma^2 / w`` is stable. ``last`` is the step to sigma = 0:
    ``tweedie`` the data predicted, ``mean`` a step without its noise, ``euler`` one of the velocity, ``none`` the state
    as it was. (The authors' code scales w/2: norm = 2 here is 1 there, but for sbdm.) Raises ValueError on another form
    or last step, on a negative norm and on ascending times.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if last not in LAST_STEPS:
        raise ValueError(f"last must be one of {', '.join(LAST_STEPS)}, got {last!r}")
    if not 0 <= norm < math.inf:
        raise ValueError(f"norm must be at least 0 and finite, got {norm}")
    grid = Grid(denoiser.path, times, "down")
    t, path = torch.stack(grid.times), grid.path
    d_alpha, d_sigma, w = (f.tolist() for f in (path.d_alpha(t), path.d_sigma(t), FORMS[form](path, t) * norm))

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        if there.sigma == 0 and last == "none":
            return x
        if (there.sigma == 0 and last == "tweedie") or math.isinf(w[i]):
            return prediction.combine(there.alpha, there.sigma)
        dt, ends = there.t - here.t, there.sigma == 0
        pull = 0.0 if ends and last == "euler" else w[i] / 2 / here.sigma  # score = -eps / sigma
        moved = x + prediction.combine(dt * d_alpha[i], dt * (d_sigma[i] + pull))
        return moved if ends else moved.add_(noise(i, x), alpha=math.sqrt(w[i] * -dt))

    return grid.solve(denoiser, x, step, callback, condition, regular=True)


def _share(path: Path, t: Tensor) -> Tensor:
    return (t - path.t_min) / (path.t_max - path.t_min)


def _rate(path: Path) -> float:
    """One over the path's length in t: what a form on [0, 1] is in the path's own time."""
    return 1 / (path.t_max - path.t_min)


FORMS = {
    "constant": lambda path, t: _rate(path) * torch.ones_like(t),
    "sbdm": lambda path, t: path.diffusion(t).square(),
    "sigma": lambda path, t: _rate(path) * path.sigma(t),
    "linear": lambda path, t: _rate(path) * _share(path, t),
    "decreasing": lambda path, t: _rate(path) * (math.pi / 2 * _share(path, t)).sin() ** 4,
    "increasing_decreasing": lambda path, t: _rate(path) * (math.pi * _share(path, t)).sin() ** 2,
}

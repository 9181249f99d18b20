"""Stochastic samplers from flow matching: fresh noise at every level, and SiT's reverse SDE in t."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images, Path
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.stochastic import check_eta, check_s_noise

LAST_STEPS = ("tweedie", "mean", "euler", "none")


@sampler(order_of=lambda *, fraction, **_: None if fraction else 1)
def flow_stochastic(problem: Problem, *, fraction: float = 1.0) -> Images:
    """Stochastic sampling of flow models: predict the data and add noise again, a share of it fresh.

    ``x' = alpha' x0 + sigma' (sqrt(1 - f^2) eps + f z)``, f = ``fraction``. With f > 0 it does not converge to the
    path's law: the predicted x0 has less variance than the data, and no number of steps brings that back. With f = 0 it
    is DDIM. Raises ValueError on a fraction outside [0, 1], and on ascending times unless it is 0.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}")
    if fraction:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        there = problem.points[i + 1]
        mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fraction**2))
        return mean.add_(problem.noise(i, x), alpha=there.sigma * fraction) if there.sigma * fraction else mean

    # the same first-order step holds at the ends: from alpha = 0, too, the noise may be fresh
    return problem.solve(step, regular=True)


@sampler
def flow_ancestral(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0) -> Images:
    """Ancestral Euler of flow models: a step to below the next time of the flow, and noise back up to it.

    With tau = sigma/(alpha + sigma), the time of the straight path, it goes down to ``tau_down = tau' (1 + eta
    (tau'/tau - 1))``: ``x' = alpha' x0 + sigma' (d eps + sqrt(1 - d^2) z)``, with d the level sigma/alpha at tau_down
    over that at tau' (ComfyUI's ``euler_ancestral`` of flow models). ``eta`` in [0, 1]: at 0 it is DDIM; ``s_noise``
    multiplies the noise. Raises ValueError on others, and on ascending times unless eta is 0.
    """
    eta, s_noise = check_eta(eta, 1.0), check_s_noise(s_noise)
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        tau, after = (point.sigma / (point.alpha + point.sigma) for point in (here, there))
        down = after * (1 + eta * (after / tau - 1))
        share = down / (1 - down) / there.ratio
        mean = prediction.combine(there.alpha, there.sigma * share)
        fresh = there.sigma * math.sqrt(max(0.0, (1 - share) * (1 + share)))
        return mean.add_(problem.noise(i, x), alpha=fresh * s_noise) if eta else mean

    return problem.solve(step)


@sampler
def sit_sde(problem: Problem, *, form: str = "sbdm", norm: float = 1.0, last: str = "tweedie") -> Images:
    """SiT's reverse SDE by Euler-Maruyama in t: ``dx = (velocity - w/2 score) dt + sqrt(w) dw`` (2401.08740, eq. 10).

    The law is the path's for any w >= 0; ``form`` names w and ``norm`` multiplies it. tau is the share of the path's
    time, in [0, 1], and w is in units of that time:

    | form                  | w                 |
    |-----------------------|-------------------|
    | constant              | 1                 |
    | sbdm                  | g^2 of the path   |
    | sigma                 | sigma             |
    | linear                | tau               |
    | decreasing            | sin^4(pi tau / 2) |
    | increasing_decreasing | sin^2(pi tau)     |

    All but sbdm are bounded and add noise from alpha = 0 on; sbdm takes its step from there without. A form that does
    not vanish with sigma is stiff at small sigma: a step is stable below ``4 sigma^2 / w``. ``last`` is the step to
    sigma = 0: ``tweedie`` is the predicted data, ``mean`` a step without its noise, ``euler`` a step of the velocity,
    ``none`` the state as it was. (The authors' code scales w/2: norm = 2 here is 1 there, except for sbdm.) Raises
    ValueError on another form or last step, on a negative norm and on ascending times.
    """
    if form not in DIFFUSION_FORMS:
        raise ValueError(f"form must be one of {', '.join(DIFFUSION_FORMS)}, got {form!r}")
    if last not in LAST_STEPS:
        raise ValueError(f"last must be one of {', '.join(LAST_STEPS)}, got {last!r}")
    if not 0 <= norm < math.inf:
        raise ValueError(f"norm must be at least 0 and finite, got {norm}")
    problem.require_descending()
    t, path = torch.stack(problem.times), problem.path
    w = (DIFFUSION_FORMS[form](path, t) * norm).tolist()
    d_alpha, d_sigma = path.d_alpha(t).tolist(), path.d_sigma(t).tolist()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        if there.sigma == 0 and last == "none":
            return x
        if (there.sigma == 0 and last == "tweedie") or math.isinf(w[i]):
            return prediction.combine(there.alpha, there.sigma)
        dt, ends = there.t - here.t, there.sigma == 0
        pull = 0.0 if ends and last == "euler" else w[i] / 2 / here.sigma  # score = -eps / sigma
        mean = x + prediction.combine(dt * d_alpha[i], dt * (d_sigma[i] + pull))
        return mean if ends else mean.add_(problem.noise(i, x), alpha=math.sqrt(w[i] * -dt))

    return problem.solve(step, regular=True)


def _share(path: Path, t: Tensor) -> Tensor:
    return (t - path.t_min) / (path.t_max - path.t_min)


def _rate(path: Path) -> float:
    """One over the path's length in t, which turns a form on [0, 1] into one in the path's own time."""
    return 1 / (path.t_max - path.t_min)


DIFFUSION_FORMS = {
    "constant": lambda path, t: _rate(path) * torch.ones_like(t),
    "sbdm": lambda path, t: path.diffusion(t).square(),
    "sigma": lambda path, t: _rate(path) * path.sigma(t),
    "linear": lambda path, t: _rate(path) * _share(path, t),
    "decreasing": lambda path, t: _rate(path) * (math.pi / 2 * _share(path, t)).sin() ** 4,
    "increasing_decreasing": lambda path, t: _rate(path) * (math.pi * _share(path, t)).sin() ** 2,
}

"""Langevin dynamics at one noise level after another: as a sampler, and as the corrector of another.

One step of size h in units of sigma^2 is ``x - h sigma eps + sqrt(2h) sigma z`` (score = -eps/sigma). On a Gaussian of
variance V it tends to the variance ``V / (1 - h sigma^2 / 2V)``: too great by a share of h sigma^2 / 2V.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.sde import ancestral_step, maruyama_step, reverse_diffusion_step

PREDICTORS = {
    "reverse_diffusion": reverse_diffusion_step,
    "euler_maruyama": maruyama_step,
    "ancestral": ancestral_step,
}


@sampler(count=lambda touching, corrector_steps, **_: sum(1 if end else 1 + corrector_steps for end in touching))
def predictor_corrector(
    problem: Problem,
    *,
    predictor: Literal["reverse_diffusion", "euler_maruyama", "ancestral"] = "reverse_diffusion",
    corrector_steps: int = 1,
    snr: float = 0.16,
    norms: Literal["sample", "batch"] = "sample",
    step: float | None = None,
) -> Images:
    """Predictor-corrector sampling: a step of an SDE solver, then Langevin steps at the level that it has reached.

    A Langevin step of size h in units of sigma^2 is ``x - h sigma eps + sqrt(2h) sigma z`` (2011.13456, alg. 2 to 5).
    The corrector's step is ``2 a^2 (snr |z| / |eps|)^2`` in units of sigma^2, with a = alpha/alpha' of the predictor's
    step (1 on ``VE``, ``sqrt(1 - beta)`` on DDPM's table), unless ``step`` gives a fixed one. A step that touches an
    end has no corrector. ``norms`` are each sample's own, or, as in public code, their mean over the ``batch``, which
    makes samples depend on their neighbours. In few dimensions a sample's own |eps| may be near 0 and its step
    unbounded: below about 30 dimensions take ``batch`` or ``step``. Raises ValueError on wrong options and on ascending
    times.
    """
    if predictor not in PREDICTORS:
        raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, got {predictor!r}")
    corrector_steps = check_integer("corrector_steps", corrector_steps, 0)
    if not 0 < snr < math.inf:
        raise ValueError(f"snr must be positive and finite, got {snr}")
    if norms not in ("sample", "batch"):
        raise ValueError(f"norms must be sample or batch, got {norms!r}")
    if step is not None and not 0 < step < 2:
        raise ValueError(f"step must lie in (0, 2), where Langevin's steps do not diverge, got {step}")
    problem.require_descending()
    draws = 1 + corrector_steps

    def advance(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        x = PREDICTORS[predictor](problem.path, here, there, x, prediction, problem.noise(i * draws, x))
        for k in range(1, draws):
            eps, z = problem.ask(x, there).eps, problem.noise(i * draws + k, x)
            if step is None:
                ratio = snr * here.alpha / there.alpha * (_norms(z, norms) / _norms(eps, norms))
                x = x - eps * (2 * there.sigma * ratio**2) + z * (2 * there.sigma * ratio)
            else:
                x = _langevin(x, eps, z, there.sigma, step)
        return x

    return problem.solve(advance)


def _count_evaluations(touching: list[bool], steps_per_level: int, denoise: bool, **_: Any) -> int:
    return sum(1 if end else steps_per_level for end in touching) + (denoise and not touching[-1])


@sampler(count=_count_evaluations)
def annealed_langevin(
    problem: Problem, *, epsilon: float = 0.2, steps_per_level: int = 5, denoise: bool = False
) -> Images:
    """Annealed Langevin dynamics of NCSN, level by level on x/alpha (1907.05600, alg. 1).

    An update is ``x - epsilon/2 sigma eps + sqrt(epsilon) sigma z``, with alpha = 1. ``epsilon`` is the paper's in
    units of the least sigma squared: its 2e-5 at .01 is 0.2. x/alpha is carried from one level to the next unchanged;
    its law follows the level if log sigma/alpha falls by less than epsilon/2 per update. Each step of the grid makes
    one update at its first level and the other ``steps_per_level`` - 1 at its second, so that the first level of the
    grid has one and the last all but one. ``denoise`` ends in the data predicted at the last level, alpha x0, as a grid
    that ends at sigma = 0 does by itself (2006.09011, alg. 1). It has no order of accuracy. Raises ValueError on wrong
    options and on ascending times.
    """
    if not 0 < epsilon < 4:
        raise ValueError(f"epsilon must lie in (0, 4), where Langevin's steps do not diverge, got {epsilon}")
    steps_per_level = check_integer("steps_per_level", steps_per_level, 1)
    problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        draw, h = i * steps_per_level, epsilon / 2
        x = _langevin(x, prediction.eps, problem.noise(draw, x), here.sigma, h).mul_(there.alpha / here.alpha)
        for k in range(draw + 1, draw + steps_per_level):
            x = _langevin(x, problem.ask(x, there).eps, problem.noise(k, x), there.sigma, h)
        if denoise and i == len(problem) - 1:
            x = problem.ask(x, there).combine(there.alpha, 0.0)
        return x

    return problem.solve(step)


def _langevin(x: Images, eps: Images, z: Images, sigma: float, h: float) -> Images:
    return x.sub(eps, alpha=h * sigma).add_(z, alpha=math.sqrt(2 * h) * sigma)


def _norms(x: Images, of: str) -> Tensor:
    """The samples' norms, shaped to multiply them, or their mean."""
    norms = x.reshape(len(x), -1).norm(dim=1)
    return norms.mean() if of == "batch" else norms.reshape(-1, *(1,) * (x.ndim - 1))

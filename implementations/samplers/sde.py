"""The SDEs that lead from noise to data, discretised (2011.13456, app. D.1 and E).

They are infinite at alpha = 0, where g is, and at sigma = 0, where the score is: a step that touches an end is the
first-order data-prediction step of ``Problem.solve``, one evaluation and no noise. On a grid from the start of
rectified flow, the SDE begins at the second time.
"""

from __future__ import annotations

import math

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images, Path
from implementations.diffusion.sde import reverse_drift
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.stochastic import fresh_share


@sampler
def euler_maruyama(problem: Problem, *, eta: float = 1.0) -> Images:
    """Euler-Maruyama on the reverse SDE in t: ``x' = x + [f x - (1 + eta^2)/2 g^2 score] dt + eta g sqrt(|dt|) z``.

    f and g are drift and diffusion of the path (2011.13456, eq. 6). ``eta`` = 1 is the reverse SDE; 0 the probability
    flow, as ``euler`` in t; more than 1 adds more noise than the forward process did. Raises ValueError on an eta below
    0 or not finite, and on ascending times unless eta is 0.
    """
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta must be at least 0 and finite, got {eta}")
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        return maruyama_step(problem.path, here, there, x, prediction, problem.noise(i, x) if eta else None, eta)

    return problem.solve(step)


@sampler
def reverse_diffusion(problem: Problem) -> Images:
    """Reverse-diffusion sampling: the reverse SDE discretised as the forward one is (2011.13456, eq. 46).

    ``x' = (2 - a) x + G^2 score + G z``. The forward transition from x' to x is ``a x' + G z``: a = alpha/alpha', ``G^2
    = sigma^2 - a^2 sigma'^2``. On DDPM's table a is ``sqrt(1 - beta)`` and G^2 is beta. Raises ValueError on ascending
    times.
    """
    problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        return reverse_diffusion_step(problem.path, here, there, x, prediction, problem.noise(i, x))

    return problem.solve(step)


def maruyama_step(
    path: Path, here: Point, there: Point, x: Images, prediction: Prediction, z: Images | None, eta: float = 1.0
) -> Images:
    """Take Euler-Maruyama's step of the reverse SDE in t, with the standard normal z, or without noise.

    ``x' = x + [f x - (1 + eta^2)/2 g^2 score] dt + eta g sqrt(|dt|) z``.
    """
    dt = there.t - here.t
    mean = x.add(reverse_drift(prediction, eta), alpha=dt)
    return mean if z is None else mean.add_(z, alpha=eta * float(path.diffusion(here.t)) * math.sqrt(abs(dt)))


def reverse_diffusion_step(
    path: Path, here: Point, there: Point, x: Images, prediction: Prediction, z: Images
) -> Images:
    """Take a step of the reverse SDE discretised as the forward one is: ``x' = (2 - a) x + G^2 score + G z``.

    The forward transition from x' to x is ``a x' + G z``: a = alpha/alpha', ``G^2 = sigma^2 - a^2 sigma'^2``
    (2011.13456, eq. 46).
    """
    fresh = fresh_share(here, there)  # G^2 / sigma^2
    mean = (x * (2 - here.alpha / there.alpha)).add_(prediction.eps, alpha=-here.sigma * fresh)
    return mean.add_(z, alpha=here.sigma * math.sqrt(fresh))


def ancestral_step(path: Path, here: Point, there: Point, x: Images, prediction: Prediction, z: Images) -> Images:
    """Draw x' from its posterior given x and the data predicted, as DDPM's ancestral sampling does.

    z is standard normal (2011.13456, app. F).
    """
    fresh = fresh_share(here, there)
    mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fresh))
    return mean.add_(z, alpha=there.sigma * math.sqrt(fresh))

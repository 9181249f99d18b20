"""Ancestral samplers: draw the next state from a Gaussian around the data predicted."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Point
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.stochastic import check_eta, check_s_noise, fresh_share


@sampler
def ddim(problem: Problem, *, eta: float = 0.0, s_noise: float = 1.0) -> Images:
    """DDIM: ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z`` (2010.02502, eq. 12 and 16).

    ``s^2 = eta^2 sigma'^2 (1 - e^(2 (lambda - lambda')))`` with lambda = log(alpha/sigma), a prime for the next time
    and z standard normal; ``eta`` in [0, 1] goes from the probability flow to ancestral sampling. In sigma/alpha it is
    Euler's step to below the next level and noise back up to it, the ancestral Euler of other libraries. ``s_noise``
    multiplies the noise. Raises ValueError on another eta or s_noise, and on ascending times unless eta is 0.
    """
    eta, s_noise = check_eta(eta, 1.0), check_s_noise(s_noise)
    if eta:
        problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        if eta == 0:
            return prediction.combine(there.alpha, there.sigma)
        fresh = eta**2 * fresh_share(here, there)
        mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fresh))
        return mean.add_(problem.noise(i, x), alpha=there.sigma * math.sqrt(fresh) * s_noise)

    return problem.solve(step)


@sampler
def ddpm(problem: Problem, *, variance: Literal["small", "large", "learned_range"] = "small") -> Images:
    """DDPM's ancestral sampling: draw x' from its posterior given x and the data predicted (2006.11239, alg. 2).

    ``variance``: ``small`` is the posterior's; ``large`` the forward variance of the step on the variance-preserving
    path of the same log-SNR, ``1 - alpha^2/alpha'^2`` there (2006.11239, sec. 3.2); ``learned_range`` lies between them
    in the logarithm, by the tensor v of the shape of x that the prediction holds as ``aux``: small at v = -1, large at
    v = 1 (2102.09672, eq. 15, whose v in [0, 1] is (v + 1)/2 here, as networks give it). A step that touches an end of
    the path takes no noise. Raises ValueError on another variance, on a prediction without such an aux where it is
    needed, and on ascending times.
    """
    if variance not in ("small", "large", "learned_range"):
        raise ValueError(f"variance must be small, large or learned_range, got {variance!r}")
    problem.require_descending()

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        fresh = fresh_share(here, there)
        mean = prediction.combine(there.alpha, there.sigma * math.sqrt(1 - fresh))
        small, large = there.sigma * math.sqrt(fresh), _forward_deviation(here, there)
        if variance == "learned_range":
            v = _interpolation(prediction)
            # small (large/small)^((v + 1)/2), one value per element
            return mean.addcmul_(problem.noise(i, x), ((v + 1) * (math.log(large / small) / 2)).exp_(), value=small)
        return mean.add_(problem.noise(i, x), alpha=small if variance == "small" else large)

    return problem.solve(step)


def _interpolation(prediction: Prediction) -> Images:
    """v of a learned variance, in the dtype of the state."""
    v = prediction.aux
    if not isinstance(v, Tensor) or v.shape != prediction.x.shape:
        found = tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
        raise ValueError(
            f"learned_range needs predictions whose aux is of shape {tuple(prediction.x.shape)}, got {found}"
        )
    return v.to(prediction.x.dtype)


def _forward_deviation(here: Point, there: Point) -> float:
    """Standard deviation of the forward step from ``there`` to ``here``, in units of the path at ``there``.

    With ``sigma_vp^2 = 1 / (1 + e^(2 lambda))`` its square is ``sigma_vp^2 (1 - e^(2 (lambda - lambda')))``.
    """
    sigma_vp2 = 1 / (1 + math.exp(2 * here.log_snr))
    return math.hypot(there.alpha, there.sigma) * math.sqrt(fresh_share(here, there) * sigma_vp2)

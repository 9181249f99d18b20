"""gDDIM on isotropic diffusions: DDIM with noise at a rate, and its multistep predictor-corrector without.

The paper's gain, a matrix in place of sigma for diffusions such as critically damped Langevin, needs matrix alpha and
sigma, which a ``Path`` does not have: that is left out.
"""

from __future__ import annotations

import math
from typing import Any

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.deis import time_moments
from implementations.samplers.exponential import History, check_order, weights
from implementations.samplers.stochastic import check_eta


def _count_evaluations(touching: list[bool], *, corrector: bool, **_: Any) -> int:
    return sum(2 if corrector and not end else 1 for end in touching)


@sampler(count=_count_evaluations)
def gddim(problem: Problem, *, eta: float = 0.0, order: int = 1, corrector: bool = False) -> Images:
    """gDDIM (2206.05564): DDIM with a rate of noise, of order 1, or its multistep form on the flow without noise.

    With ``eta``, the paper's lambda: ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z``, ``s^2 = sigma'^2 (1 - e^(-2
    eta^2 h))``, h the step of the log-SNR; 1 is DDPM, and unlike with DDIM's eta two half steps add as much noise as
    one. At 0, eps is the polynomial in t through its last ``order`` values, 1 to 4, integrated exactly: ``deis_tab``.
    ``corrector`` repeats each step with eps predicted at its end in place of the oldest value: 2 evaluations per step.
    Raises ValueError on a negative eta, on order > 1 or a corrector beside one, and on ascending times unless it is 0.
    """
    eta, order = check_eta(eta), check_order(order, 4)
    if eta and (order > 1 or corrector):
        raise ValueError(f"order must be 1, without corrector, where eta is not 0, got order {order} and eta {eta}")
    if eta:
        problem.require_descending()
    history, moments = History(order), time_moments(problem.grid, order)

    def move(i: int, x: Images, values: list[tuple[float, Images]]) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        shares = weights([(t - here.t) / (there.t - here.t) for t, _ in values], moments[i][: len(values)])
        reach = there.sigma - there.alpha * here.sigma / here.alpha
        terms = ((reach * share, eps) for share, (_, eps) in zip(shares, values, strict=True))
        return add_scaled((there.alpha / here.alpha, x), *terms)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        if eta:
            lost = eta**2 * (there.log_snr - here.log_snr)
            mean = prediction.combine(there.alpha, there.sigma * math.exp(-lost))
            return mean.add_(problem.noise(i, x), alpha=there.sigma * math.sqrt(-math.expm1(-2 * lost)))
        values = history.push(i, here.t, prediction.eps)
        y = move(i, x, values)
        if not corrector:
            return y
        end = problem.ask(y, there).eps
        return move(i, x, [(there.t, end), *values][:order])

    return problem.solve(step)

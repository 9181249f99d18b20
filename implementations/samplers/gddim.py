"""gDDIM on isotropic diffusions: DDIM with noise at a rate, and its multistep predictor-corrector without.

The paper's gain, a matrix in place of sigma for diffusions such as critically damped Langevin, needs matrix alpha and
sigma, which a ``Path`` does not have: that is left out.
"""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback, Grid, ask, combined, costs
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.deis import time_moments
from implementations.samplers.exponential import History, checked_order, weights
from implementations.samplers.stochastic import checked_eta


def _count(touching: list[bool], *, corrector: bool, **_: Any) -> int:
    return sum(2 if corrector and not end else 1 for end in touching)


@sampler
@costs(_count)
def gddim(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    eta: float = 0.0,
    order: int = 1,
    corrector: bool = False,
) -> Images:
    """gDDIM (2206.05564): stochastic of order 1, or multistep for the flow.

    With ``eta``, the paper's lambda: ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z``,
    ``s^2 = sigma'^2 (1 - e^(-2 eta^2 h))``, h the step of the log-SNR; 1 is DDPM, and unlike DDIM's eta two half steps
    hold as much noise as one. At 0, eps is the polynomial in t through its last ``order`` values, 1 to 4, integrated
    exactly: ``deis_tab``. ``corrector`` does a step again with eps at its end in place of the oldest, and evaluates
    once more there: 2 evaluations a step.
    Raises ValueError on a negative eta, on order > 1 or a corrector beside one, and on ascending times unless it is 0.
    """
    eta, order = checked_eta(eta), checked_order(order, 4)
    if eta and (order > 1 or corrector):
        raise ValueError(f"order must be 1, without corrector, where eta is not 0, got order {order} and eta {eta}")
    grid, history = Grid(denoiser.path, times, "down" if eta else "either"), History(order)
    moments = time_moments(grid, order)

    def moved(i: int, x: Images, values: list[tuple[float, Images]]) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        shares = weights([(t - here.t) / (there.t - here.t) for t, _ in values], moments[i][: len(values)])
        reach = there.sigma - there.alpha * here.sigma / here.alpha
        return combined(
            (there.alpha / here.alpha, x), *((reach * w, eps) for w, (_, eps) in zip(shares, values, strict=True))
        )

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, there = grid.points[i], grid.points[i + 1]
        if eta:
            lost = eta**2 * (there.log_snr - here.log_snr)
            mean = prediction.combine(there.alpha, there.sigma * math.exp(-lost))
            return mean.add_(noise(i, x), alpha=there.sigma * math.sqrt(-math.expm1(-2 * lost)))
        values = history.push(i, here.t, prediction.eps)
        predicted = moved(i, x, values)
        if not corrector:
            return predicted
        end = ask(denoiser, predicted, there, condition).eps
        return moved(i, x, [(there.t, end), *values][:order])

    return grid.solve(denoiser, x, step, callback, condition)

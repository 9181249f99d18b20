"""The stochastic differential equations of a path: the forward one, and the family of reverse ones.

    forward          dx = f x dt + g dw
    back, eta >= 0   dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw,   t falling

All have the marginals of ``x_t = alpha x_0 + sigma eps`` (2011.13456, eq. 6 and 13; 2206.00364, eq. 6). eta = 1 is
the reverse SDE, eta = 0 the probability-flow ODE. f and g are ``path.drift`` and ``path.diffusion``. ``chains.py`` has
chains in discrete steps with the same marginals, of which these are the limit.
"""

from __future__ import annotations

import itertools

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.noise import Noise, draws
from implementations.diffusion.path import Images, Path, Time, per_sample


def forward_drift(path: Path, x: Images, t: Time) -> Images:
    """Drift ``f x`` of the path's forward SDE ``dx = f x dt + g dw``; ``t`` is a scalar or has one value per sample."""
    return x * per_sample(path.drift(t), x)


def reverse_drift(prediction: Prediction, eta: float = 1.0) -> Images:
    """Drift of the reverse SDE, ``f x - (1 + eta^2)/2 g^2 score``, which is the velocity of the flow at eta = 0.

    f and g are drift and diffusion of the path, and eta is the rate of noise: the SDE ``dx = drift dt + eta g dw``, t
    falling, has the path's marginals (2011.13456, eq. 6). Raises ValueError where sigma = 0, since there the score is
    infinite, unless eta is 0.
    """
    if eta == 0:
        return prediction.velocity
    rate = eta**2 / 2 * prediction.path.diffusion(prediction.t) ** 2
    return prediction.velocity - prediction.score * per_sample(rate, prediction.x)


@draws("forward")
def diffuse(path: Path, x: Images, times: Float[Tensor, " points"], *, noise: Noise) -> Images:
    """Simulate the forward SDE ``dx = f x dt + g dw`` by Euler-Maruyama over ascending ``times``; x is at the first.

    ``x' = x + f x dt + g sqrt(dt) z``, of strong order 1, since g does not depend on x. Exact transitions are those of
    ``Chain.of_path``. Raises ValueError on times that do not ascend, or at which f or g is infinite.
    """
    times = path.inside(times).detach().cpu()
    f, g = path.drift(times[:-1]), path.diffusion(times[:-1])
    if not bool((times.diff() > 0).all() and f.isfinite().all() and g.isfinite().all()):
        raise ValueError(f"times must ascend where f and g are finite, got {times[0]:.6g} to {times[-1]:.6g}")
    for k, (here, there) in enumerate(itertools.pairwise(times.tolist())):
        dt = there - here
        x = (x * (1 + float(f[k]) * dt)).add_(noise(k, x), alpha=float(g[k]) * dt**0.5)
    return x

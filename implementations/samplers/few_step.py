"""Few-step samplers: a jump along the probability flow by a learned map, and noise again.

They ask ``denoiser.flow_map(x, t, s)``, which a few-step model has learnt and a Gaussian knows: with the exact map
every number of steps gives the exact law. Any other denoiser answers with one first-order step of what it predicts, as
the networks of LCM and TCD do; unless it was distilled, a jump of its lands on too little variance, and no number of
steps mends that. A jump is regular at both ends of a path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, Point, combined
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images, Time
from implementations.samplers.contract import sampler

Times: TypeAlias = Float[Tensor, " points"]


@sampler
def consistency(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
) -> Images:
    """Multistep consistency sampling: to the end of the grid, and noised again to the next time (2303.01469, alg. 1).

    ``x_e = flow_map(x, t, e)``, ``x' = (alpha'/alpha_e) x_e + sqrt(sigma'^2 - (sigma_e alpha'/alpha_e)^2) z``; the
    paper's least time epsilon is the grid's last. Raises ValueError on ascending times.
    """
    grid = Grid(denoiser.path, times, "down")
    return _jumps(denoiser, x, grid, [grid.points[-1]] * len(grid), noise, callback, condition)


@sampler
def lcm(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    data_std: float = 0.5,
    timestep_scaling: float = 10.0,
) -> Images:
    """Latent consistency: ``consistency`` of ``c_skip x + c_out flow_map(x, t, e)`` (2310.04378, alg. 3).

    ``c_skip = d^2 / (k^2 + d^2)`` and ``c_out = k / sqrt(k^2 + d^2)`` with d = ``data_std`` and k =
    ``timestep_scaling`` times the timestep, of which the path has 1000: they make the network's map the identity at
    timestep 0, and at others hardly count. ``data_std`` 0 is ``consistency``. Raises ValueError where either is
    negative, the scaling 0, and on ascending times.
    """
    if not 0 <= data_std < math.inf:
        raise ValueError(f"data_std must be finite and not negative, got {data_std}")
    if not 0 < timestep_scaling < math.inf:
        raise ValueError(f"timestep_scaling must be positive and finite, got {timestep_scaling}")
    grid = Grid(denoiser.path, times, "down")

    def boundary(here: Point) -> tuple[float, float]:
        scaled = timestep_scaling * max(here.t, 0.0) * 999 / grid.path.t_max
        size = math.hypot(scaled, data_std)
        return ((data_std / size) ** 2, scaled / size) if size else (1.0, 0.0)

    return _jumps(denoiser, x, grid, [grid.points[-1]] * len(grid), noise, callback, condition, boundary)


@sampler
def tcd(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    gamma: float = 0.3,
) -> Images:
    """Strategic stochastic sampling: to ``s = (1 - gamma) t'``, and noised again to t' (2402.19159, alg. 4).

    ``gamma`` in [0, 1] goes from ``flow_map`` to ``consistency``; s never passes the grid's last time, and the last
    step takes no noise. Raises ValueError on another gamma, and on ascending times unless gamma is 0.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
    grid = Grid(denoiser.path, times, "either" if gamma == 0 else "down")
    least = grid.points[-1].t
    targets = [
        grid.at_time(max((1 - gamma) * there.t, least)) if gamma and there.t > max(least, 0.0) else there
        for there in grid.points[1:]
    ]
    return _jumps(denoiser, x, grid, targets, noise, callback, condition)


@sampler
def flow_map(
    denoiser: Denoiser,
    x: Images,
    times: Times,
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
) -> Images:
    """Jump from time to time, ``x' = flow_map(x, t, t')``: MeanFlow (2505.13447), shortcut models (2410.12557)."""
    grid = Grid(denoiser.path, times)
    return _jumps(denoiser, x, grid, grid.points[1:], noise, callback, condition)


def _jumps(
    denoiser: Denoiser,
    x: Images,
    grid: Grid,
    targets: Sequence[Point],
    noise: Noise,
    callback: Callback | None,
    condition: Any,
    boundary: Callable[[Point], tuple[float, float]] | None = None,
) -> Images:
    """Jump from each time to its target, and add the noise that lies between it and the next time."""
    learnt = type(denoiser).flow_map is not Denoiser.flow_map
    if learnt:
        jumps = {here.t: (here, to) for here, to in zip(grid.points, targets, strict=False)}
        denoiser = _Mapped(denoiser, jumps, watched=callback is not None)

    def step(i: int, x: Images, prediction: Any) -> Images:
        here, target, there = grid.points[i], targets[i], grid.points[i + 1]
        skip, out = boundary(here) if boundary else (0.0, 1.0)
        scale, fresh = 1.0, 0.0
        if target.t != there.t:
            scale = there.alpha / target.alpha
            # sigma'^2 less what the target brings along; all of it from a clean one, of infinite log-SNR
            fresh = there.sigma * math.sqrt(-math.expm1(2 * (there.log_snr - target.log_snr)))
        if learnt:
            landed = combined((scale * out, prediction.aux), (scale * skip, x))
        else:  # Denoiser.flow_map and what follows as one combination
            p, r = (out * to + skip * of for to, of in ((target.alpha, here.alpha), (target.sigma, here.sigma)))
            landed = prediction.combine(scale * p, scale * r)
        return landed.add_(noise(i, x), alpha=fresh) if fresh else landed

    return grid.solve(denoiser, x, step, callback, condition, regular=True)


class _Mapped(Denoiser):
    """A flow map as a denoiser: it lands at ``aux``; if ``watched``, its data are what DDIM would land there by."""

    def __init__(self, denoiser: Denoiser, jumps: dict[float, tuple[Point, Point]], watched: bool):
        self.denoiser, self.path, self.jumps, self.watched = denoiser, denoiser.path, jumps, watched

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        here, to = self.jumps[float(t)]
        x0 = landed = self.denoiser.flow_map(x, t, to.time, condition)
        if self.watched:  # x = alpha x0 + sigma eps and landed = alpha_s x0 + sigma_s eps, solved for x0
            determinant = here.alpha * to.sigma - here.sigma * to.alpha
            x0 = combined((to.sigma / determinant, x), (-here.sigma / determinant, landed))
        return Prediction(self.path, x, t, x0=x0, aux=landed)

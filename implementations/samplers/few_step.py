"""Few-step samplers: a jump along the probability flow by a learned map, and noise again.

They ask ``denoiser.flow_map(x, t, s)``, which a few-step model has learnt and a Gaussian knows: with the exact map
every number of steps gives the exact law. Any other denoiser answers with one first-order step of what it predicts, as
the networks of LCM and TCD do; unless it was distilled, a jump of its lands on too little variance, and no number of
steps mends that. A jump is regular at both ends of a path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Point, add_scaled
from implementations.diffusion.path import Images, Time
from implementations.samplers.contract import Problem, sampler


@sampler
def consistency(problem: Problem) -> Images:
    """Multistep consistency sampling: jump to the end of the grid, and add noise up to the next time.

    ``x_e = flow_map(x, t, e)``, ``x' = (alpha'/alpha_e) x_e + sqrt(sigma'^2 - (sigma_e alpha'/alpha_e)^2) z``, with e
    the last time, which is the paper's least time epsilon, and a prime for the next (2303.01469, alg. 1). The flow map
    is the denoiser's. Raises ValueError on ascending times.
    """
    problem.require_descending()
    return _jump(problem, [problem.points[-1]] * len(problem))


@sampler
def lcm(problem: Problem, *, data_std: float = 0.5, timestep_scaling: float = 10.0) -> Images:
    """Latent consistency sampling: multistep consistency of ``c_skip x + c_out flow_map(x, t, e)``.

    Each step jumps to the end e of the grid, and adds noise up to the next time (2310.04378, alg. 3). ``c_skip = d^2 /
    (k^2 + d^2)`` and ``c_out = k / sqrt(k^2 + d^2)`` with d = ``data_std`` and k = ``timestep_scaling`` times the
    timestep, of which the path has 1000: they make the network's map the identity at timestep 0, and at others hardly
    count. ``data_std`` 0 is ``consistency``. Raises ValueError where either is negative, the scaling 0, and on
    ascending times.
    """
    if not 0 <= data_std < math.inf:
        raise ValueError(f"data_std must be finite and not negative, got {data_std}")
    if not 0 < timestep_scaling < math.inf:
        raise ValueError(f"timestep_scaling must be positive and finite, got {timestep_scaling}")
    problem.require_descending()

    def boundary(here: Point) -> tuple[float, float]:
        scaled = timestep_scaling * max(here.t, 0.0) * 999 / problem.path.t_max
        size = math.hypot(scaled, data_std)
        return ((data_std / size) ** 2, scaled / size) if size else (1.0, 0.0)

    return _jump(problem, [problem.points[-1]] * len(problem), boundary)


@sampler
def tcd(problem: Problem, *, gamma: float = 0.3) -> Images:
    """Strategic stochastic sampling of TCD: jump to below the next time t' of the grid, and add noise up to t'.

    The jump is the denoiser's flow map from t to ``s = (1 - gamma) t'`` (2402.19159, alg. 4). ``gamma`` in [0, 1] goes
    from ``flow_map`` to ``consistency``; s never passes the grid's last time, and the last step takes no noise. Raises
    ValueError on another gamma, and on ascending times unless gamma is 0.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
    if gamma:
        problem.require_descending()
    least = problem.points[-1].t
    targets = [
        problem.grid.at_time(max((1 - gamma) * there.t, least)) if gamma and there.t > max(least, 0.0) else there
        for there in problem.points[1:]
    ]
    return _jump(problem, targets)


@sampler
def flow_map(problem: Problem) -> Images:
    """Sample by the denoiser's own flow map, ``x' = flow_map(x, t, t')`` from each time to the next, without noise.

    So do MeanFlow (2505.13447) and shortcut models (2410.12557).
    """
    return _jump(problem, problem.points[1:])


def _jump(
    problem: Problem, targets: Sequence[Point], boundary: Callable[[Point], tuple[float, float]] | None = None
) -> Images:
    """Jump from each time to its target, and add the noise that lies between the target and the next time.

    ``boundary(here)`` gives weights (c_skip, c_out) of the state before the jump and of its end.
    """
    points, learnt = problem.points, type(problem.denoiser).flow_map is not Denoiser.flow_map
    if learnt:
        jumps = {here.t: (here, to) for here, to in zip(points, targets, strict=False)}
        problem = replace(problem, denoiser=_FlowMap(problem.denoiser, jumps, problem.callback is not None))

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, target, there = points[i], targets[i], points[i + 1]
        skip, out = boundary(here) if boundary else (0.0, 1.0)
        scale, fresh = 1.0, 0.0
        if target.t != there.t:
            scale = there.alpha / target.alpha
            # sigma'^2 less what the target brings along; all of it from a clean one, of infinite log-SNR
            fresh = there.sigma * math.sqrt(-math.expm1(2 * (there.log_snr - target.log_snr)))
        if learnt:
            y = add_scaled((scale * out, prediction.aux), (scale * skip, x))
        else:  # Denoiser.flow_map and what follows as one combination
            p, r = (out * to + skip * of for to, of in ((target.alpha, here.alpha), (target.sigma, here.sigma)))
            y = prediction.combine(scale * p, scale * r)
        return y.add_(problem.noise(i, x), alpha=fresh) if fresh else y

    return problem.solve(step, regular=True)


class _FlowMap(Denoiser):
    """A flow map as a denoiser: ``aux`` is the end of the jump from the time that is asked.

    For a callback to see, ``x0`` may be the data with which DDIM's step would end there, too.
    """

    def __init__(self, denoiser: Denoiser, jumps: dict[float, tuple[Point, Point]], with_data: bool):
        self.denoiser, self.path, self.jumps, self.with_data = denoiser, denoiser.path, jumps, with_data

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        here, to = self.jumps[float(t)]
        x0 = y = self.denoiser.flow_map(x, t, to.time, condition)
        if self.with_data:  # x = alpha x0 + sigma eps and y = alpha_s x0 + sigma_s eps, solved for x0
            determinant = here.alpha * to.sigma - here.sigma * to.alpha
            x0 = add_scaled((to.sigma / determinant, x), (-here.sigma / determinant, y))
        return Prediction(self.path, x, t, x0=x0, aux=y)

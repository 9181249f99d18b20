"""ER-SDE-Solvers: reverse SDEs whose noise is a function of the noise level, by a polynomial in that level.

With r = sigma/alpha and a noise scale phi(r) that grows at least as fast as r, ``phi(r)/r`` says how much noise there
is: none for phi = r, that of the reversed forward process for r^2 (2309.06169). Then exactly

``x'/alpha' = (phi'/phi) x/alpha + int x0(r) d(phi'/phi(r)) + sqrt(r'^2 - r^2 (phi'/phi)^2) z``
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.grid import Grid, add_scaled
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.deis import NODES, gauss_legendre
from implementations.samplers.exponential import History, check_order, weights
from implementations.samplers.stochastic import check_s_noise

Log: TypeAlias = Callable[[Tensor], Tensor]
Scale: TypeAlias = str | Callable[[Tensor], Tensor] | None

# log phi by log r, which overflows at neither end (2309.06169 and the authors' code)
LOG_SCALES: dict[str, Log] = {
    "sde": lambda level: 2 * level,
    "er_sde_1": lambda level: level + (10 + (-(-level).exp()).exp()).log(),
    "er_sde_2": lambda level: 1.5 * level,
    "er_sde_3": lambda level: 2.5 * level,
    "er_sde_4": lambda level: 0.9 * level + torch.log1p(100 * (1.5 * level).exp()).log(),
    "er_sde_5": lambda level: level + torch.logaddexp((0.3 * level).exp(), torch.full_like(level, math.log(10))),
}


def _order(*, order: int, scale: Scale, divided: bool, **_: Any) -> int:
    return min(order, 2) if scale is not None or divided else order


@sampler(order_of=_order)
def er_sde(
    problem: Problem, *, order: int = 3, scale: Scale = "er_sde_5", s_noise: float = 1.0, divided: bool = False
) -> Images:
    """ER-SDE-Solver of ``order`` 1 to 3: a reverse SDE solved with x0 a polynomial in sigma/alpha (2309.06169).

    With r = sigma/alpha and the noise scale phi(r), ``x'/alpha' = (phi'/phi) x/alpha + int x0(r) d(phi'/phi(r)) +
    sqrt(r'^2 - r^2 (phi'/phi)^2) z``, the polynomial going through the last values. ``scale`` is phi: one of
    ``LOG_SCALES``, a function of sigma/alpha (a float64 tensor of levels), or None for the flow; ``er_sde_4`` holds up
    to sigma/alpha = 1000 or so. Integrals over it are Gauss's, exact to rounding, where the authors sum 100 rectangles.
    ``divided`` takes the last divided difference for the derivative, as the authors' code does, which makes order 3
    order 2. With noise the weak order is 2 at most. ``s_noise`` multiplies the noise. Raises ValueError on another
    order or scale, on a phi that is not positive or grows more slowly than the level, and on ascending times unless
    scale is None.
    """
    order, s_noise, log_phi = check_order(order, 3), check_s_noise(s_noise), _log_of(scale)
    if scale is not None:
        problem.require_descending()
    kernels, history = _kernels(problem.grid, log_phi, order), History(order)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        decay, spread, moments = kernels[i]
        values = history.push(i, here.log_snr, prediction.x0)
        nodes = [_fraction(log_snr - here.log_snr, there.log_snr - here.log_snr) for log_snr, _ in values]
        shares = _taylor(nodes, moments) if divided and len(nodes) == 3 else weights(nodes, moments[: len(nodes)])
        mass = -there.alpha * math.expm1(-decay)
        mean = add_scaled(
            (there.alpha / here.alpha * math.exp(-decay), x),
            *((mass * share, x0) for share, (_, x0) in zip(shares, values, strict=True)),
        )
        return mean if scale is None else mean.add_(problem.noise(i, x), alpha=there.sigma * spread * s_noise)

    return problem.solve(step)


def _log_of(scale: Scale) -> Log:
    if scale is None:
        return lambda level: level
    if callable(scale):
        return lambda level: scale(level.exp()).log()
    if scale not in LOG_SCALES:
        raise ValueError(f"scale must be one of {', '.join(LOG_SCALES)}, None or a function, got {scale!r}")
    return LOG_SCALES[scale]


def _kernels(grid: Grid, log_phi: Log, n: int) -> list[tuple[float, float, list[float]]]:
    """``log(phi/phi')`` of each step, its noise in sigma', and the means of u^k, k < n, over its kernel.

    u goes from 0 at r to 1 at r'. By parts, the mean of u^k is ``int k u^(k-1) (1 - phi'/phi(u)) du / (1 - phi'/phi)``,
    which needs no derivative; by Gauss's rule in log r. The kernels of steps that touch an end have no meaning.
    """
    levels = -torch.tensor([point.log_snr for point in grid.points], dtype=torch.float64)
    inside = levels.isfinite()[:-1] & levels.isfinite()[1:]
    here, reach = levels[:-1].where(inside, torch.zeros(())), levels.diff().where(inside, -torch.ones(()))
    places, masses = gauss_legendre(float(reach.abs().max()))
    masses = masses / (2 * len(masses) / NODES)
    end = log_phi(here + reach)
    decay = log_phi(here) - end
    if not bool(decay.isfinite().all()):
        raise ValueError("scale must be positive and finite on the levels of the grid")
    excess = decay + reach  # by which phi falls faster than the level, in logarithms
    slow = excess < -1e-12  # of rounding alone there may be less
    if bool(slow.any()):
        raise ValueError(
            "scale must grow at least as fast as sigma/alpha, and does not from "
            f"{(here + reach)[slow][0].exp():.6g} to {here[slow][0].exp():.6g}"
        )
    spreads = (-torch.expm1(-2 * excess.clamp(min=0))).sqrt()
    gone = reach[:, None] * places
    u = torch.expm1(gone) / torch.expm1(reach)[:, None]
    du = torch.exp(gone) * (reach / torch.expm1(reach))[:, None] * masses
    lost = -torch.expm1(end[:, None] - log_phi(here[:, None] + gone)) / -torch.expm1(-decay)[:, None]
    moments = [torch.ones_like(decay)] + [(k * u ** (k - 1) * lost * du).sum(1) for k in range(1, n)]
    return list(zip(decay.tolist(), spreads.tolist(), torch.stack(moments, 1).tolist(), strict=True))


def _fraction(way: float, whole: float) -> float:
    """u of a log-SNR that lies ``way`` from the start of a step of length ``whole``."""
    return math.expm1(-way) / math.expm1(-whole)


def _taylor(nodes: list[float], moments: list[float]) -> list[float]:
    """``D + d u + dd u^2``, with d and dd the first and second divided differences."""
    parabola = weights(nodes, [1.0, moments[1], moments[2]])
    curvature = weights(nodes, [0.0, 0.0, 1.0])  # the second divided difference
    # Newton's parabola has dd u (u - u1) where this has dd u^2
    return [w + c * moments[1] * nodes[1] for w, c in zip(parabola, curvature, strict=True)]

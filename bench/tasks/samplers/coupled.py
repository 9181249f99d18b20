"""Weak order on a mixture: expectations of a sampler's output on coarse and fine grids driven by one Brownian path.

The law of the output is not known in closed form there, and the difference of two expectations would drown in the noise
of independent draws. Driven by one path, the states of n and 2n steps differ by O(h), and scrambled Sobol points (Owen,
10.1137/S0036142994277468), used for the lowest frequencies of the path first, leave little noise in their mean. ``E
f(X_n) - E f(X_2n)`` falls as h to the weak order. This needs no reference and has no bias: each draw that the sampler
gets is exactly normal and independent of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.stats
import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.oracle import MixtureOracle
from implementations.diffusion.path import Path

MEANS, VARIANCES, WEIGHTS = (-0.7, 0.5), (0.15, 0.4), (0.4, 0.6)
REPLICATES = 8  # scramblings of the points
Sample = Callable[..., Tensor]  # (oracle, x, times, noise) -> x


class WeakErrors(NamedTuple):
    """Weak errors of a sampler on a ladder of grids, ``E f(X_n) - E f(X_2n)``, for each scrambling of the points.

    The slope of their norm over the steps is the weak order. f are several functions of the output.
    """

    steps: list[int]
    differences: Float[Tensor, "replicates rungs functions"]
    biases: Float[Tensor, "replicates functions"]  # expectations on the finest grid minus the exact ones

    @property
    def errors(self) -> list[float]:
        """The norm over functions of the mean difference ``E f(X_n) - E f(X_2n)``, per number of steps n."""
        return self.differences.mean(0).norm(dim=1).tolist()

    @property
    def consistent(self) -> bool:
        """Whether the sampler converges to the exact law: the finest grid is as close to it as the differences imply.

        At order 1 the remaining error equals the last difference, and at higher orders it is smaller; four standard
        errors more are taken for noise. Without this test, a sampler that converges to another law would pass.
        """
        noise = (self.biases.var(0) / len(self.biases)).sum().sqrt()
        return float(self.biases.mean(0).norm()) <= 2 * self.errors[-1] + 4 * float(noise)

    def slope(self) -> tuple[float, float]:
        """The weak order, the least-squares slope of the errors over the steps in logarithms, and its standard error.

        The error is that of the jackknife over replicates.
        """
        total, n = self.differences.sum(0), len(self.differences)
        left_out = [_slope(self.steps, (total - one).norm(dim=1)) for one in self.differences]
        spread = math.sqrt((n - 1) / n * sum((slope - sum(left_out) / n) ** 2 for slope in left_out))
        return _slope(self.steps, total.norm(dim=1)), spread


def two_modes(path: Path) -> MixtureOracle:
    """A mixture of two Gaussians in one dimension, on which weak orders are measured."""
    means = torch.tensor(MEANS, dtype=torch.float64)[:, None]
    return MixtureOracle(path, means, torch.tensor(VARIANCES, dtype=torch.float64), WEIGHTS)


def weak_errors(
    sample: Sample, path: Path, grid: Callable[[int], Tensor], steps: list[int], points: int, seed: int
) -> WeakErrors:
    """Weak errors of a sampler on grids of ``steps`` steps and of twice the last, driven by the same Brownian paths.

    ``steps`` must double and the grids be nested. A replicate has 2^points Brownian paths.
    """
    oracle = two_modes(path)
    per_step = _draws_per_step(sample, oracle, grid(4))
    found, biases, truth = [], [], _expectations(path, float(grid(2)[-1]))
    for replicate in range(REPLICATES):
        driven = _Brownian(path, grid, 2 * steps[-1] * per_step, points, seed * REPLICATES + replicate)
        x = _start(path, float(grid(2)[0]), driven.uniform)
        ends = [sample(oracle, x, grid(n), driven.noise(n * per_step)) for n in (*steps, 2 * steps[-1])]
        means = torch.stack([_functions(end).mean(0) for end in ends])
        found.append(means[:-1] - means[1:])
        biases.append(means[-1] - truth)
    return WeakErrors(steps, torch.stack(found), torch.stack(biases))


def _functions(x: Float[Tensor, "n 1"]) -> Float[Tensor, "n functions"]:
    """The functions whose expectations are compared: two moments, two waves and a bump on each mode."""
    bumps = [torch.exp(-4 * (x - mean) ** 2) for mean in MEANS]
    return torch.cat([x, x * x, torch.cos(2 * x), torch.sin(2 * x), *bumps], 1)


def _laws(path: Path, t: float) -> list[tuple[float, float, float]]:
    """Weight, mean and standard deviation of each mode at t."""
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    return [
        (weight, alpha * mean, math.hypot(alpha * variance**0.5, sigma))
        for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES, strict=True)
    ]


def _expectations(path: Path, t: float) -> Float[Tensor, " functions"]:
    """Expectations of the functions under the marginal at t, by Gauss-Hermite quadrature."""
    nodes, masses = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(80))
    masses = masses / masses.sum()
    return sum((w * (masses @ _functions((m + s * nodes)[:, None])) for w, m, s in _laws(path, t)), torch.zeros(()))


class _Brownian:
    """A Brownian motion over (sigma/alpha)^2 on ``count`` intervals of the grid, and a uniform number per start."""

    def __init__(self, path: Path, grid: Callable[[int], Tensor], count: int, points: int, seed: int):
        self.levels = path.ratio(grid(count)) ** 2
        unit = scipy.stats.qmc.Sobol(count + 1, seed=seed).random_base2(points).clip(1e-12, 1 - 1e-12)
        self.uniform = torch.from_numpy(unit[:, 0])
        # An orthogonal map of normals, in which the first rows are the lowest frequencies.
        white = scipy.fft.idct(scipy.stats.norm.ppf(unit[:, 1:].T), axis=0, norm="ortho")
        increments = torch.from_numpy(np.ascontiguousarray(white)).mul_((-self.levels.diff()).sqrt()[:, None])
        self.motion = torch.cat([torch.zeros_like(increments[:1]), increments.cumsum_(0)])

    def noise(self, count: int) -> Callable[[int, Tensor], Tensor]:
        """The noise of ``count`` draws: draw k is the increment over part k, divided by its standard deviation."""
        stride = (len(self.levels) - 1) // count

        def draw(k: int, like: Tensor) -> Tensor:
            a, b = k * stride, (k + 1) * stride
            return ((self.motion[b] - self.motion[a]) / (self.levels[a] - self.levels[b]).sqrt())[:, None]

        return draw


def _start(path: Path, t: float, uniform: Float[Tensor, " n"]) -> Float[Tensor, "n 1"]:
    """Quantiles of the marginal at t, by bisection."""
    laws = _laws(path, t)
    reach = 10 * max(deviation for *_, deviation in laws)
    low, high = torch.full_like(uniform, -reach), torch.full_like(uniform, reach)
    for _ in range(60):
        middle = (low + high) / 2
        below = sum((w * torch.special.ndtr((middle - m) / s) for w, m, s in laws), torch.zeros(())) < uniform
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return middle[:, None]


def _draws_per_step(sample: Sample, oracle: MixtureOracle, times: Tensor) -> int:
    asked = [0]

    def zero(k: int, like: Tensor) -> Tensor:
        asked.append(k + 1)
        return torch.zeros_like(like)

    sample(oracle, torch.zeros(1, 1, dtype=torch.float64), times, zero)
    return max(1, math.ceil(max(asked) / (len(times) - 1)))


def _slope(steps: list[int], errors: Any) -> float:
    x, y = np.log(steps), np.log(np.asarray(errors))
    return -float(np.polyfit(x, y, 1)[0])

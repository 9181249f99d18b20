"""What samplers are set to solve: oracles with a known truth, and the exact start on a grid of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.task import PathName, SamplerName, ScheduleName, TaskParameters, Value
from implementations.catalogue import PATHS, SAMPLERS, SCHEDULES
from implementations.diffusion import CountingDenoiser, GaussianOracle, MixtureOracle, Path
from implementations.entry import SamplerEntry
from implementations.samplers.noise import PerSampleNoise

OracleName = Literal["gaussian", "mixture"]


def make_path(name: str) -> Path:
    """A path by name; the discrete one over DDPM's 1,000 linear betas."""
    options = {"betas": torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)} if name == "discrete_vp" else {}
    return PATHS[name](**options)


def gaussian_law(dimension: int = 16) -> tuple[Tensor, Tensor]:
    """Means in [-1, 1] and variances whose roots run from 0.05 to 1, log-spaced."""
    deviations = torch.logspace(math.log10(0.05), 0, dimension, dtype=torch.float64)
    return torch.linspace(-1, 1, dimension, dtype=torch.float64), deviations**2


def gaussian(path: Path, device: str = "cpu") -> GaussianOracle:
    """The Gaussian of ``gaussian_law``: its flow is known."""
    return GaussianOracle(path, *gaussian_law()).to(device)


def eight_gaussians(path: Path, device: str = "cpu") -> MixtureOracle:
    """Eight equal Gaussians of standard deviation 0.1 on a circle of radius 1, labelled."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = torch.stack([angles.cos(), angles.sin()], dim=1).to(device)
    covariances = torch.full((8,), 0.01, dtype=torch.float64, device=device)
    weights = torch.full((8,), 1 / 8, dtype=torch.float64, device=device)
    return MixtureOracle(path, means, covariances, weights, labels=torch.arange(8, device=device))


ORACLES: dict[str, Callable[[Path, str], Any]] = {"gaussian": gaussian, "mixture": eight_gaussians}


class Budgeted(TaskParameters):
    """A sampler with at most ``nfe`` evaluations, from exact draws at the first time of its schedule."""

    sampler: SamplerName
    options: dict[str, Any] = {}
    path: PathName = "vp"
    schedule: ScheduleName = "karras"
    schedule_options: dict[str, Any] = {}
    nfe: int = Field(ge=1)

    @property
    def entry(self) -> SamplerEntry:
        """The sampler, with what it states of itself."""
        return SAMPLERS[self.sampler].loaded()


class Solution(NamedTuple):
    """What a sampler made of exact draws at the first time of its grid."""

    start: Float[Tensor, "n *shape"]
    samples: Float[Tensor, "n *shape"]
    times: Float[Tensor, " steps+1"]
    evaluations: int


def solve(parameters: Budgeted, oracle: Any, n: int, seed: int) -> Solution:
    """Run a sampler from exact draws of the marginal, on the grid of the most steps that its budget allows.

    No mismatch with a prior enters the error. Raises ValueError where the sampler exceeds ``nfe`` or returns another
    shape or an integer type, FloatingPointError where its output is not finite.
    """
    times = affordable(parameters, oracle.path)
    x = marginal(oracle, times[0], n, generator(seed, "start"))
    base = seed_of(seed, "noise") << 32  # no two seeds share a sample's noise
    counted = CountingDenoiser(oracle)
    found = parameters.entry(counted, x, times, noise=PerSampleNoise(range(base, base + n)), **parameters.options)
    if counted.calls > parameters.nfe:
        raise ValueError(
            f"{parameters.sampler} made {counted.calls} evaluations, allowed are {parameters.nfe}: "
            "does it state its `stages`?"
        )
    return Solution(x, require_samples(found, x), times, counted.calls)


def affordable(parameters: Budgeted, path: Path) -> Float[Tensor, " steps+1"]:
    """The grid of the most steps that cost at most ``nfe`` evaluations; of one step at the least."""
    entry, schedule = parameters.entry, SCHEDULES[parameters.schedule]
    for steps in range(entry.steps_for(parameters.nfe, ends=2, **parameters.options), 1, -1):
        times = schedule(path, steps, **parameters.schedule_options)
        cost = entry.evaluations(times, path=path, **parameters.options)
        if cost is None or cost <= parameters.nfe:
            return times
    return schedule(path, 1, **parameters.schedule_options)


def marginal(oracle: Any, t: float | Tensor, n: int, source: torch.Generator) -> Float[Tensor, "n *shape"]:
    """Exact draws at ``t``: data, scaled and noised."""
    data = oracle.sample(n, generator=source)
    noise = torch.randn(data.shape, generator=source, dtype=torch.float64).to(data)
    return oracle.path.alpha(t).to(data) * data + oracle.path.sigma(t).to(data) * noise


def seed_of(seed: int, role: Literal["start", "noise", "truth", "directions"]) -> int:
    """A seed of its own for each role: 32 bits, since torch's CPU generator keeps no more of them."""
    return int(np.random.SeedSequence([seed, *role.encode()]).generate_state(1)[0])


def generator(seed: int, role: Literal["start", "noise", "truth", "directions"]) -> torch.Generator:
    """A generator of a role."""
    return torch.Generator().manual_seed(seed_of(seed, role))


def floor_of(distance: Callable[[Tensor], float], draw: Callable[[], Tensor], repeats: int = 8) -> Value:
    """What a perfect sampler reaches: the mean distance of exact draws, and the range in which 95 % of others lie.

    A prediction interval, ``mean ± t_(.975, n-1) sd sqrt(1 + 1/n)``.
    """
    values = [distance(draw()) for _ in range(repeats)]
    reach = scipy.stats.t.ppf(0.975, repeats - 1) * statistics.stdev(values) * math.sqrt(1 + 1 / repeats)
    mean = statistics.fmean(values)
    return Value(mean, (mean - reach, mean + reach), n=repeats)


def require_samples(found: Tensor, x: Tensor) -> Tensor:
    """``found`` itself; raises ValueError on another shape than x's or an integer, FloatingPointError if not finite."""
    if found.shape != x.shape or not found.is_floating_point():
        raise ValueError(f"the sampler returned {found.dtype} of shape {tuple(found.shape)} for {tuple(x.shape)}")
    bad = int((~torch.isfinite(found)).sum())
    if bad:
        raise FloatingPointError(f"{bad} of {found.numel()} values of the samples are not finite")
    return found

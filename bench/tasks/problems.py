"""What samplers are set to solve: oracles with a known truth, and the exact start on a grid of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Value
from implementations.catalogue import PATHS, SCHEDULES
from implementations.diffusion import GaussianOracle, MixtureOracle, Path

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


def grid(schedule: str, path: Path, steps: int, options: dict[str, Any]) -> Float[Tensor, " steps+1"]:
    """A schedule's times."""
    return SCHEDULES[schedule](path, steps, **options)


def start(oracle: Any, t: float | Tensor, n: int, generator: torch.Generator) -> Float[Tensor, "n *shape"]:
    """Exact draws of the marginal at ``t``: data, scaled and noised. No mismatch with a prior enters the error."""
    data = oracle.sample(n, generator=generator)
    noise = torch.randn(data.shape, generator=generator, dtype=torch.float64, device=generator.device).to(data)
    return oracle.path.alpha(t).to(data) * data + oracle.path.sigma(t).to(data) * noise


def truth_generator(seed: int) -> torch.Generator:
    """The generator of the exact draws that samples are held against, apart from that of the start."""
    return torch.Generator().manual_seed(2**32 + seed)


def floor_of(distance: Callable[[Tensor], float], draw: Callable[[], Tensor], repeats: int = 8) -> Value:
    """The mean distance of exact draws, and the range in which 95 % of them lie: what a perfect sampler reaches."""
    values = [distance(draw()) for _ in range(repeats)]
    mean, spread = statistics.fmean(values), 1.96 * statistics.stdev(values)
    return Value(mean, (mean - spread, mean + spread), n=repeats)


def require_finite(x: Tensor, what: str) -> Tensor:
    """``x`` itself; raises FloatingPointError where a value is not finite."""
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise FloatingPointError(f"{bad} of {x.numel()} values of {what} are not finite")
    return x

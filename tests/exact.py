"""What the tests of samplers share: denoisers whose flow is known, every path, and every variant of a sampler."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion import (
    EDM,
    SCHEDULES,
    VE,
    VP,
    Cosine,
    DiscreteVP,
    GaussianOracle,
    Prediction,
    RectifiedFlow,
    SubVP,
    TrigFlow,
)
from implementations.diffusion.path import Path
from implementations.samplers import SAMPLERS

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # DDPM's
TABLE = DiscreteVP(BETAS)
CONTINUOUS = [VP(), Cosine(), SubVP(), VE(), EDM(), RectifiedFlow(), TrigFlow()]
PATHS = [*CONTINUOUS, TABLE]
OWN = [name for name, entry in SAMPLERS.items() if entry.source == "fidmap" and entry.family != "peer"]
# a sampler with the options of one variant: each coordinate and each order that it takes
VARIANTS = [(name, options) for name in OWN for options in SAMPLERS[name].variants()]


class Gaussian(GaussianOracle):
    """The oracle of independent coordinates in a tenth of its operations: a test asks for thousands of answers."""

    def __init__(self, path: Path, mean: Tensor, variance: Tensor):
        super().__init__(path, mean, variance)
        self.mean, self.variance = mean, variance

    def __call__(self, x: Tensor, t: Any, condition: Any = None) -> Prediction:
        if condition is not None or torch.as_tensor(t).ndim:
            return super().__call__(x, t, condition)
        alpha, sigma = scales(self.path, float(t))
        pull = (x - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        x0 = torch.addcmul(self.mean, self.variance, pull, value=alpha)
        dtype = torch.promote_types(x.dtype, torch.float32)
        views = {"x0": x0, "eps": sigma * pull, "score": -pull}
        return Prediction(self.path, x, t, **{name: view.to(dtype) for name, view in views.items()})


@functools.cache
def scales(path: Path, t: float) -> tuple[float, float]:
    """alpha and sigma, once for each time."""
    return float(path.alpha(t)), float(path.sigma(t))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(k: int, like: Tensor) -> Tensor:
    """Noise of a sampler: draw k for the whole batch, of a seed of its own."""
    return normal(*like.shape, seed=100 + k)


def run(name: str, path: Path | None = None, steps: int = 8, *, clean: bool = True, **options: Any) -> Tensor:
    """Four samples of ``gaussian`` by a sampler on Karras' levels, from the same start and noise at every call."""
    path = path or VP()
    times = SCHEDULES["karras"](path, steps, clean=clean)
    return SAMPLERS[name](gaussian(path), normal(4, 6) * float(path.sigma(times[0])), times, noise=draws, **options)


def gaussian(path: Path, d: int = 6, kind: Any = Gaussian) -> Any:
    """Data of d independent coordinates, of means from -1 to 1 and variances from .05 to 2."""
    return kind(path, torch.linspace(-1, 1, d).double(), torch.linspace(0.05, 2, d).double())


def start(path: Path, t: Any, z: Tensor) -> Tensor:
    """The same place on every path: x / hypot(alpha, sigma) is z."""
    return z * math.hypot(*scales(path, float(t)))


def label(value: Any) -> str | None:
    """A path's name, or a variant's with its options, as the id of a test."""
    if isinstance(value, tuple) and isinstance(value[0], str):
        return "-".join([value[0], *map(str, value[1].values())])
    return type(value).__name__ if isinstance(value, Path) else None


def plane() -> GaussianOracle:
    """An exact model as a user's function gives it, in the plane."""
    return GaussianOracle(VP(), torch.zeros(2), torch.ones(2))

"""What a regression objective teaches: distance of the trained network's samples to the truth, and its own error.

The data are eight Gaussians in the plane with unit variance, whose exact denoiser is known. A seed draws the weights,
the data, the times and the noise of a training, and they are the same for every objective.
"""

from __future__ import annotations

import math
import statistics
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data.toy import EightGaussians
from bench.task import Context, Measurements, Value
from bench.tasks.draws import generator, seed_of
from bench.tasks.intervals import measure_floor
from bench.tasks.objectives.network import make_denoiser
from implementations.catalogue import PATHS, SAMPLERS, SCHEDULES
from implementations.catalogue.objectives import OBJECTIVES
from implementations.diffusion.denoiser import Denoiser, Network
from implementations.diffusion.oracle import MixtureOracle
from implementations.diffusion.path import Path
from implementations.objectives import timesteps
from implementations.objectives.regression import regression
from metrics import sliced_wasserstein

if TYPE_CHECKING:
    from bench.tasks.objectives.declarations import QualityParameters

DATA = EightGaussians(radius=1.4, deviation=0.15)  # of variance 1.4^2 / 2 + 0.15^2 = 1.0025 along each axis
LEVELS = {"x0_error_low": 0.1, "x0_error": 0.5, "x0_error_high": 2.0}  # sigma/alpha
POINTS = 2000  # at which the denoiser is compared
WARM_UP = 0.05  # of the steps


def objective_quality(parameters: QualityParameters, context: Context) -> Measurements:
    """Train a network by the objective, sample from it, and compare samples and denoiser with the truth."""
    path = PATHS[parameters.path]()
    trained = train(parameters, path, context.seed)
    samples = _sample(parameters, trained.denoiser, context.seed)
    if context.keep_samples:
        context.keep("samples", samples)
    truth = _truth(parameters.samples, context.seed)
    return {
        "sliced_w2": Value(_sliced_w2(samples, truth.draws, context.seed), n=parameters.samples),
        "sliced_w2_floor": truth.floor,
        "loss": statistics.fmean(trained.losses[-max(1, len(trained.losses) // 10) :]),
        **{name: Value(_x0_error(trained.denoiser, level, context.seed), n=POINTS) for name, level in LEVELS.items()},
    }


class Trained(NamedTuple):
    """A trained denoiser, and the mean loss of each step."""

    denoiser: Network
    losses: list[float]


def train(parameters: QualityParameters, path: Path, seed: int) -> Trained:
    """Train a small network by the objective, for a fixed number of seeded steps of AdamW.

    The rate rises over the first ``WARM_UP`` of the steps, then falls to 0 as a cosine.
    """
    torch.manual_seed(seed_of(seed, "start"))
    options = dict(OBJECTIVES[parameters.objective].preset)
    options |= {"weighting": parameters.weighting} if parameters.weighting else {}
    options |= {"sigma_data": 1.0} if options.get("weighting") == "edm" else {}
    denoiser = make_denoiser(path, options["view"], preconditioned=parameters.objective == "edm")
    assert isinstance(denoiser.module, torch.nn.Module)
    optimiser = torch.optim.AdamW(denoiser.module.parameters(), parameters.rate, weight_decay=0.0)
    draws, noises = generator(seed, "data"), generator(seed, "noise")
    density, losses = getattr(timesteps, parameters.timesteps), []
    for step in range(parameters.steps):
        for group in optimiser.param_groups:
            group["lr"] = parameters.rate * _schedule(step / parameters.steps)
        x0, noise = DATA.sample(parameters.batch, draws), torch.randn(parameters.batch, 2, generator=noises)
        u = torch.rand(parameters.batch, generator=noises, dtype=torch.float64).clamp(min=2.0**-53)
        t = density(path, u, **parameters.timestep_options)
        loss = regression(denoiser, x0, t, noise, **options).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    if not math.isfinite(losses[-1]):
        raise FloatingPointError("the loss is not finite")
    return Trained(denoiser, losses)


def _schedule(share: float) -> float:
    """The rate at a share of the training, in units of the highest."""
    return share / WARM_UP if share < WARM_UP else (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


class Truth(NamedTuple):
    """Exact draws, and the floor of other exact draws to them."""

    draws: Float[Tensor, "n 2"]
    floor: Value


@lru_cache(maxsize=8)
def _truth(n: int, seed: int) -> Truth:
    stream = generator(seed, "truth")
    draws = DATA.sample(n, stream)
    return Truth(draws, measure_floor(lambda again: _sliced_w2(again, draws, seed), lambda: DATA.sample(n, stream)))


def _sample(parameters: QualityParameters, denoiser: Denoiser, seed: int) -> Float[Tensor, "n 2"]:
    """Samples from pure noise at a level beside which the data are a point."""
    path = denoiser.path
    times = SCHEDULES["karras"](path, parameters.sampling, sigma_min=0.01, sigma_max=20.0)
    z = torch.randn(parameters.samples, 2, generator=generator(seed, "warm-up"))
    with torch.no_grad():
        found: Any = SAMPLERS["heun"](denoiser, path.prior(z, times[0]), times)
    if not bool(found.isfinite().all()):
        raise FloatingPointError("the samples are not finite")
    return found  # type: ignore[no-any-return]


def exact_denoiser(path: Path) -> MixtureOracle:
    """The exact denoiser of the data on a path."""
    variances = torch.full((8,), DATA.deviation**2, dtype=torch.float64)
    return MixtureOracle(path, DATA.means, variances, torch.full((8,), 1 / 8, dtype=torch.float64))


def _x0_error(denoiser: Denoiser, level: float, seed: int) -> float:
    """RMS over points and coordinates of the difference of x0 from the exact one, at draws of the noised data."""
    path, stream = denoiser.path, generator(seed, "directions")
    t = path.time(torch.tensor(-math.log(level), dtype=torch.float64))
    x0, noise = DATA.sample(POINTS, stream), torch.randn(POINTS, 2, generator=stream)
    x = path.alpha(t).float() * x0 + path.sigma(t).float() * noise
    with torch.no_grad():
        apart = denoiser(x, t).x0 - exact_denoiser(path)(x, t).x0
    return float(apart.square().mean().sqrt())


def _sliced_w2(x: Tensor, y: Tensor, seed: int) -> float:
    return sliced_wasserstein(x, y, seed=seed_of(seed, "directions"))

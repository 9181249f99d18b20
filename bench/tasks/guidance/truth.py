"""What a guidance scheme samples, beside ``p(x) p(c | x)^w``, and its score beside that of the noised density.

At t > 0 classifier-free guidance has the score of ``p_t(x) p_t(c | x)^w``, which is not that of the noised ``p(x) p(c |
x)^w``, so that its samples are not of that density. On a mixture in the plane both are known.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.draws import generator, seed_of
from bench.tasks.guidance.schemes import make_scheme
from bench.tasks.guidance.tilted import draw_tilted, noised_score, posterior, three_classes
from bench.tasks.intervals import SETS, measure_floor
from implementations.catalogue import GUIDANCE, SAMPLERS, SCHEDULES
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.oracle import MixtureOracle
from implementations.diffusion.path import VP
from metrics import energy_distance, sliced_wasserstein

if TYPE_CHECKING:
    from bench.tasks.guidance.declarations import TruthParameters

GIVEN = ("classifier", "weak", "loss")  # what the oracle gives to a scheme that needs it
WIDER = 0.1  # added to the variances of the data, for the weaker model of autoguidance
PATH = VP()  # a scheme does the same on every path, as its tests show


def guidance_truth(parameters: TruthParameters, context: Context) -> Measurements:
    """Distance of the samples and of the score to the truth, and purity and diversity of the samples."""
    oracle = three_classes(PATH)
    counted = CountingDenoiser(oracle)
    guided, condition = make_guided(parameters, oracle, counted)
    samples = _sample(parameters, oracle, guided, condition, context.seed)
    evaluations = counted.rows / parameters.samples
    truth = _truth(parameters.scale, parameters.condition, parameters.samples, context.seed)
    errors = [_score_error(parameters, oracle, guided, condition, level, context.seed) for level in parameters.levels]
    order = sorted(range(len(errors)), key=lambda k: parameters.levels[k])
    if context.keep_samples:
        context.keep("samples", samples)
    of_class = truth.class_draws.var(0).sum()
    n = parameters.samples
    return {
        "sliced_w2": Value(_sliced_w2(samples, truth.draws, context.seed), n=n),
        "sliced_w2_floor": truth.sliced_w2,
        "energy": Value(energy_distance(samples, truth.draws).value, n=n),
        "energy_floor": truth.energy,
        "class_w2": Value(_sliced_w2(samples, truth.class_draws, context.seed), n=n),
        "score_error": max(error.relative for error in errors),
        "score_error_low": errors[order[0]].relative,
        "score_error_high": errors[order[-1]].relative,
        "quadrature_error": max(error.quadrature for error in errors),
        "purity": float(posterior(oracle, samples, 0.0, parameters.condition).mean()),
        "purity_truth": float(posterior(oracle, truth.draws, 0.0, parameters.condition).mean()),
        "diversity": float((samples.var(0).sum() / of_class).sqrt()),
        "diversity_truth": float((truth.draws.var(0).sum() / of_class).sqrt()),
        "evaluations": evaluations,
    }


def make_guided(parameters: TruthParameters, oracle: MixtureOracle, denoiser: Denoiser) -> tuple[Denoiser, int | None]:
    """Make the scheme on a denoiser of the oracle, with what it needs, and the condition with which it is asked.

    A classifier is the oracle's own at every noise level; the weaker model of autoguidance has wider data. A universal
    loss is ``-log p(c | x0)`` of clean data and guides the unconditional denoiser. Raises ValueError on a scheme that
    needs what is not here.
    """
    label, given = parameters.condition, dict[str, dict[str, Any]]()
    classes = oracle.labels.unique().tolist() if oracle.labels is not None else []

    def classify(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack([posterior(oracle, x, float(t[0]), c).log() for c in classes], 1)

    given["classifier"] = {"classifier": classify, "time": lambda t: t}
    given["weak"] = {"weak": three_classes(PATH, WIDER)}
    given["loss"] = {"loss": lambda x0: -posterior(oracle, x0, 0.0, label).log()}
    guided = make_scheme(
        parameters.guidance, denoiser, parameters.scale, parameters.options, given, "points of the plane"
    )
    return guided, None if "loss" in GUIDANCE[parameters.guidance].needs else label


class Truth(NamedTuple):
    """Exact draws of the truth and of the class, and the floors of other draws of the truth."""

    draws: Float[Tensor, "n 2"]
    class_draws: Float[Tensor, "n 2"]
    sliced_w2: Value
    energy: Value


class ScoreError(NamedTuple):
    """RMS error of a score in units of the true one's RMS, and the error of the latter at most."""

    relative: float
    quadrature: float


def _sample(
    parameters: TruthParameters, oracle: MixtureOracle, guided: Denoiser, condition: int | None, seed: int
) -> Tensor:
    """Samples from pure noise at a level beside which the data are a point."""
    times = SCHEDULES["karras"](PATH, parameters.steps, sigma_min=0.01)
    z = torch.randn(parameters.samples, 2, generator=generator(seed, "start"), dtype=torch.float64)
    base = seed_of(seed, "noise") << 32
    noise = PerSampleNoise(range(base, base + parameters.samples))
    with torch.no_grad():
        found = SAMPLERS[parameters.sampler](guided, PATH.prior(z, times[0]), times, condition=condition, noise=noise)
    if not bool(found.isfinite().all()):
        raise FloatingPointError("the samples are not finite")
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=16)
def _truth(w: float, condition: int, n: int, seed: int) -> Truth:
    oracle, stream = three_classes(PATH), generator(seed, "truth")

    draws, of_class = draw_tilted(oracle, w, condition, n, stream), oracle.sample(n, stream, condition)
    others = [draw_tilted(oracle, w, condition, n, stream) for _ in range(SETS)]  # of which both floors are
    sliced = measure_floor(lambda again: _sliced_w2(again, draws, seed), iter(others).__next__)
    energy = measure_floor(lambda again: energy_distance(again, draws).value, iter(others).__next__)
    return Truth(draws, of_class, sliced, energy)


def _score_error(
    parameters: TruthParameters, oracle: MixtureOracle, guided: Denoiser, condition: int | None, level: float, seed: int
) -> ScoreError:
    """The error at draws of the noised truth; the scheme's score is that of its x0, ``(alpha x0 - x) / sigma^2``."""
    t = PATH.time(-math.log(level))
    alpha, sigma = float(PATH.alpha(t)), float(PATH.sigma(t))
    x, exact, quadrature = _noised(parameters.scale, parameters.condition, parameters.points, alpha, sigma, seed)
    with torch.no_grad():
        found = (alpha * guided(x, t, condition).x0 - x) / sigma**2
    return ScoreError(float((found - exact).square().sum().sqrt() / exact.square().sum().sqrt()), quadrature)


@lru_cache(maxsize=32)
def _noised(w: float, condition: int, n: int, alpha: float, sigma: float, seed: int) -> tuple[Tensor, Tensor, float]:
    """Draws of the noised truth, its score there, and the error of that."""
    oracle, stream = three_classes(PATH), generator(seed, "data")
    x0 = draw_tilted(oracle, w, condition, n, stream)
    x = alpha * x0 + sigma * torch.randn(n, 2, generator=stream, dtype=torch.float64)
    score, error = noised_score(oracle, w, condition, x, alpha, sigma)
    return x, score, error


def _sliced_w2(x: Tensor, y: Tensor, seed: int) -> float:
    return float(sliced_wasserstein(x, y, seed=seed_of(seed, "directions")))

"""Quality of the images that a sampler draws from an exact denoiser, over its budget and over its latency.

There are two denoisers: the optimal one of a finite set of images, and that of the ten classes as Gaussians. Both are
exact, so that the difference between a figure and its floor, which exact draws reach, is the error of the solver. The
third kind is a learned model (``learned_quality``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data import fashion_mnist
from bench.task import Context, Measurements, Value
from bench.tasks.intervals import SETS, measure_floor
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.images import EXTRACTOR, class_mixture, empirical, features, mixture_pixels, pixels
from bench.tasks.samplers.learned_quality import learned_quality
from bench.tasks.samplers.overhead import Idle
from bench.tasks.samplers.problems import Solution, generator, sampler_of, solve
from bench.timing import clock_for, measure, median_interval
from implementations.diffusion.path import VP
from metrics import FeatureStatistics, frechet_distance
from metrics.samples.balls import precision_recall

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import ImageParameters, LatencyParameters, QualityParameters

ImageOracleName = Literal["empirical", "classes"]
POOL = 10_000  # exact draws of the mixture, from which floors are drawn
# With fixed draws and seeds, another instruction set changes fd by 1e-7 of itself and the shares not at all, whereas
# losing one sample in a hundred exceeds these windows.


def sampler_quality(parameters: QualityParameters, context: Context) -> Measurements:
    """fd_fmnist, precision and recall of the samples, beside the floors that as many exact draws or real images reach.

    Of a learned model also KID, and the time of a batch.
    """
    if parameters.checkpoint:
        return learned_quality(parameters, context)
    solution, found = _draw_images(parameters, context)
    drawn = features(found)
    data = f"{fashion_mnist.data_hash('test')}[:{parameters.images}]"
    if parameters.oracle == "classes":
        data = f"{parameters.images} draws of the classes of {fashion_mnist.data_hash('test')}"
    origin: dict[str, Any] = {"extractor": EXTRACTOR, "reference": data}
    reference = _reference(parameters.oracle, parameters.images)
    measures: dict[str, float | Value] = {}
    for name, value in image_figures(drawn, reference).items():
        floor = _floors(parameters.oracle, parameters.images, parameters.samples, context.seed)[name]
        measures[name] = Value(value, n=parameters.samples, **origin)
        measures[f"{name}_floor"] = replace(floor, **origin)
    context.keep("features", drawn.float())
    if context.keep_samples:
        context.keep("samples", fashion_mnist.from_unit(found.float()))
    return measures | solution.costs


def sampler_latency(parameters: LatencyParameters, context: Context) -> Measurements:
    """fd_fmnist and the time of a batch: model calls at an assumed cost, the sampler's own work as measured."""
    solution, found = _draw_images(parameters, context)
    distance = image_figures(features(found), _reference(parameters.oracle, parameters.images), only="fd_fmnist")[
        "fd_fmnist"
    ]
    path = make_path(parameters.path)
    shape = (parameters.batch, 1, 28, 28)
    x, eps, noise = (
        torch.randn(shape, generator=generator(context.seed, role)) for role in ("start", "truth", "noise")
    )
    idle, entry = Idle(path, eps.to(context.device)), sampler_of(parameters)

    def call() -> None:
        entry(idle, x, solution.times, noise=lambda draw, like: noise, **solution.setup.options)

    timing = measure(
        {"sampler": call}, clock=clock_for(context.device), seed=context.seed, max_seconds=parameters.max_seconds
    )["sampler"]
    context.keep("seconds", torch.tensor(timing.samples, dtype=torch.float64))
    own, ends = 1e3 * timing.median, [1e3 * end for end in median_interval(timing.samples, seed=context.seed)]
    model = solution.evaluations * parameters.model_ms
    n = len(timing.samples)
    return {
        "fd_fmnist": Value(distance, n=parameters.samples, extractor=EXTRACTOR),
        "fd_fmnist_floor": _floors(parameters.oracle, parameters.images, parameters.samples, context.seed)["fd_fmnist"],
        "latency": Value(model + own, (model + ends[0], model + ends[1]), n=n),
        "overhead": Value(own, (ends[0], ends[1]), n=n),
        **solution.costs,
    }


class DataFeatures(NamedTuple):
    """Features of the images that samples are compared with, and their mean and covariance."""

    features: Float[Tensor, "n 64"]
    statistics: FeatureStatistics


def image_figures(drawn: Float[Tensor, "n 64"], reference: DataFeatures, only: str = "") -> dict[str, float]:
    """fd_fmnist, precision and recall of drawn images against the data, from their features; ``only`` one of them."""
    found = {}
    if only in ("", "fd_fmnist"):
        found["fd_fmnist"] = frechet_distance(
            FeatureStatistics.from_features(drawn, extractor=EXTRACTOR), reference.statistics
        )
    if only != "fd_fmnist":
        found |= precision_recall(reference.features, drawn)._asdict()
    return found


def _oracle(parameters: ImageParameters | QualityParameters, device: str) -> Any:
    path = make_path(parameters.path)
    if parameters.oracle == "classes":
        return class_mixture(path, device)
    return empirical(path, parameters.images, device)


def _draw_images(
    parameters: ImageParameters | QualityParameters, context: Context
) -> tuple[Solution, Float[Tensor, "n 1 28 28"]]:
    solution = solve(parameters, _oracle(parameters, context.device), parameters.samples, context.seed)
    samples = solution.samples.cpu()
    return solution, mixture_pixels(samples) if parameters.oracle == "classes" else samples


@lru_cache(maxsize=2)
def _pool(oracle: ImageOracleName, images: int) -> Float[Tensor, "n 64"]:
    """Features of the data and, for the mixture, of ``POOL`` further exact draws."""
    if oracle == "empirical":
        return features(pixels(images))
    draws = class_mixture(VP()).sample(images + POOL, generator(0, "data"))
    return torch.cat([features(mixture_pixels(part)) for part in draws.split(2000)])


@lru_cache(maxsize=2)
def _reference(oracle: ImageOracleName, images: int) -> DataFeatures:
    own = _pool(oracle, images)[:images]
    return DataFeatures(own, FeatureStatistics.from_features(own, extractor=EXTRACTOR))


@lru_cache(maxsize=8)
def _floors(oracle: ImageOracleName, images: int, samples: int, seed: int) -> dict[str, Value]:
    """Floors of exact draws; the draws of a finite data set are its members, with replacement."""
    pool, reference, stream = _pool(oracle, images), _reference(oracle, images), generator(seed, "truth")
    pool = pool if oracle == "empirical" else pool[images:]

    def draw() -> Tensor:
        return pool[torch.randint(len(pool), (samples,), generator=stream)]

    def floor(name: str, sets: int = SETS) -> Value:
        return measure_floor(lambda drawn: image_figures(drawn, reference, only=name)[name], draw, sets)

    return {"fd_fmnist": floor("fd_fmnist", 40), "precision": floor("precision"), "recall": floor("recall")}

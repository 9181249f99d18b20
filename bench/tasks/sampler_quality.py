"""Frechet distance of images that a sampler draws from the optimal denoiser of a finite data set."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.data import fashion_mnist
from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.problems import Budgeted, floor_of, generator, make_path, solve
from implementations.diffusion import EmpiricalOracle
from metrics import FeatureStatistics, frechet_distance
from metrics.extractors import fmnist


class Parameters(Budgeted):
    """A sampler on the empirical oracle of the first ``images`` test images, with a budget."""

    images: int = Field(default=2000, ge=2, le=10000)
    samples: int = Field(default=500, ge=65)  # more than the 64 features: covariances of full rank


@task(
    entry="sampler",
    catalogue="samplers",
    samples=True,
    measures=[
        Measure("fd_fmnist", "Frechet distance of Fashion-MNIST features to the data", window=0.05),
        Measure("fd_fmnist_floor", "the same of the oracle's exact draws", direction="target", window=0.05),
        Measure("evaluations", "counted at the model", direction="target", window=0.0),
    ],
)
def sampler_quality(parameters: Parameters, context: Context) -> Measurements:
    """fd_fmnist of the samples, beside the floor that exact draws of the same number reach."""
    path = make_path(parameters.path)
    oracle = EmpiricalOracle(path, _pixels(parameters.images)).to(context.device)
    solution = solve(parameters, oracle, parameters.samples, context.seed)
    found = solution.samples.cpu()
    features = _features(found)
    data = f"{fashion_mnist.data_hash('test')}[:{parameters.images}]"
    origin: dict[str, Any] = {"extractor": EXTRACTOR, "reference": data}
    distance = _distance(features, parameters.images)
    floor = _floor(parameters.images, parameters.samples, context.seed)
    context.keep("features", features.float())
    if context.keep_samples:
        context.keep("samples", fashion_mnist.from_unit(found))
    return {
        "fd_fmnist": Value(distance, n=parameters.samples, **origin),
        "fd_fmnist_floor": replace(floor, **origin),
        "evaluations": solution.evaluations,
    }


EXTRACTOR = f"fmnist@{fmnist.extractor_hash()}"


def _pixels(images: int) -> Float[Tensor, "n 1 28 28"]:
    """The first test images; N28x28 uint8 => N1x28x28 float in [-1, 1]."""
    return fashion_mnist.to_unit(fashion_mnist.load("test")[0][:images])


def _features(pixels: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 64"]:
    """Features of images in [-1, 1], quantised to uint8 as a saved image would be."""
    return fmnist.extract(fashion_mnist.from_unit(pixels).float() / 255)


@lru_cache(maxsize=2)
def _reference(images: int) -> FeatureStatistics:
    return FeatureStatistics.from_features(_features(_pixels(images)), extractor=EXTRACTOR)


def _distance(features: Float[Tensor, "n 64"], images: int) -> float:
    return frechet_distance(FeatureStatistics.from_features(features, extractor=EXTRACTOR), _reference(images))


@lru_cache(maxsize=2)
def _floor(images: int, samples: int, seed: int) -> Value:
    """Of exact draws of the oracle: images drawn with replacement."""
    features, stream = _features(_pixels(images)), generator(seed, "truth")

    def draw() -> Tensor:
        return features[torch.randint(images, (samples,), generator=stream)]

    return floor_of(lambda drawn: _distance(drawn, images), draw, repeats=40)

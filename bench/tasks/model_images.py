"""Figures of a learned model's images: distances to the test images of Fashion-MNIST, precision and recall."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bench.data import fashion_mnist
from bench.task import Context, Value
from bench.tasks.image_distances import balls, distances
from bench.tasks.samplers.images import EXTRACTOR, features, pixels

SHOWN = 10  # images that are stored as a picture, one of each class


def judge(samples: Float[Tensor, "n 1 28 28"], images: int, context: Context) -> dict[str, float | Value]:
    """Distances of samples to the first test images, precision and recall; a picture of them is kept."""
    drawn, real = features(samples), test_features(images)
    about: dict[str, Any] = {"extractor": EXTRACTOR, "reference": f"{fashion_mnist.data_hash('test')}[:{images}]"}
    context.keep("features", drawn.float())
    stored = fashion_mnist.from_unit(samples)
    context.keep("grid", stored[:SHOWN])
    if context.keep_samples:
        context.keep("samples", stored)
    found = distances("fd_fmnist", real, drawn, context.seed, **about, n=len(drawn))
    return {**found, **balls(real, drawn, context.seed, **about)}


@lru_cache(maxsize=2)
def test_features(images: int) -> Float[Tensor, "n 64"]:
    """Features of the first test images."""
    return features(pixels(images))

"""Learned models of Fashion-MNIST: their checkpoints, their starts, and the figures of their images.

Samples begin at pure noise, sample i with class i modulo their number. Their images are compared with the test images.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data import fashion_mnist
from bench.task import Context, Value
from bench.tasks.image_distances import balls, distances
from bench.tasks.model_samples import Start
from bench.tasks.samplers.images import EXTRACTOR, features, pixels
from implementations.catalogue import WEIGHTS
from implementations.diffusion.denoiser import Denoiser

SHOWN = 10  # images that are stored as a picture, one of each class
SEEN = 256  # test images from which a sampler or a schedule learns before it runs


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


@lru_cache(maxsize=4)
def open_model(name: str, device: str, path: str = "") -> Denoiser:
    """Load a checkpoint of images (1, 28, 28), if asked on a path of that name; raises ValueError on others."""
    model = WEIGHTS[name](device)
    if not isinstance(model, Denoiser) or tuple(model.shape) != (1, 28, 28):  # type: ignore[attr-defined]
        raise ValueError(f"{name} is no denoiser of images of Fashion-MNIST, (1, 28, 28)")
    own = model.description["path"]  # type: ignore[attr-defined]
    if path and own != path:
        raise ValueError(f"path is {path}, and {name} was trained on {own}: give path = {own!r}")
    return model


def start_of(model: Any, n: int, context: Context, batch: int) -> Start:
    """The starts of n samples, each class in turn."""
    labels = class_labels(n, model.classes) if model.classes else None
    return Start(model, labels, tuple(model.shape), n, context.seed, context.device, batch)


@lru_cache(maxsize=8)
def class_labels(n: int, classes: int) -> Tensor:
    """Label i is i modulo the number of classes; one tensor per number, so that what is cached by it is found again."""
    return torch.arange(n) % classes


@lru_cache(maxsize=2)
def test_features(images: int) -> Float[Tensor, "n 64"]:
    """Features of the first test images."""
    return features(pixels(images))

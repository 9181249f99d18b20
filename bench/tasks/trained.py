"""Learned models of Fashion-MNIST as tasks ask them: their checkpoints, and their starts with each class in turn.

Samples begin at pure noise, sample i with class i modulo their number.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bench.task import Context
from bench.tasks.model_samples import Start
from implementations.catalogue import WEIGHTS
from implementations.diffusion.denoiser import Denoiser

SEEN = 256  # test images from which a sampler or a schedule learns before it runs


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

"""The job ``noisy_classifier``: the classes of noised images at every noise level, for classifier guidance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.train.data import Images, read_data, read_fashion_mnist
from bench.train.jobs.denoiser import describe_training, draw_noised, require
from bench.train.loop import Job
from bench.train.recipe import Recipe
from bench.train.samples import to_unit
from implementations.objectives import noised
from implementations.weights import build
from implementations.weights.noisy_classifier import NoisyClassifier
from metrics.samples.accuracy import conditional_accuracy

LEVELS = (0.02, 0.2, 0.5, 1.0, 2.0, 5.0)  # sigma/alpha of the card's accuracies


def job(recipe: Recipe, folder: Path) -> Job:
    """Make the job: cross-entropy of the classes on noised images, and the accuracy on unseen ones by noise level."""
    options, objective = require(recipe, "model"), require(recipe, "objective")
    train, held_out = read_data(recipe.data, recipe.size).split(recipe.held_out)
    if train.labels is None:
        raise UsageError(f"recipe {recipe.name}: data {recipe.data} have no classes")
    classes = len(train.classes)
    configuration = {"channels": train.shape[0], "classes": classes, "path": options.path, **options.configuration}
    description = {
        "network": options.network, "configuration": configuration, "path": options.path, "head": options.head,
        "sigma_data": None, "shape": list(train.shape), "classes": classes,
    }  # fmt: skip
    model = build(description)
    if not isinstance(model, NoisyClassifier):
        raise UsageError(f"recipe {recipe.name}: network must be noisy_classifier, got {options.network}")
    path = model.path
    unseen = held_out if len(held_out.images) or recipe.data != "fashion_mnist" else read_fashion_mnist("test")

    def loss(model: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(noised(path, x0, t, noise), t), labels, reduction="none")

    def evaluate(model: nn.Module) -> dict[str, Any]:
        found = describe_training(train, model)
        return found | ({"figures": _accuracies(model, unseen, recipe.seed)} if len(unseen.images) else {})

    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    draw = draw_noised(recipe, objective, train, path)
    return Job(model, draw, loss, evaluate, facts={"model": json.dumps(description)})


@torch.no_grad()
def _accuracies(model: nn.Module, unseen: Images, seed: int) -> dict[str, dict[str, Any]]:
    assert isinstance(model, NoisyClassifier)
    generator = torch.Generator().manual_seed(seed)
    x0, found = to_unit(unseen.images), {}
    for level in LEVELS:
        t = model.path.time(torch.tensor(level, dtype=torch.float64).log().neg()).expand(len(x0))
        x = noised(model.path, x0, t, torch.randn(x0.shape, generator=generator))
        logits = torch.cat([model(part, t[0]) for part in x.split(500)])
        share = conditional_accuracy(logits, unseen.labels).overall
        found[f"accuracy at sigma/alpha {level:g}"] = {
            "value": share.value, "interval": [share.low, share.high], "n": share.n,
        }  # fmt: skip
    return found

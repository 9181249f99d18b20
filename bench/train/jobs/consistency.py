"""The job ``consistency``: a few-step model, distilled from a diffusion model or trained without one (2303.01469).

The number of levels doubles over the training, as in 2310.14189. The target is the student itself.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.train.data import read_data
from bench.train.jobs.denoiser import describe, drop_labels, find_weights, make_denoiser_job, require, spread
from bench.train.loop import Job, Rows, shuffle
from bench.train.recipe import Recipe
from bench.train.samples import to_unit
from implementations.catalogue import PATHS
from implementations.catalogue.objectives import OBJECTIVES
from implementations.objectives.consistency import karras_levels, pick_interval
from implementations.weights import Learned

LOW, HIGH = 0.002, 80.0  # noise levels sigma/alpha


def job(recipe: Recipe, folder: Path) -> Job:
    """Make the job: the student, two neighbouring levels per image, and the teacher's step between them."""
    options, objective = require(recipe, "model"), require(recipe, "objective")
    if OBJECTIVES[objective.name].of != "trajectory":
        raise UsageError(f"recipe {recipe.name}: objective {objective.name} is none between two times")
    train, held_out = read_data(recipe.data, recipe.size).split(recipe.held_out)
    description, path = describe(options, train), PATHS[options.path]()
    distils = objective.name == "consistency_distillation"
    teacher = find_weights(require(recipe, "source"), folder) if distils else None
    settings = dict(objective.options)
    counts = settings.pop("levels", [10, 20, 40, 80])  # of equal parts of the training

    def draw(step: int) -> Rows:
        index = shuffle(len(train.images), recipe.batch, recipe.seed, step)
        x0 = to_unit(train.images[index])
        noise = torch.randn(x0.shape)
        levels = karras_levels(counts[step * len(counts) // recipe.steps] + 1, LOW, HIGH)
        lower = pick_interval(spread(recipe.batch, objective.stratified), levels, **objective.timestep_options)
        t, s = (path.time(-levels[lower + up].log()).clamp(path.t_min, path.t_max) for up in (1, 0))
        labels = None if train.labels is None else train.labels[index]
        return (x0, t, s, noise, *drop_labels(labels, description["classes"], objective.dropped))

    def loss(model: nn.Module, x0: Tensor, t: Tensor, s: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        student, target = Learned(description, model), Learned(description, getattr(model, "module", model))
        given = (student, target) if teacher is None else (student, target, teacher)
        return OBJECTIVES[objective.name](*given, x0, t, s, noise, labels, **settings)

    return make_denoiser_job(recipe, folder, description, draw, loss, train, held_out)

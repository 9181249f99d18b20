"""The job ``denoiser``: a diffusion model or a flow, by regression on noised images, with or without classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.train.data import Images, read_data
from bench.train.figures import Judge
from bench.train.loop import Job, Rows, shuffle
from bench.train.recipe import Model, Objective, Recipe
from bench.train.samples import draw_samples, to_unit, write_picture
from implementations.catalogue import PATHS
from implementations.catalogue.objectives import OBJECTIVES, TIMESTEPS
from implementations.weights import Learned, build, load

SEEN = "{name}-{step:06d}.png"  # the pictures on the way


def job(recipe: Recipe, folder: Path) -> Job:
    """Make the job: the network of the recipe, its objective on the training images, and the figures of its card."""
    options, objective = require(recipe, "model"), require(recipe, "objective")
    if OBJECTIVES[objective.name].of != "noised":
        raise UsageError(f"recipe {recipe.name}: objective {objective.name} is none on noised data alone")
    train, held_out = read_data(recipe.data, recipe.size).split(recipe.held_out)
    description = describe(options, train)
    draw = draw_noised(recipe, objective, train, PATHS[options.path]())
    return make_denoiser_job(recipe, folder, description, draw, regress(description, objective), train, held_out)


def make_denoiser_job(
    recipe: Recipe,
    folder: Path,
    description: Mapping[str, Any],
    draw: Callable[[int], Rows],
    loss: Callable[..., Tensor],
    train: Images,
    held_out: Images,
) -> Job:
    """The job of a denoiser: what is common to all whose samples are looked at and judged."""
    model = start(recipe, description, folder)
    sampling, judge = recipe.sampling, Judge(recipe, train, held_out)

    def sample(model: nn.Module, n: int) -> tuple[Tensor, Tensor | None]:
        assert sampling is not None
        device = next(model.parameters()).device
        return draw_samples(Learned(description, model), train.shape, description["classes"], sampling, n, device)

    def look(model: nn.Module, step: int) -> dict[str, Any]:
        if sampling is None:
            return {}
        images, _ = sample(model, sampling.look)
        write_picture(folder / SEEN.format(name=recipe.name, step=step), images)
        return judge.look(images)

    def evaluate(model: nn.Module) -> dict[str, Any]:
        found = describe_training(train, model)
        if sampling is None:
            return found
        images, labels = sample(model, sampling.n)
        write_picture(folder / f"{recipe.name}.png", images)
        write_picture(folder / f"{recipe.name}-neighbours.png", judge.show_neighbours(images[:50]))
        how = f"{sampling.n:,} by {sampling.sampler} in {sampling.steps} steps on the schedule {sampling.schedule}"
        return {**found, "sampled": how, "figures": judge.judge(images, labels)}

    return Job(model, draw, loss, evaluate, look, {"model": json.dumps(description)})


def describe(options: Model, train: Images) -> dict[str, Any]:
    """The description of a recipe's network, by which its weights are stored and loaded."""
    classes = len(train.classes) if train.labels is not None else 0
    own = {"channels": train.shape[0], "classes": classes or None}
    return {
        "network": options.network,
        "configuration": {**own, **options.configuration},
        "path": options.path,
        "head": options.head,
        "sigma_data": options.sigma_data,
        "shape": list(train.shape),
        "classes": classes,
    }


def start(recipe: Recipe, description: Mapping[str, Any], folder: Path) -> nn.Module:
    """The network at the beginning: drawn with the recipe's seed, or with the weights that the recipe starts from.

    Raises UsageError where these are of another network.
    """
    model = build(description)
    if recipe.model is not None and recipe.model.start:
        given = find_weights(recipe.model.start, folder)
        try:
            model.load_state_dict(given.module.state_dict())
        except RuntimeError as error:
            where = f"recipe {recipe.name}: start {recipe.model.start}"
            raise UsageError(f"{where} is of another network: {str(error).splitlines()[-1].strip()}") from None
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model  # type: ignore[call-overload]


def find_weights(name: str, folder: Path) -> Any:
    """The weights of a name: a file, those of that name in the folder of the training, or those that are shipped.

    Raises UsageError where there are none.
    """
    own = folder / f"{name}.safetensors"
    try:
        return load(str(own) if own.is_file() else name)
    except ValueError as error:
        hint = f"; or fidmap train {name} --out {folder}" if not name.endswith(".safetensors") else ""
        raise UsageError(f"{error}{hint}") from None


def draw_noised(recipe: Recipe, objective: Objective, train: Images, path: Any) -> Callable[[int], Rows]:
    """What a step draws: images, times, noise, and where there are classes labels, some of them dropped."""

    def draw(step: int) -> Rows:
        index = shuffle(len(train.images), recipe.batch, recipe.seed, step)
        x0 = to_unit(train.images[index])
        noise = torch.randn(x0.shape)
        t = draw_times(recipe.batch, objective, path)
        labels = None if train.labels is None else train.labels[index]
        return (x0, t, noise, *drop_labels(labels, len(train.classes), objective.dropped))

    return draw


def draw_times(n: int, objective: Objective, path: Any) -> Tensor:
    """The times (n,) of a batch, of the objective's density."""
    u = spread(n, objective.stratified)
    return TIMESTEPS[objective.timesteps](path, u, **objective.timestep_options)


def drop_labels(labels: Tensor | None, classes: int, dropped: float) -> Rows:
    """The labels of a batch, each dropped with this probability; nothing where there are no classes."""
    if labels is None:
        return ()
    gone = torch.rand(len(labels)) < dropped
    return (torch.where(gone, classes, labels),)


def spread(n: int, stratified: bool) -> Tensor:
    """n numbers in (0, 1), uniform: independent, or evenly spread from one random start (2107.00630, app. I.1)."""
    if not stratified:
        return torch.rand(n, dtype=torch.float64).clamp(min=2.0**-53)
    return ((torch.rand((), dtype=torch.float64) + torch.arange(n) / n) % 1).clamp(min=2.0**-53)


def regress(description: Mapping[str, Any], objective: Objective) -> Callable[..., Tensor]:
    """The loss of a step's rows by the recipe's objective."""
    function = OBJECTIVES[objective.name]

    def loss(model: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return function(Learned(description, model), x0, t, noise, labels, **objective.options)

    return loss


def describe_training(train: Images, model: nn.Module) -> dict[str, Any]:
    """What a card says of the data and of the model's size."""
    data = {"name": train.name, "n": len(train.images), "hash": train.hash}
    return {"data": data, "parameters": sum(p.numel() for p in model.parameters())}


def require(recipe: Recipe, table: str) -> Any:
    """A table that the recipe must have; raises UsageError where it has none."""
    found = getattr(recipe, table)
    if not found:
        raise UsageError(f"recipe {recipe.name}: task {recipe.task} needs {table}")
    return found

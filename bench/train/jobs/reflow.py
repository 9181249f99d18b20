"""The job ``reflow``: a rectified flow on pairs that another one made, whose paths are straighter (2209.03003)."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UsageError
from bench.train.data import read_data
from bench.train.jobs.denoiser import describe, draw_times, drop_labels, make_denoiser_job, regress, require
from bench.train.jobs.pairs import read_pairs
from bench.train.loop import Job, Rows, shuffle
from bench.train.recipe import Recipe
from implementations.catalogue import PATHS
from implementations.catalogue.objectives import OBJECTIVES


def job(recipe: Recipe, folder: Path) -> Job:
    """Make the job: as ``denoiser``, but each image comes with the noise from which it was made.

    The data are those against which samples are judged.
    """
    options, objective = require(recipe, "model"), require(recipe, "objective")
    if OBJECTIVES[objective.name].of != "pairs":
        raise UsageError(f"recipe {recipe.name}: objective {objective.name} is none on pairs")
    train, held_out = read_data(recipe.data, recipe.size).split(recipe.held_out)
    own = folder / require(recipe, "source")
    images, noises, labels = read_pairs(own if own.is_dir() else Path(recipe.source))
    description = describe(options, train)
    path = PATHS[options.path]()

    def draw(step: int) -> Rows:
        index = shuffle(len(images), recipe.batch, recipe.seed, step)
        t = draw_times(recipe.batch, objective, path)
        classes = description["classes"]
        dropped = drop_labels(labels[index] if classes else None, classes, objective.dropped)
        return (images[index], t, noises[index], *dropped)

    return make_denoiser_job(recipe, folder, description, draw, regress(description, objective), train, held_out)

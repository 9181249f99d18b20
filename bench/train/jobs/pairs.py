"""The job ``pairs``: noise and the images that a flow makes of it, for reflow; files are made and nothing is trained.

Batch k of a recipe is a file of its own, so that a run that was stopped goes on with the next. The noise of a sample is
that of its seed and is not stored; seeds begin far above those from which samples are judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.errors import UsageError
from bench.files import write_atomic
from bench.progress import Steps
from bench.train.jobs.denoiser import find_weights, require
from bench.train.recipe import Recipe
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.noise import PerSampleNoise
from implementations.weights import hash_weights

FIRST_SEED = 2**32


@dataclass(frozen=True)
class Making:
    """Files that a recipe makes: ``write(k, file)`` writes that of batch k, of ``steps`` in all."""

    name: str
    steps: int
    folder: Path
    write: Callable[[int, Path], None]
    facts: dict[str, Any]

    def make(self, *, progress: bool = True) -> dict[str, Any]:
        """Write the files that are not there, and return what was made and where."""
        with Steps(self.name, self.steps, shown=progress) as bar:
            for k in range(self.steps):
                file = self.folder / f"{k:05d}.safetensors"
                if not file.exists():
                    self.write(k, file)
                bar.advance()
        write_atomic(self.folder / "card.json", (json.dumps(self.facts, indent=2) + "\n").encode())
        return {"pairs": str(self.folder), **self.facts}


def job(recipe: Recipe, folder: Path) -> Making:
    """Make the job: the teacher draws ``batch`` images per step of the recipe, of all classes in turn."""
    sampling = require(recipe, "sampling")
    teacher = find_weights(require(recipe, "source"), folder)
    times = SCHEDULES[sampling.schedule](teacher.path, sampling.steps, **sampling.schedule_options)
    facts = {
        "recipe": recipe.model_dump(exclude_defaults=True),
        "recipe_hash": recipe.hash,
        "teacher_hash": hash_weights(teacher.module.state_dict()),
        "n": recipe.steps * recipe.batch,
    }

    @torch.no_grad()
    def write(k: int, file: Path) -> None:
        first = k * recipe.batch
        labels = torch.arange(first, first + recipe.batch) % max(teacher.classes, 1)
        x = SAMPLERS[sampling.sampler](
            teacher,
            teacher.path.prior(starts(first, recipe.batch, teacher.shape), times[0]),
            times,
            condition=labels if teacher.classes else None,
            **sampling.options,
        )
        tensors = {"x0": x.half().contiguous(), "labels": labels}
        write_atomic(file, save(tensors, {"first": str(first), "recipe_hash": recipe.hash}))

    where = folder / recipe.name
    if (stored := next(iter(sorted(where.glob("*.safetensors"))), None)) is not None:
        with safe_open(stored, "pt") as source:
            if (source.metadata() or {}).get("recipe_hash") != recipe.hash:
                raise UsageError(f"{stored} belongs to another recipe or step count; remove {where}")
    return Making(recipe.name, recipe.steps, where, write, facts)


def starts(first: int, n: int, shape: tuple[int, ...]) -> Tensor:
    """The noise (n, ...) of n pairs from the one of number ``first``."""
    seeds = range(FIRST_SEED + first, FIRST_SEED + first + n)
    return PerSampleNoise(seeds)(0, torch.empty(n, *shape))


def read_pairs(folder: Path) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"], Int64[Tensor, " n"]]:
    """All pairs of a folder: the images x0, the noise of each, and the labels.

    Raises UsageError where there are none, and on a damaged file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{folder} holds no pairs; fidmap train {folder.name} --out {folder.parent} makes them")
    images, noises, labels = [], [], []
    for file in files:
        try:
            with safe_open(file, "pt") as source:
                x0 = source.get_tensor("x0").float()
                labels.append(source.get_tensor("labels"))
                first = int(source.metadata()["first"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{file} holds no pairs ({str(error).splitlines()[0]}); remove it") from None
        images.append(x0)
        noises.append(starts(first, len(x0), tuple(x0.shape[1:])))
    return torch.cat(images), torch.cat(noises), torch.cat(labels)

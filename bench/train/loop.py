"""The training loop: seeded, with a fixed number of steps, checkpointed atomically, and resumed bit for bit.

All randomness of a step depends on the seed and the index of the step alone, and is drawn for the whole batch. A run
that was killed and resumed therefore equals one that was not, on one machine with one number of threads; and a step of
several processes that share a batch is that of one process but for the rounding of sums.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from bench.errors import UsageError
from bench.files import write_atomic
from bench.progress import Steps
from bench.train.optimiser import Average, clip_gradient, make_optimiser, ramp
from bench.train.recipe import Recipe
from bench.train.team import Team

Rows = tuple[Tensor, ...]


def _nothing(model: nn.Module, step: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Job:
    """What a recipe trains: the model, the batch and the loss of a step, and the figures of its card.

    ``draw(step)`` gives the rows of the whole batch with all their random numbers, from torch's global generator, which
    the loop seeds for each step; ``loss(model, *rows)`` gives one loss per row, or their mean. ``look(model, step)``
    draws and measures samples on the way and returns figures by name, of which ``distance``, where there is one,
    chooses among several averages. ``evaluate(model)`` returns the figures of the card, and ``facts`` are the metadata
    of the weights.
    """

    model: nn.Module
    draw: Callable[[int], Rows]
    loss: Callable[..., Float[Tensor, "*n"]]
    evaluate: Callable[[nn.Module], dict[str, Any]]
    look: Callable[[nn.Module, int], dict[str, Any]] = _nothing
    facts: dict[str, str] = field(default_factory=dict)


@dataclass
class Trained:
    """What ``fit`` gives: the weights that are kept, what was seen on the way, and the time that the steps took."""

    model: nn.Module
    history: list[dict[str, Any]]  # the step, the mean loss since the entry before, figures of samples
    seconds: float
    averages: dict[str, Any]  # the distance of each average by its length, where there are several


def fit(job: Job, recipe: Recipe, checkpoint: Path, *, progress: bool = False, team: Team | None = None) -> Trained:
    """Take the steps of the recipe, from the checkpoint if there is one.

    The weights that are kept are the last, or the average of least distance. Raises UsageError where the checkpoint is
    of another recipe or damaged, and ArithmeticError on a loss that is not finite.
    """
    team = team or Team()
    if recipe.batch % team.world:
        raise UsageError(f"batch is {recipe.batch}; a multiple of the {team.world} processes is accepted")
    state = _State(job.model.to(team.device), recipe)
    state.resume(checkpoint)
    model = team.wrap(state.model)
    with Steps(recipe.name, recipe.steps, state.step, shown=progress and team.leads) as bar:
        meter = _Meter(recipe.batch)
        for step in range(state.step, recipe.steps):
            began = time.perf_counter()
            value = take_step(job, recipe, step, model, state.optimiser, team)
            state.count(value, time.perf_counter() - began)
            if (recipe.look_every and state.step % recipe.look_every == 0) or state.step == recipe.steps:
                state.look(job if team.leads else None)
            if team.leads and (state.step % recipe.checkpoint_every == 0 or state.step == recipe.steps):
                state.write(checkpoint)
            team.wait()
            bar.advance(note=meter.read(value, time.perf_counter() - began))
    return state.result()


def take_step(
    job: Job, recipe: Recipe, step: int, model: nn.Module, optimiser: torch.optim.Optimizer, team: Team
) -> float:
    """Take one step of the optimiser on this process's part of the batch; return the mean loss of the whole batch.

    Raises ArithmeticError on a loss that is not finite.
    """
    model.train()
    torch.manual_seed(combine_seeds(recipe.seed, step))
    rows = team.part(job.draw(step))
    if team.rank:  # what the network itself draws
        torch.manual_seed(combine_seeds(recipe.seed, step, 2, team.rank))
    for group in optimiser.param_groups:
        group["lr"] = recipe.optimiser.rate * ramp(step, recipe)
    kind = getattr(torch, recipe.dtype)
    with torch.autocast(team.device.type, kind, enabled=kind is not torch.float32):
        loss = job.loss(model, *rows).mean()
    value = team.mean(loss.detach())
    if not math.isfinite(value):
        raise ArithmeticError(f"the loss is {value} at step {step}; lower the recipe's rate")
    optimiser.zero_grad()
    loss.backward()
    clip_gradient(model, recipe.optimiser.clip)
    optimiser.step()
    return value


def combine_seeds(*parts: int) -> int:
    """One seed of 32 bits from several numbers; torch's CPU generator ignores higher bits."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def shuffle(n: int, batch: int, seed: int, step: int) -> Int64[Tensor, " batch"]:
    """The batch of a step, as indices below n: each epoch is a new permutation without its incomplete last batch."""
    if batch > n:
        raise ValueError(f"batch is {batch}; at most the {n} samples there are is accepted")
    epoch, place = divmod(step, n // batch)
    return _permutation(n, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    # Three parts, so that this seed differs from that of every step.
    generator = torch.Generator().manual_seed(combine_seeds(seed, epoch, 1))
    return torch.randperm(n, generator=generator)


@contextlib.contextmanager
def reproducible(recipe: Recipe) -> Iterator[None]:
    """Set the seed and threads of the recipe; torch's own state is the same afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _State:
    """All that changes from step to step, and is stored in the checkpoint."""

    def __init__(self, model: nn.Module, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.averages = [Average(model, length) for length in recipe.ema]
        self.optimiser = make_optimiser(recipe.optimiser, model)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.losses: list[float] = []  # since the last entry of the history

    def count(self, loss: float, seconds: float) -> None:
        """Count a step that was taken."""
        self.step += 1
        self.losses.append(loss)
        for average in self.averages:
            average.update(self.model, self.step)
        self.seconds += seconds

    def look(self, job: Job | None) -> None:
        """Add an entry to the history, with the figures of samples of every average where a job draws them."""
        entry: dict[str, Any] = {"step": self.step, "loss": math.fsum(self.losses) / len(self.losses)}
        self.losses = []
        with _still():
            for name, model in self._kept().items():
                figures = job.look(model.eval(), self.step) if job is not None else {}
                entry |= figures if len(self.recipe.ema) < 2 else {f"{key} of {name}": v for key, v in figures.items()}
        self.history.append(entry)

    def result(self) -> Trained:
        """What is kept: of several averages the one of the least distance in the last entry."""
        kept, last = self._kept(), self.history[-1]
        found = {name: last[f"distance of {name}"] for name in kept if f"distance of {name}" in last}
        best = min(found, key=found.__getitem__) if found else next(iter(kept))
        return Trained(kept[best], self.history, self.seconds, found)

    def write(self, file: Path) -> None:
        """Write the checkpoint, from which a run resumes."""
        content = io.BytesIO()
        torch.save(self._parts(), content)
        write_atomic(file, content.getvalue())

    def resume(self, file: Path) -> None:
        """Take the state of a checkpoint, where there is one."""
        if not file.exists():
            return
        try:
            stored = torch.load(file, weights_only=True, map_location="cpu")
            same = stored["recipe"] == self.recipe.hash
        except Exception as error:  # of many kinds: a damaged archive, a pickle, another program's file
            raise UsageError(f"{file} is no checkpoint of a training ({_first_line(error)}); remove it") from None
        if not same:
            raise UsageError(f"{file} belongs to another recipe or step count; remove it, or choose another folder")
        self.model.load_state_dict(stored["model"])
        self.optimiser.load_state_dict(stored["optimiser"])
        for average, weights in zip(self.averages, stored["averages"], strict=True):
            average.model.load_state_dict(weights)
        self.step, self.seconds = stored["step"], stored["seconds"]
        self.history, self.losses = stored["history"], stored["losses"]

    def _parts(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.hash,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averages": [average.model.state_dict() for average in self.averages],
        }

    def _kept(self) -> dict[str, nn.Module]:
        return {f"{average.length:g}": average.model for average in self.averages} or {"last": self.model}


@contextlib.contextmanager
def _still() -> Iterator[None]:
    """Leave torch's generator as it was: what is looked at changes nothing of what is trained."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        yield


class _Meter:
    """The loss and the images per second that are shown, smoothed over about fifty steps."""

    def __init__(self, batch: int):
        self.batch, self.loss, self.seconds, self.weight = batch, 0.0, 0.0, 0.0

    def read(self, loss: float, seconds: float) -> str:
        self.loss, self.seconds, self.weight = (
            0.98 * mean + 0.02 * value
            for mean, value in ((self.loss, loss), (self.seconds, seconds), (self.weight, 1.0))
        )
        return f"loss {self.loss / self.weight:.4f}, {self.batch * self.weight / self.seconds:.0f} images/s"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

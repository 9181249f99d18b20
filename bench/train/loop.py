"""The training loop: seeded, with a fixed number of steps, checkpointed atomically, and resumed bit for bit.

All randomness of a step depends on the seed and the index of the step alone. A run that was killed and resumed
therefore equals one that was not, on one machine with one number of threads.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from rich.console import Console
from rich.progress import Progress, ProgressColumn, TimeRemainingColumn
from safetensors.torch import save
from torch import Tensor, nn

from bench.errors import UsageError
from bench.files import write_atomic
from bench.train.jobs import JOBS
from bench.train.recipe import Optimiser, Recipe, change, load_recipe


@dataclass(frozen=True)
class Job:
    """What a recipe trains: the model, the loss of a step, and the figures of its card.

    ``loss(model, step)`` draws from torch's global generator, which the loop seeds for each step. ``evaluate(model)``
    returns the figures of the card as JSON values by name.
    """

    model: nn.Module
    loss: Callable[[nn.Module, int], Float[Tensor, ""]]
    evaluate: Callable[[nn.Module], dict[str, Any]]


def train(
    recipe: str | Path,
    out: str | Path = Path("runs/train"),
    *,
    steps: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a recipe, shipped or a ``.toml`` file; return the figures of its card and the path of the weights.

    Writes ``<name>.safetensors``, the figures as ``<name>.json``, and ``<name>.checkpoint``, from which the same call
    resumes. ``steps`` and ``seed`` replace those of the recipe. Raises UsageError on an unknown or wrong recipe, on a
    checkpoint of another recipe, where the data are missing, and where ``out`` cannot be written.
    """
    plan = change(load_recipe(recipe), steps=steps, seed=seed)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is needed")
    with reproducible(plan):
        make_job = JOBS[plan.task].resolve()
        try:
            job = make_job(plan)
        except FileNotFoundError as error:  # the data are not on this machine
            raise UsageError(str(error)) from error
        model = fit(job, plan, folder / f"{plan.name}.checkpoint", progress=progress).eval()
        card = {
            "recipe": plan.model_dump(),
            "recipe_hash": plan.hash,
            "torch": torch.__version__,
            **job.evaluate(model),
        }
    metadata = {"recipe": plan.model_dump_json(), "recipe_hash": plan.hash}
    weights = folder / f"{plan.name}.safetensors"
    write_atomic(weights, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, metadata))
    write_atomic(weights.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    return {"weights": str(weights), **card}


def fit(job: Job, recipe: Recipe, checkpoint: Path, *, progress: bool = False) -> nn.Module:
    """Take the steps of the recipe, from the checkpoint if there is one.

    Return the model, or its average where ema > 0. Raises UsageError where the checkpoint is of another recipe, and
    ArithmeticError on a loss that is not finite.
    """
    model = job.model
    average = copy.deepcopy(model) if recipe.ema else None
    optimiser = _optimiser(recipe.optimiser, model)
    start = _resume(checkpoint, recipe, model, average, optimiser) if checkpoint.exists() else 0
    with _bar(recipe, start, progress) as advance:
        for step in range(start, recipe.steps):
            model.train()
            torch.manual_seed(combine_seeds(recipe.seed, step))
            for group in optimiser.param_groups:
                group["lr"] = recipe.optimiser.rate * ramp(step, recipe)
            loss = job.loss(model, step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ArithmeticError(f"the loss is {value} at step {step}; lower the recipe's rate")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if average is not None:
                _average(average, model, recipe.ema)
            done = step + 1
            if done % recipe.checkpoint_every == 0 or done == recipe.steps:
                write_checkpoint(checkpoint, recipe, done, model, average, optimiser)
            advance(value)
    return model if average is None else average


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


def ramp(step: int, recipe: Recipe) -> float:
    """The factor of the rate at a step: it rises in a line to 1 over the warm-up, then falls in a line to nearly 0."""
    rise = recipe.optimiser.warmup * recipe.steps
    return (step + 1) / rise if step + 1 < rise else (recipe.steps - step) / (recipe.steps - rise + 1)


def _optimiser(options: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},  # biases and norms
    ]
    if options.name == "sgd":
        nesterov = options.momentum > 0
        return torch.optim.SGD(groups, lr=options.rate, momentum=options.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=options.rate, betas=(options.momentum, 0.999))


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)  # counters


def write_checkpoint(
    file: Path, recipe: Recipe, step: int, model: nn.Module, average: nn.Module | None, optimiser: torch.optim.Optimizer
) -> None:
    """Write recipe, step, and the states of the model, its average and the optimiser, from which a run resumes."""
    states = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    states |= {"average": average.state_dict()} if average is not None else {}
    content = io.BytesIO()
    torch.save({"recipe": recipe.hash, "step": step, **states}, content)
    write_atomic(file, content.getvalue())


def _resume(
    file: Path, recipe: Recipe, model: nn.Module, average: nn.Module | None, optimiser: torch.optim.Optimizer
) -> int:
    state = torch.load(file, weights_only=True)
    if state["recipe"] != recipe.hash:
        raise UsageError(f"{file} belongs to another recipe or step count; remove it, or choose another folder")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    if average is not None:
        average.load_state_dict(state["average"])
    return state["step"]


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


@contextlib.contextmanager
def _bar(recipe: Recipe, start: int, shown: bool) -> Iterator[Callable[[float], None]]:
    columns: tuple[str | ProgressColumn, ...] = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        "{task.fields[loss]}",
    )
    with Progress(*columns, console=Console(file=sys.__stderr__), disable=not shown, transient=True) as bar:
        line = bar.add_task(recipe.name, total=recipe.steps, completed=start, loss="")
        yield lambda loss: bar.update(line, advance=1, loss=f"loss {loss:.3f}")

"""``fidmap train``: a recipe in; weights, card and picture out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from bench.errors import UsageError
from bench.files import write_atomic
from bench.train.card import make_card, render
from bench.train.jobs import JOBS
from bench.train.loop import Job, fit, reproducible
from bench.train.recipe import Recipe, change, load_recipe
from bench.train.team import Team, run_together
from implementations.weights.files import hash_weights


def train(
    recipe: str | Path,
    out: str | Path = Path("runs/train"),
    *,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    processes: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a recipe, shipped or a ``.toml`` file; return its card and the path of the weights.

    Writes ``<name>.safetensors``, the card as ``<name>.json`` and ``<name>.md``, a picture of samples where the recipe
    says how they are drawn, and ``<name>.checkpoint``, from which the same call resumes. ``steps`` and ``seed`` replace
    those of the recipe. With several ``processes`` each takes a part of every batch; they import the caller's main
    module anew. Raises UsageError on an unknown or wrong recipe, on a checkpoint of another recipe, where the data are
    missing, and where ``out`` cannot be written.
    """
    options = {"steps": steps, "seed": seed, "device": device, "progress": progress}
    plan = change(load_recipe(recipe), steps=steps, seed=seed)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is needed")
    if processes > 1:
        if plan.batch % processes:
            raise UsageError(f"batch is {plan.batch}; a multiple of the {processes} processes is accepted")
        return run_together(train, processes, recipe, out, **options)
    with reproducible(plan):
        job = make_job(plan, folder)
        if not isinstance(job, Job):  # what is made and not trained
            return job.make(progress=progress)
        team = Team(device)
        trained = fit(job, plan, folder / f"{plan.name}.checkpoint", progress=progress, team=team)
        return _hand_over(job, plan, folder, trained, team)


def make_job(plan: Recipe, folder: Path) -> Any:
    """The job of a recipe; raises UsageError where data or weights that it needs are not there."""
    try:
        return JOBS[plan.task].resolve()(plan, folder)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"recipe {plan.name}: {error}") from None


def _hand_over(job: Job, plan: Recipe, folder: Path, trained: Any, team: Team) -> dict[str, Any]:
    """Store the weights, measure what was stored, and write the card."""
    model = trained.model.eval().cpu()
    file = folder / f"{plan.name}.safetensors"
    if team.leads:
        facts = {"recipe": plan.model_dump_json(exclude_defaults=True), "recipe_hash": plan.hash, **job.facts}
        weights = write_weights(file, model, plan.stored, facts)
        _read_back(model, weights)
        card = make_card(
            recipe=plan,
            weights_hash=hash_weights(weights),
            seconds=trained.seconds,
            history=trained.history,
            figures=job.evaluate(model),
        )
        if trained.averages:
            card["averages"] = trained.averages
        pictures = [name for name in (f"{plan.name}.png", f"{plan.name}-neighbours.png") if (folder / name).exists()]
        write_atomic(file.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
        write_atomic(file.with_suffix(".md"), render(card, pictures).encode())
    team.wait()
    return {"weights": str(file), **(card if team.leads else {})}


def write_weights(file: Path, model: nn.Module, stored: str, facts: dict[str, str]) -> dict[str, torch.Tensor]:
    """Write the weights of a model in the number format ``stored``, with facts as metadata; return them as written.

    The fact ``model`` is the description by which ``implementations.weights.load`` builds the network again.
    """
    kind = getattr(torch, stored)
    weights = {
        name: (tensor.to(kind) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_atomic(file, save(weights, facts))
    return weights


def _read_back(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give the model the weights as they were stored, with what rounding did to them."""
    own = model.state_dict()
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})

"""``fidmap doctor`` and ``fidmap train``: what this machine has, and what is made on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from bench.cli.shared import (
    AsJson,
)


def doctor(as_json: AsJson = False) -> int:
    """Say what this machine has, what is missing, and how to get it."""
    from dataclasses import asdict

    from bench.doctor import examine

    requirements = examine()
    if as_json:
        print(json.dumps([asdict(one) for one in requirements], indent=1))
    else:
        for one in requirements:
            remedy = "" if one.found else f"  ->  {one.remedy}"
            state = "ok" if one.found else "MISSING" if one.needed else "absent"
            print(f"{state:<8}{one.name:<28}{one.detail}{remedy}")
    return int(any(one.needed and not one.found for one in requirements))


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file of your own.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and weights.")] = Path("runs/train"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, in place of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine that share each batch.")] = 1,
    probe: Annotated[bool, typer.Option("--probe", help="Time steps by number format and layout, and stop.")] = False,
) -> None:
    """Train a recipe, and measure what came out; the same command resumes a training that was stopped."""
    from bench.environment import check_device
    from bench.train import probe_speed
    from bench.train import train as train_recipe

    check_device(device)
    if probe:
        for line in probe_speed(recipe, device=device):
            print(line)
        return
    card = train_recipe(recipe, out, steps=steps, device=device, processes=processes)
    for name in ("weights", "weights_hash", "seconds"):
        if name in card:
            print(f"{name}: {card[name]}")
    for name, figure in card.get("figures", {}).items():
        print(f"{name}: {figure['value']:.6g}")

"""Run a function on the ranks of a gloo group, each a process of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

ROOT = str(Path(__file__).parents[2])


def on_ranks(function: Callable[..., Any], *arguments: Any, world: int = 2) -> list[Any]:
    """What ``function(rank, *arguments)``, which must be importable by name, returns on each rank."""
    if sys.path[0] != ROOT:
        sys.path.insert(0, ROOT)  # the processes inherit it, and find our package tests before any other
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(_rank, (world, Path(folder), function, arguments), nprocs=world)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world)]


def _rank(rank: int, world: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(function(rank, *arguments), folder / f"{rank}.pt")
    dist.destroy_process_group()

"""Run a function on the ranks of a gloo group, each a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes


def on_ranks(function: Callable[..., Any], *arguments: Any, world: int = 2) -> list[Any]:
    """What ``function(rank, *arguments)``, which must be importable by name, returns on each rank."""
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(_rank, (world, Path(folder), function, arguments), nprocs=world)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world)]


def _rank(rank: int, world: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(function(rank, *arguments), folder / f"{rank}.pt")
    dist.destroy_process_group()

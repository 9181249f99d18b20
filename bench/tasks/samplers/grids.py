"""The path and the grid of times that a cell names, also where they are the user's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bench.tasks.returns import describe_return
from implementations.catalogue import PATHS, SCHEDULES
from implementations.diffusion.path import Path


def make_path(name: str) -> Path:
    """Make a path of its catalogue name; the discrete one has DDPM's 1,000 linear betas."""
    options = {"betas": torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)} if name == "discrete_vp" else {}
    try:
        path = PATHS[name](**options)
    except TypeError as error:  # of one of the user's
        raise ValueError(f"path {name}: {error}; a class of a Path without arguments is accepted") from None
    if not isinstance(path, Path):
        raise ValueError(f"path {name}: it returned {describe_return(path)}; a Path is accepted")
    return path


def make_times(schedule: str, path: Path, steps: int, options: Mapping[str, Any]) -> Float[Tensor, " points"]:
    """Make the grid of a schedule; raises ValueError where one of the user's returns anything but a vector of times."""
    try:
        times = SCHEDULES[schedule](path, steps, **options)
    except TypeError as error:  # of one of the user's, or of an option that it does not take
        raise ValueError(f"schedule {schedule}: {error}") from None
    if not isinstance(times, Tensor) or times.ndim != 1 or len(times) < 2 or not times.is_floating_point():
        raise ValueError(
            f"schedule {schedule}: it returned {describe_return(times)}; floats of shape ({steps + 1},) are accepted"
        )
    return times

"""A trial call of a sampler of the user's, before a suite begins: whether it takes a path, a grid and options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from bench.tasks.samplers.grids import make_path, make_times
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.oracle import GaussianOracle


def try_sampler(
    name: str, options: Mapping[str, Any], path: str, schedule: str = "karras",
    schedule_options: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Take two steps on a Gaussian with these options, path and schedule; raises ValueError where they are refused."""
    _try(name, json.dumps(options), path, schedule, json.dumps(schedule_options or {}))


@lru_cache(maxsize=1024)
def _try(name: str, options: str, path_name: str, schedule: str, schedule_options: str) -> None:
    path = make_path(path_name)
    if SCHEDULES[schedule].prepare:  # it learns its grid, within the same ends
        schedule, schedule_options = "karras", "{}"
    times = make_times(schedule, path, 2, json.loads(schedule_options))
    denoiser = GaussianOracle(path, torch.zeros(4, dtype=torch.float64), 0.25)
    x = path.prior(torch.ones(2, 4, dtype=torch.float64), times[0])
    try:
        with torch.no_grad():
            SAMPLERS[name](denoiser, x, times, noise=lambda draw, like: torch.zeros_like(like), **json.loads(options))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    except Exception:  # no refusal: its cells will say so
        return

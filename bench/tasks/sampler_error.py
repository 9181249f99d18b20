"""Error of a sampler at a budget of model evaluations, on oracles whose truth is known."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, PathName, SamplerName, ScheduleName, TaskParameters, Value, task
from bench.tasks.problems import (
    ORACLES,
    OracleName,
    floor_of,
    grid,
    make_path,
    require_finite,
    start,
    truth_generator,
)
from implementations.catalogue import SAMPLERS
from implementations.diffusion import CountingDenoiser, GaussianOracle
from metrics import sliced_wasserstein


class Parameters(TaskParameters):
    """A sampler with at most ``nfe`` evaluations of an oracle, from exact draws at the first time of its schedule."""

    sampler: SamplerName
    options: dict[str, Any] = {}
    oracle: OracleName = "gaussian"
    path: PathName = "vp"
    schedule: ScheduleName = "karras"
    schedule_options: dict[str, Any] = {}
    nfe: int = Field(ge=1)
    samples: int = Field(default=2000, ge=2)


@task(
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure("rms_error", "RMS distance to the exact flow of the same start", window=0.02),
        Measure("sliced_w2", "sliced 2-Wasserstein distance to exact draws", window=0.05),
        Measure("sliced_w2_floor", "the same of other exact draws", direction="target", window=0.05),
        Measure("nfe", "evaluations counted at the model", direction="target", window=0.0),
    ],
)
def sampler_error(parameters: Parameters, context: Context) -> Measurements:
    """Distance to the exact flow (Gaussian, deterministic samplers) and to exact draws."""
    entry = SAMPLERS[parameters.sampler].loaded()
    oracle = ORACLES[parameters.oracle](make_path(parameters.path), context.device)
    generator = torch.Generator().manual_seed(context.seed)
    times = grid(parameters.schedule, oracle.path, entry.steps_for(parameters.nfe), parameters.schedule_options)
    x = start(oracle, times[0], parameters.samples, generator)
    counted = CountingDenoiser(oracle)
    found = require_finite(entry(counted, x, times, **parameters.options), "the samples")
    exact, floor = truth(parameters.oracle, parameters.samples, context.seed, context.device)
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(sliced_wasserstein(found, exact, seed=context.seed), n=parameters.samples),
        "sliced_w2_floor": floor,
        "nfe": counted.calls,
    }
    if isinstance(oracle, GaussianOracle) and not entry.stochastic:
        flow = oracle.flow(x, times[0], times[-1])
        measures["rms_error"] = Value(float((found - flow).square().mean().sqrt()), n=parameters.samples)
    if context.keep_samples:
        context.keep("samples", found)
    return measures


@lru_cache(maxsize=4)
def truth(oracle: OracleName, samples: int, seed: int, device: str) -> tuple[Tensor, Value]:
    """Exact draws, and the floor of other exact draws against them; the path has no part in either."""
    source, generator = ORACLES[oracle](make_path("vp"), device), truth_generator(seed)
    exact = source.sample(samples, generator=generator)
    floor = floor_of(
        lambda again: sliced_wasserstein(again, exact, seed=seed), lambda: source.sample(samples, generator=generator)
    )
    return exact, floor

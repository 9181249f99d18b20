"""What a sampler itself costs: a contest, interleaved in one process, on a denoiser that computes nothing."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, PathName, SamplerName, TaskParameters, Value, task
from bench.tasks.problems import make_path
from bench.timing import clock_for, measure, median_interval, paired_ratio
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion import CountingDenoiser, Denoiser, Path, Prediction


class Parameters(TaskParameters):
    """Samplers over one grid; the first is what the others' ratios are to."""

    samplers: list[SamplerName] = Field(min_length=1)
    path: PathName = "vp"
    steps: int = Field(default=10, ge=1)
    shape: list[int] = [16, 4, 64, 64]
    max_seconds: float = Field(default=10.0, gt=0)


class Idle(Denoiser):
    """A denoiser that returns the same eps at once."""

    def __init__(self, path: Path, eps: Tensor):
        self.path, self.eps = path, eps

    def __call__(self, x: Tensor, t: Any, condition: Any = None) -> Prediction:
        return Prediction(self.path, x, t, eps=self.eps)


@task(
    kind="contest",
    entry="samplers",
    catalogue="samplers",
    measures=[
        Measure("overhead", "median time of the sampler a model call", unit="ms", deterministic=False),
        Measure("ratio", "median of paired ratios to the first sampler", unit="", deterministic=False),
    ],
)
def sampler_overhead(parameters: Parameters, context: Context) -> Measurements:
    """Milliseconds a model call, with the noise drawn beforehand, and the ratio to the first sampler."""
    path = make_path(parameters.path)
    generator = torch.Generator().manual_seed(context.seed)
    x, eps, noise = (torch.randn(parameters.shape, generator=generator).to(context.device) for _ in range(3))
    times = SCHEDULES["karras"](path, parameters.steps)
    denoiser, drawn = Idle(path, eps), lambda draw, like: noise
    calls = {}
    for name in parameters.samplers:
        counted = CountingDenoiser(denoiser)
        SAMPLERS[name](counted, x, times, noise=drawn)
        calls[name] = counted.calls
    functions = {
        name: lambda name=name: SAMPLERS[name](denoiser, x, times, noise=drawn) for name in parameters.samplers
    }
    timings = measure(functions, clock=clock_for(context.device), seed=context.seed, max_seconds=parameters.max_seconds)
    first = timings[parameters.samplers[0]]
    first_calls = calls[parameters.samplers[0]]
    measures: dict[str, float | Value] = {}
    for name, timing in timings.items():
        context.keep(f"seconds.{name}", torch.tensor(timing.samples, dtype=torch.float64))
        context.timing[name] = timing.summary() | {"nfe": calls[name]}
        scale = 1e3 / calls[name]
        low, high = median_interval(timing.samples, seed=context.seed)
        measures[f"overhead:{name}"] = Value(timing.median * scale, (low * scale, high * scale), n=len(timing.samples))
        ratio, (low, high) = paired_ratio(timing.samples, first.samples, seed=context.seed)
        per_call = first_calls / calls[name]
        measures[f"ratio:{name}"] = Value(ratio * per_call, (low * per_call, high * per_call), n=len(timing.samples))
    return measures

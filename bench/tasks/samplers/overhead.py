"""The overhead of samplers: their own time and memory, on a denoiser that computes nothing.

The samplers run by turns in one process. A run makes a schedule and takes its steps, with noise drawn beforehand. A
peer runs through its own API and in its own parametrisation, without the adapter that gives it the samplers' contract.
The denoiser's output is of the kind ``head`` for all.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.task import (
    ContestMeasurements,
    Context,
    Value,
)
from bench.tasks.samplers.grids import make_path
from bench.timing import clock_for, measure, median_interval, paired_ratio
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Path

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import OverheadParameters

Run = Callable[[], Tensor]


class Idle(Denoiser):
    """A denoiser that computes nothing, to time a sampler alone: its head is always the same tensor."""

    def __init__(self, path: Path, output: Tensor, head: str = "eps"):
        self.path, self.output, self.head, self.calls = path, output, head, 0

    def __call__(self, x: Tensor, t: Any, condition: Any = None) -> Prediction:
        self.calls += 1
        return Prediction(self.path, x, t, **{self.head: self.output})

    def network(self, x: Tensor) -> Tensor:
        """Give the same tensor to a peer, in the place of a network's output."""
        self.calls += 1
        return self.output


class Memory(TorchDispatchMode):
    """A mode of torch that counts the bytes of new tensors: all of them, and the most that live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.live = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        inputs = torch.utils._pytree.tree_leaves((args, kwargs))  # one that is written to, as out=, is among them
        old = {tensor.untyped_storage().data_ptr() for tensor in inputs if isinstance(tensor, Tensor)}
        for new in torch.utils._pytree.tree_leaves(found):
            if isinstance(new, Tensor) and new.untyped_storage().data_ptr() not in old:
                size = new.untyped_storage().nbytes()
                self.total, self.live = self.total + size, self.live + size
                self.peak = max(self.peak, self.live)
                weakref.finalize(new, self._free, size)
        return found

    def _free(self, size: int) -> None:
        self.live -= size


def sampler_overhead(parameters: OverheadParameters, context: Context) -> ContestMeasurements:
    """Measure a sampler's own time (ms) and memory (in sizes of its state) per model call, and its time's ratio.

    The ratio is to the first sampler, from interleaved runs.
    """
    generator = torch.Generator().manual_seed(context.seed)
    x, output, noise = (torch.randn(parameters.shape, generator=generator).to(context.device) for _ in range(3))
    denoiser = Idle(make_path(parameters.path), output, parameters.head)
    functions, calls = {}, {}
    measures: dict[str, dict[str, float | Value]] = {name: {} for name in parameters.samplers}
    for name, own in measures.items():
        functions[name] = _run(name, parameters, denoiser, x, noise, parameters.steps)
        short, calls[name] = _memory(functions[name], denoiser)
        long, _ = _memory(_run(name, parameters, denoiser, x, noise, 4 * parameters.steps), denoiser)
        state = x.untyped_storage().nbytes()
        own["allocated"] = short.total / calls[name] / state
        own["peak"] = short.peak / state
        own["growth"] = (long.peak - short.peak) / state
    timings = measure(functions, clock=clock_for(context.device), seed=context.seed, max_seconds=parameters.max_seconds)
    first = parameters.samplers[0]
    for name, timing in timings.items():
        context.keep(f"seconds.{name}", torch.tensor(timing.samples, dtype=torch.float64))
        context.timing[name] = timing.summary() | {"nfe": calls[name]}
        scale = 1e3 / calls[name]
        low, high = median_interval(timing.samples, seed=context.seed)
        own, n = measures[name], len(timing.samples)
        own["overhead"] = Value(timing.median * scale, (low * scale, high * scale), n=n)
        ratio, (low, high) = paired_ratio(timing.samples, timings[first].samples, seed=context.seed)
        per_call = calls[first] / calls[name]
        own["ratio"] = Value(ratio * per_call, (low * per_call, high * per_call), n=n)
    return measures


def _run(name: str, parameters: OverheadParameters, denoiser: Idle, x: Tensor, noise: Tensor, steps: int) -> Run:
    entry, options = SAMPLERS[name], parameters.options.get(name, {})
    bare = getattr(peer := entry.resolve(), "bare", None)  # of another library, or a scheduler of the user's
    if bare is not None:
        if entry.package and peer.head != parameters.head:
            raise ValueError(f"{name} takes {peer.head}: head must be that, got {parameters.head}")
        return bare(x, denoiser.network, steps, lambda: noise, **options)  # type: ignore[no-any-return]
    schedule = SCHEDULES[parameters.schedule]

    def run() -> Tensor:
        times = schedule(denoiser.path, steps)
        times = times.flip(0) if entry.ascending else times
        return entry(denoiser, x, times, noise=lambda draw, like: noise, **options)  # type: ignore[no-any-return]

    return run


def _memory(run: Run, denoiser: Idle) -> tuple[Memory, int]:
    """The memory that a run allocates, and the number of its calls of the denoiser."""
    run()  # so that what is made only once is not counted
    denoiser.calls = 0
    with Memory() as memory:
        run()
    return memory, denoiser.calls

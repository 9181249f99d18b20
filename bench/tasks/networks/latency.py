"""Latency and throughput of networks that take turns in one process, with their size, operations and memory.

A pass is one call without gradients. The time at batch 1 is the latency; images per second are those of the batch that
gives most, each network's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.task import ContestMeasurements, Context, Value
from bench.tasks.cost import count_flops, measure_peak
from bench.tasks.networks.declarations import ARCHITECTURES
from bench.tasks.networks.equal import Inputs, draw_inputs, make_networks
from bench.tasks.networks.sizes import SIZES
from bench.timing import Clock, Function, Timing, clock_for, measure, median_interval, paired_ratio
from implementations.weights import load

if TYPE_CHECKING:
    from bench.tasks.networks.declarations import LatencyParameters

ROUNDS = 5  # of a batch that is only tried
GAIN = 1.02  # images per second over those of the batch before, from which a larger one is tried
Draw = Callable[[int], Inputs]  # of a batch of so many


@dataclass
class Timed:
    """A network under measurement: the module, a call of it in the mode asked for, and how its inputs are drawn."""

    module: nn.Module
    call: Callable[..., Tensor]
    draw: Draw


def latency(parameters: LatencyParameters, context: Context) -> ContestMeasurements:
    """Size, operations, time, images per second and peak memory of each network, and its ratios to the first."""
    with torch.inference_mode(), _as_users_run():
        networks = _prepare(parameters, context)
        clock, seed = clock_for(context.device), context.seed
        measures: dict[str, dict[str, float | Value]] = {name: {} for name in networks}
        passes = _passes(networks, 1, parameters, context)
        if parameters.mode == "compiled":
            for name, run in passes.items():
                begin = time.monotonic()
                run()
                measures[name]["compile"] = time.monotonic() - begin
        outputs, first = {name: run() for name, run in passes.items()}, parameters.networks[0]
        for name, timed in networks.items():
            given = _moved(timed.draw(1), parameters, context)
            measures[name] |= {
                "parameters": sum(p.numel() for p in timed.module.parameters()) / 1e6,
                "flops": count_flops(partial(timed.module, *given)) / 1e9,
                "difference": float((outputs[name] - outputs[first]).abs().max() / outputs[first].abs().max()),
                "memory": _peak(passes[name], clock) / 1e6,
            }
        timings = measure(passes, clock=clock, seed=seed, rounds=parameters.rounds, max_seconds=parameters.max_seconds)
        tried = _climb(networks, parameters, context, clock, {n: 1 / t.median for n, t in timings.items()})
        best = {name: max(own, key=own.__getitem__) for name, own in tried.items()}
        at_best = {name: _passes({name: one}, best[name], parameters, context)[name] for name, one in networks.items()}
        steady = measure(at_best, clock=clock, seed=seed, rounds=parameters.rounds, max_seconds=parameters.max_seconds)
        for name, own in measures.items():
            own |= _of_time(name, first, timings, seed) | _of_throughput(name, first, steady, best, seed)
            own["memory_batch"] = _peak(at_best[name], clock) / 1e6
            context.timing[name] = timings[name].summary()
            context.keep(f"seconds.{name}", torch.tensor(timings[name].samples, dtype=torch.float64))
            context.keep(f"batches.{name}", torch.tensor(list(tried[name]), dtype=torch.float64))
            context.keep(f"images_per_second.{name}", torch.tensor(list(tried[name].values()), dtype=torch.float64))
    if len(networks) == 1:
        for name in ("ratio", "ratio_throughput", "difference"):
            del measures[first][name]
    return measures


@contextmanager
def _as_users_run() -> Iterator[None]:
    """Without the deterministic algorithms of a worker, which also fill every new tensor before it is written.

    Where torch.compile has compiled as many versions as it keeps, it raises, and does not go on uncompiled.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=True)


def _prepare(parameters: LatencyParameters, context: Context) -> dict[str, Timed]:
    dtype = getattr(torch, parameters.dtype)
    found: dict[str, tuple[nn.Module, Draw]] = {}
    if parameters.size:
        size = SIZES[ARCHITECTURES[parameters.networks[0]]][parameters.size]
        made = make_networks(parameters.networks, size, context.seed)
        found = {name: (network, partial(draw_inputs, size)) for name, network in made.items()}
    else:
        found = {name: _load(name) for name in parameters.networks}
    networks = {}
    for name, (module, draw) in found.items():
        module = module.to(context.device, dtype)
        call = torch.compile(module, dynamic=False) if parameters.mode == "compiled" else module
        networks[name] = Timed(module, call, draw)
    return networks


def _load(name: str) -> tuple[nn.Module, Draw]:
    """A shipped checkpoint's module, with its preconditioning, and draws of the shape and classes that it takes."""
    denoiser = load(name)

    def draw(batch: int) -> Inputs:
        source = torch.Generator().manual_seed(1)
        labels = torch.randint(denoiser.classes, (batch,), generator=source) if denoiser.classes else None
        return torch.randn(batch, *denoiser.shape, generator=source), torch.full((batch,), 0.5), labels

    return denoiser.network, draw


def _passes(
    networks: dict[str, Timed], batch: int, parameters: LatencyParameters, context: Context
) -> dict[str, Function]:
    """A pass of each network on a batch, as a call without arguments that returns the output."""
    found: dict[str, Function] = {}
    for name, timed in networks.items():
        run = partial(timed.call, *_moved(timed.draw(batch), parameters, context))
        found[name] = _capture(run) if parameters.mode == "cuda_graph" else run
    return found


def _capture(run: Function) -> Function:
    """The pass as a CUDA graph, which replays its kernels on the same memory."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is chosen or allocated once must be before the capture
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out  # type: ignore[no-any-return]

    return replay


def _climb(
    networks: dict[str, Timed],
    parameters: LatencyParameters,
    context: Context,
    clock: Clock,
    alone: dict[str, float],
) -> dict[str, dict[int, float]]:
    """Images per second of each network by batch, from those at batch 1 until none gains by a larger batch."""
    tried = {name: {1: rate} for name, rate in alone.items()}
    for batch in parameters.batches[1:]:
        passes = _passes(networks, batch, parameters, context)
        timings = measure(passes, clock=clock, seed=context.seed, rounds=ROUNDS, max_seconds=0.0)
        before = {name: max(own.values()) for name, own in tried.items()}
        for name, timing in timings.items():
            tried[name][batch] = batch / timing.median
        if all(tried[name][batch] < GAIN * before[name] for name in tried):
            break
    return tried


def _of_time(name: str, first: str, timings: dict[str, Timing], seed: int) -> dict[str, Value]:
    samples, n = timings[name].samples, len(timings[name].samples)
    low, high = median_interval(samples, seed=seed)
    ratio, interval = paired_ratio(samples, timings[first].samples, seed=seed)
    return {
        "time": Value(timings[name].median * 1e3, (low * 1e3, high * 1e3), n=n),
        "ratio": Value(ratio, interval, n=n),
    }


def _of_throughput(
    name: str, first: str, timings: dict[str, Timing], best: dict[str, int], seed: int
) -> dict[str, float | Value]:
    each = {key: [seconds / best[key] for seconds in timings[key].samples] for key in (name, first)}
    low, high = median_interval(each[name], seed=seed)
    ratio, interval = paired_ratio(each[name], each[first], seed=seed)
    n = len(each[name])
    return {
        "batch": best[name],
        "throughput": Value(best[name] / timings[name].median, (1 / high, 1 / low), n=n),
        "ratio_throughput": Value(ratio, interval, n=n),
    }


def _peak(run: Function, clock: Clock) -> int:
    """Peak bytes of a pass: the clock's on a GPU, else those of torch's allocator on the CPU."""
    found = clock.peak_memory(run)
    return measure_peak(run) if found is None else found


def _moved(given: Inputs, parameters: LatencyParameters, context: Context) -> Inputs:
    x, times, labels = given
    x = x.to(context.device, getattr(torch, parameters.dtype))
    return x, times.to(context.device), None if labels is None else labels.to(context.device)

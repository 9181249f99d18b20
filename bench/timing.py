"""Measurement of latency on CPU and CUDA: warm-up, interleaved rounds, raw samples.

Functions are timed in turn, in an order that is shuffled in each round, so that drift of the machine cancels in the
ratio of their times.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Function = Callable[[], Any]


class Clock(Protocol):
    """The interface of a clock that times calls on a device.

    A sample is the time of several calls in a row. Samples are read together at the end of several rounds, so that a
    GPU need not synchronise in between.
    """

    def start(self, function: Function, number: int) -> Any:
        """Call ``function`` ``number`` times, and return a handle of this sample for ``read``."""

    def read(self, handles: Sequence[Any]) -> list[float]:
        """Seconds that each sample took, for all its calls together; synchronises with the device."""

    def peak_memory(self, function: Function) -> int | None:
        """Peak bytes allocated during one call beyond those before it; None where the clock cannot measure it."""


class CpuClock:
    """A clock for the CPU: ``time.perf_counter_ns`` before and after the calls."""

    def start(self, function: Function, number: int) -> int:
        begin = time.perf_counter_ns()
        for _ in range(number):
            function()
        return time.perf_counter_ns() - begin

    def read(self, handles: Sequence[int]) -> list[float]:
        return [handle * 1e-9 for handle in handles]

    def peak_memory(self, function: Function) -> int | None:
        return None


class CudaClock:
    """A clock for CUDA: events around the calls of a sample; the L2 cache is flushed before each sample.

    Events are read after the device has synchronised. ``cuda`` is ``torch.cuda`` or, in tests, a stand-in with Event,
    synchronize, memory statistics and ``flush``.
    """

    def __init__(self, device: str = "cuda", cuda: Any = None):
        import torch

        self.cuda = cuda or torch.cuda
        self.device = device
        if cuda is None:
            size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
            cache = torch.empty(max(size, 1), dtype=torch.int8, device=device)
            self.flush: Function = cache.zero_
        else:
            self.flush = cuda.flush

    def start(self, function: Function, number: int) -> tuple[Any, Any]:
        begin, end = self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True)
        with self.cuda.device(self.device):  # events belong to the current device's stream
            self.flush()
            begin.record()
            for _ in range(number):
                function()
            end.record()
        return begin, end

    def read(self, handles: Sequence[tuple[Any, Any]]) -> list[float]:
        self.cuda.synchronize(self.device)
        return [begin.elapsed_time(end) * 1e-3 for begin, end in handles]  # elapsed_time is in ms

    def peak_memory(self, function: Function) -> int | None:
        self.cuda.synchronize(self.device)
        before = self.cuda.memory_allocated(self.device)
        self.cuda.reset_peak_memory_stats(self.device)
        function()
        self.cuda.synchronize(self.device)
        return int(self.cuda.max_memory_allocated(self.device) - before)


@dataclass(frozen=True)
class Timing:
    """The time of one function: raw samples in seconds per call, and their statistics."""

    samples: tuple[float, ...]
    warmups: int
    number: int  # calls per sample
    peak_memory: int | None = None

    def quantile(self, q: float) -> float:
        """The quantile ``q`` (0 to 1) of the samples, in seconds per call."""
        return float(np.quantile(self.samples, q))

    @property
    def median(self) -> float:
        """The median of the samples, in seconds per call."""
        return self.quantile(0.5)

    @property
    def spread(self) -> float:
        """Relative spread of the samples: the interquartile range divided by the median."""
        return (self.quantile(0.75) - self.quantile(0.25)) / max(
            self.median, 1e-12
        )  # the median of a coarse clock may be 0

    def summary(self) -> dict[str, Any]:
        """What a record stores of a timing: quantiles in seconds per call, numbers of calls, peak memory in bytes."""
        names = {"median": 0.5, "q1": 0.25, "q3": 0.75, "p90": 0.9, "p99": 0.99}
        return {name: self.quantile(q) for name, q in names.items()} | {
            "warmups": self.warmups, "number": self.number, "n": len(self.samples), "peak_memory": self.peak_memory,
        }  # fmt: skip


def clock_for(device: str) -> Clock:
    """The clock for a torch device: ``CudaClock`` for ``cuda`` and ``cuda:N``, otherwise ``CpuClock``."""
    return CudaClock(device) if device.startswith("cuda") else CpuClock()


def measure(
    functions: Mapping[str, Function],
    *,
    clock: Clock,
    seed: int = 0,
    rounds: int = 20,
    spread: float = 0.05,
    max_seconds: float = 10.0,
    min_sample: float = 1e-3,
) -> dict[str, Timing]:
    """Time the functions in interleaved rounds until every relative interquartile range is at most ``spread``.

    At least ``rounds`` rounds are run (a paired test needs 20), then more until the bound or ``max_seconds`` is
    reached. A sample repeats its function until it takes ``min_sample`` seconds. The warm-up of a function ends when a
    call is no more than 10 % faster than the one before it.
    """
    warmups = {name: _warm_up(function, clock) for name, function in functions.items()}
    number = {name: max(1, math.ceil(min_sample / last)) for name, (_, last) in warmups.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    order, generator = list(functions), random.Random(seed)
    deadline = time.monotonic() + max_seconds
    while True:
        handles: dict[str, list[Any]] = {name: [] for name in functions}
        for _ in range(rounds if not samples[order[0]] else 5):
            generator.shuffle(order)
            for name in order:
                handles[name].append(clock.start(functions[name], number[name]))
            if time.monotonic() > deadline and len(samples[order[0]]) + len(handles[order[0]]) >= rounds:
                break
        for name in functions:
            samples[name] += [seconds / number[name] for seconds in clock.read(handles[name])]
        timings = {name: Timing(tuple(samples[name]), warmups[name][0], number[name]) for name in functions}
        if time.monotonic() > deadline or all(timing.spread <= spread for timing in timings.values()):
            break
    peaks = {name: clock.peak_memory(function) for name, function in functions.items()}
    return {n: Timing(t.samples, t.warmups, t.number, peaks[n]) for n, t in timings.items()}


def paired_ratio(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Median of the ratios a/b of interleaved samples, with a 95 % bootstrap interval.

    The samples of one round form a pair. The bootstrap resamples pairs, on log ratios. Raises ValueError for fewer than
    20 pairs.
    """
    if len(a) != len(b) or len(a) < 20:
        raise ValueError(f"paired ratios take two lists of one length, at least 20; given {len(a)} and {len(b)}")
    logs = np.log(np.asarray(a)) - np.log(np.asarray(b))
    draws = np.random.default_rng(seed).integers(len(logs), size=(resamples, len(logs)))
    low, high = np.quantile(np.median(logs[draws], axis=1), [0.025, 0.975])
    return float(np.exp(np.median(logs))), (float(np.exp(low)), float(np.exp(high)))


def median_interval(samples: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """A 95 % bootstrap interval for the median of ``samples``: lower and upper end, in their unit."""
    draws = np.random.default_rng(seed).choice(np.asarray(samples), size=(resamples, len(samples)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


def _warm_up(function: Function, clock: Clock, limit: int = 20) -> tuple[int, float]:
    """Call until two calls in a row take the same time; return the number of calls, and the seconds of the last."""
    last = math.inf
    for count in range(1, limit + 1):
        (seconds,) = clock.read([clock.start(function, 1)])
        if count >= 3 and seconds > 0.9 * last:
            break
        last = seconds
    return count, max(seconds, 1e-9)

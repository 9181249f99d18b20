"""Timing: on a clock whose durations are known, on a stand-in for CUDA, and on a GPU where there is one."""

import contextlib
import itertools
import random

import pytest
import torch

from bench.timing import CpuClock, CudaClock, Timing, clock_for, measure, paired_ratio


class FakeCuda:
    """A device that works through its queue only when it is asked to wait; each call takes ``cost`` ms."""

    def __init__(self):
        self.now, self.queue, self.waits, self.flushes, self.memory, self.peak = 0.0, [], 0, 0, 100, 100

    def Event(self, enable_timing):
        assert enable_timing
        cuda = self

        class Event:
            def record(self):
                cuda.queue.append(lambda: setattr(self, "at", cuda.now))

            def elapsed_time(self, other):
                return other.at - self.at  # AttributeError if read before the device caught up

        return Event()

    def launch(self, cost):
        self.queue.append(lambda: setattr(self, "now", self.now + cost()))
        self.peak = self.memory + 7

    def flush(self):
        self.flushes += 1
        self.queue.append(lambda: setattr(self, "now", self.now + 1000.0))

    def synchronize(self, device):
        self.waits += 1
        for work in self.queue:
            work()
        self.queue.clear()

    def device(self, name):
        return contextlib.nullcontext()

    def memory_allocated(self, device):
        return self.memory

    def max_memory_allocated(self, device):
        return self.peak

    def reset_peak_memory_stats(self, device):
        self.peak = self.memory


def test_cuda_events_time_the_work_and_neither_the_flush_nor_the_queue():
    cuda = FakeCuda()
    costs = {"a": 2.0, "b": 5.0}
    functions = {name: (lambda cost=cost: cuda.launch(lambda: cost)) for name, cost in costs.items()}
    timings = measure(functions, clock=CudaClock("cuda", cuda), rounds=20)
    assert {name: timing.median for name, timing in timings.items()} == pytest.approx({"a": 2e-3, "b": 5e-3})
    assert all(timing.peak_memory == 7 for timing in timings.values())
    samples = sum(len(t.samples) + t.warmups for t in timings.values())
    assert cuda.flushes == samples  # L2 is flushed before every sample
    assert cuda.waits < samples  # events are read once a batch of rounds, not a sample


def test_short_functions_are_repeated_within_a_sample():
    cuda = FakeCuda()
    (timing,) = measure(
        {"a": lambda: cuda.launch(lambda: 0.01)}, clock=CudaClock("cuda", cuda), min_sample=1e-3
    ).values()
    assert timing.number == 100
    assert timing.median == pytest.approx(1e-5)


def test_measuring_goes_on_until_the_spread_is_small_or_time_is_out():
    cuda, generator = FakeCuda(), random.Random(0)
    noisy = {"a": lambda: cuda.launch(lambda: generator.uniform(1, 100))}
    (timing,) = measure(noisy, clock=CudaClock("cuda", cuda), spread=0.01, max_seconds=0.2, min_sample=0).values()
    assert len(timing.samples) > 20
    assert timing.spread > 0.01
    steady = itertools.count()
    (timing,) = measure(
        {"a": lambda: cuda.launch(lambda: 5.0 + 0 * next(steady))}, clock=CudaClock("cuda", cuda), min_sample=0
    ).values()
    assert len(timing.samples) == 20


def test_interleaving_cancels_drift():
    """The machine slows down fourfold during the run; the paired ratio does not notice."""
    cuda = FakeCuda()

    def slow(base):
        return lambda: cuda.launch(lambda: base * (1 + min(cuda.now, 3e5) / 1e5))

    timings = measure({"a": slow(3.0), "b": slow(1.0)}, clock=CudaClock("cuda", cuda), rounds=40, min_sample=0)
    a, b = (timings[name].samples for name in "ab")
    assert max(a) > 1.5 * min(a)
    ratio, (low, high) = paired_ratio(a, b)
    assert low <= ratio <= high
    assert ratio == pytest.approx(3.0, rel=0.05)


def test_bootstrap_interval_covers_the_true_ratio_at_its_rate():
    """Of 200 experiments with a true ratio of 1.5 a 95 % interval misses about 10; a binomial bound of 5 sd is 25."""
    generator = random.Random(1)
    missed = 0
    for seed in range(200):
        drift = [generator.lognormvariate(0, 0.5) for _ in range(40)]
        a = [1.5 * d * generator.lognormvariate(0, 0.1) for d in drift]
        b = [d * generator.lognormvariate(0, 0.1) for d in drift]
        _, (low, high) = paired_ratio(a, b, seed=seed, resamples=500)
        missed += not low <= 1.5 <= high
    assert missed <= 25


def test_paired_ratio_needs_twenty_pairs():
    with pytest.raises(ValueError, match="at least 20"):
        paired_ratio([1.0] * 19, [1.0] * 19)


def test_quantiles_are_those_of_the_samples():
    timing = Timing(tuple(float(i) for i in range(101)), 3, 1)
    summary = timing.summary()
    assert (summary["q1"], summary["median"], summary["q3"], summary["p90"], summary["p99"]) == (25, 50, 75, 90, 99)
    assert timing.spread == 1.0


@pytest.mark.alone
def test_cpu_clock_times_real_work():
    a, b = torch.rand(400, 400), torch.rand(100, 100)
    timings = measure({"large": lambda: a @ a, "small": lambda: b @ b}, clock=clock_for("cpu"), max_seconds=2)
    assert isinstance(clock_for("cpu"), CpuClock)
    ratio, _ = paired_ratio(timings["large"].samples, timings["small"].samples)
    assert ratio > 5  # 64 times the arithmetic


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_clock_on_a_real_device():
    a, b = torch.rand(4096, 4096, device="cuda"), torch.rand(512, 512, device="cuda")
    timings = measure({"large": lambda: a @ a, "small": lambda: b @ b}, clock=clock_for("cuda"), max_seconds=5)
    ratio, _ = paired_ratio(timings["large"].samples, timings["small"].samples)
    assert ratio > 5
    assert timings["large"].peak_memory >= a.numel() * 4

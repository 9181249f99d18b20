"""What a guidance wrapper costs beside the network that it calls, and what one batched call gains over two.

    python -m pytest tests/benchmarks/test_guidance_overhead.py -s -m alone

The wrapper's own work is at most 2 % of a small U-Net's call. The figures are printed.
"""

import statistics
import time

import pytest
import torch

from bench.timing import CpuClock, measure, paired_ratio
from implementations.diffusion import VP, Network
from implementations.guidance import GUIDANCE
from implementations.networks import NETWORKS

SHARE, N, ROWS, T = 0.02, 16, 2, 0.5
X, LABELS = torch.randn(N, 1, 28, 28), torch.arange(N) % 10
JOINED, BOTH = torch.cat([X] * ROWS), torch.cat([LABELS, torch.full_like(LABELS, 10)])


class Idle(torch.nn.Module):
    """Predicts what it has, so that what is left of a call is the wrapper's own work."""

    configuration = {"classes": 10}
    out = torch.randn(ROWS * N, 1, 28, 28)

    def forward(self, x, time, condition=None):
        return self.out[: len(x)]


def seconds(call, times):
    """The median CPU time of a call, to which other processes add little; the first fifth warms up."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return statistics.median(found[times // 5 :])


@pytest.fixture(scope="module")
def bare():
    """The CPU time of a small U-Net's call on as many rows as a guided call has."""
    torch.manual_seed(0)
    network = NETWORKS["unet"](1, widths=(32, 64), attention=(False, True), classes=10, unshuffle=2, groups=8).eval()
    denoiser = Network(VP(), network.requires_grad_(False), head="eps")
    with torch.no_grad():
        return seconds(lambda: denoiser(JOINED, T, BOTH), 20)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classifier_free", {"scale": 3.0}),
        ("cfg_plus_plus", {"scale": 0.6}),
        ("interval", {"low": 0.0, "high": 10.0}),
        ("rescale", {"phi": 0.7}),
        ("apg", {"scale": 3.0}),
        ("tangential", {"scale": 3.0}),
        ("magnitude_aware", {"scale": 3.0}),
        ("cfg_zero_star", {"scale": 3.0}),
    ],
)
def test_a_wrapper_costs_at_most_two_percent_of_a_small_network_s_call(name, options, bare):
    """Beside the idle network's call; of a correction, beside the guided denoiser that it wraps."""
    denoiser = Network(VP(), Idle(), head="eps")
    corrects = GUIDANCE[name].wraps == "guided"
    inner = GUIDANCE["classifier_free"](denoiser, scale=3.0) if corrects else denoiser
    guided, wrapped = GUIDANCE[name](inner, **options), (X, T, LABELS) if corrects else (JOINED, T, BOTH)
    with torch.no_grad():
        own = seconds(lambda: guided(X, T, LABELS), 200) - seconds(lambda: inner(*wrapped), 200)
    print(f"{name}: {1e3 * own:.3f} ms, {100 * own / bare:.2f} % of {1e3 * bare:.1f} ms")
    assert own <= SHARE * bare


@pytest.mark.alone
def test_one_batched_call_beside_two():
    """The measured gain: time of a guided call in one batched evaluation over that in two, by turns."""
    torch.manual_seed(0)
    network = NETWORKS["unet"](1, widths=(32, 64), attention=(False, True), classes=10, unshuffle=2, groups=8).eval()
    denoiser = Network(VP(), network.requires_grad_(False), head="eps")
    one, two = (GUIDANCE["classifier_free"](denoiser, scale=3.0, batched=batched) for batched in (True, False))
    for n in (1, 4, 16, 64):
        x, labels = torch.randn(n, 1, 28, 28), torch.arange(n) % 10
        with torch.no_grad():
            torch.testing.assert_close(one(x, T, labels).eps, two(x, T, labels).eps, rtol=1e-4, atol=1e-5)
            runs = {"one": lambda x=x, c=labels: one(x, T, c), "two": lambda x=x, c=labels: two(x, T, c)}
            timings = measure(runs, clock=CpuClock(), rounds=20, max_seconds=4.0)
        ratio, (low, high) = paired_ratio(timings["one"].samples, timings["two"].samples)
        print(f"batch {n}: one call takes {ratio:.3f} [{low:.3f}, {high:.3f}] of the time of two, "
              f"{1e3 * timings['one'].median:.2f} ms")  # fmt: skip
        assert low < 1.05, "one batched call is slower than two"

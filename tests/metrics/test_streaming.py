"""A million features stream through the sliced distance: memory stays, and the distance is that of the densities."""

from __future__ import annotations

import math

import psutil
import torch

from metrics import SlicedWasserstein, Slices

N, D, BATCH = 1_000_000, 32, 10_000


def test_a_million_features_at_constant_memory():
    """Normal features against shifted ones: SW_2 over a whole basis is |s| / sqrt(d), and the floor that of n.

    256 MB of features pass, in float64 and on one side; memory grows by less than a tenth of it after ten batches.
    """
    metric, process = SlicedWasserstein(Slices(D, D, seed=2)), psutil.Process()
    generator, shift = torch.Generator().manual_seed(0), 0.1 * torch.linspace(-1, 1, D)
    memory = []
    for _ in range(N // BATCH):
        x, y = torch.randn(2, BATCH, D, generator=generator)
        metric.update(x, real=True)
        metric.update(y + shift, real=False)
        memory.append(process.memory_info().rss)
    assert max(memory[10:]) - memory[9] < 25e6
    assert sum(getattr(metric, side).numel() * 8 for side in ("real", "fake")) < 10e6
    found, truth = metric.compute(), float(shift.norm()) / math.sqrt(D)
    # The bias adds some 1/2 floor^2 / value; the error is the jackknife's, with 7 degrees of freedom.
    assert abs(float(found["value"]) - truth) < 5 * float(found["error"]) + float(found["floor"]) ** 2 / truth
    assert float(found["error"]) < 0.02 * truth
    assert float(found["floor"]) < 0.05 * truth

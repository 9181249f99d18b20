"""The metrics whose states are sums: ranks, shards and streams give what one pass gives, in constant memory."""

from __future__ import annotations

import psutil
import pytest
import torch
from torch import Tensor

from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.kernel import kid
from metrics.streams.frechet import FrechetDistance
from metrics.streams.kid import BlockKid
from tests.exact import normal
from tests.metrics.gloo import on_ranks


def whole_blocks(x: Tensor, y: Tensor, block: int) -> list[float]:
    values = torch.tensor([kid(a, b).value for a, b in zip(x.split(block), y.split(block), strict=True)])
    return [float(values.mean()), float(values.std() / len(values) ** 0.5), float(len(values))]


def found(metric: BlockKid) -> list[float]:
    return [float(value) for value in metric.compute().values()]


def feed(metric, x: Tensor, y: Tensor, batch: int = 7):
    """Sides take turns, in batches that fit no block."""
    for a, b in zip(x.split(batch), y.split(batch), strict=True):
        metric.update(a, real=True)
        metric.update(b, real=False)
    return metric


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_blocks_are_those_of_the_order(batch: int):
    x, y = normal(60, 8), normal(60, 8, seed=1) + 0.3
    metric = feed(BlockKid(block=20), x, y, batch)
    assert found(metric) == pytest.approx(whole_blocks(x, y, 20), rel=1e-5)  # the loop's are float32
    assert sum(len(batch) for batch in metric.real) == 0
    metric.update(normal(19, 8), real=True)
    assert found(metric)[2] == 3  # what fills no block waits
    metric.reset()
    with pytest.raises(ValueError, match="no whole block of 20 rows"):
        metric.compute()


def test_one_side_may_run_ahead():
    x, y = normal(60, 8), normal(60, 8, seed=1)
    ahead = BlockKid(block=20)
    ahead.update(x, real=True)
    ahead.update(y, real=False)
    assert found(ahead) == found(feed(BlockKid(block=20), x, y))


def test_block_mean_is_an_estimate_of_kid_with_its_error():
    """Over 200 streams: unbiased, and spread as it says."""
    truth = kid(normal(3000, 8), normal(3000, 8, seed=1) + 0.3)
    streams = [feed(BlockKid(20), normal(200, 8, seed=s), normal(200, 8, seed=s + 999) + 0.3, 200) for s in range(200)]
    mean, error, _ = torch.tensor([found(stream) for stream in streams]).T
    assert float(mean.mean()) == pytest.approx(
        truth.value, abs=4 * (truth.standard_error + float(mean.std()) / 200**0.5)
    )
    # 10 blocks: the error's own square is chi-squared of 9 degrees, 3 % over 200 streams; a deviation of 200, 5 %
    assert float(error.square().mean().sqrt()) == pytest.approx(float(mean.std()), rel=0.2)


def frechet(rank: int, x: Tensor, y: Tensor, cuts: list[tuple[int, int]]) -> list[float]:
    """Rank 0 sees the rows before each cut, rank 1 those from it."""
    values = []
    for at, bt in cuts:
        metric = FrechetDistance(x.shape[1])
        part = slice(0, at) if rank == 0 else slice(at, None), slice(0, bt) if rank == 0 else slice(bt, None)
        for batch in x[part[0]].split(7):
            metric.update(batch, real=True)
        for batch in y[part[1]].split(5):
            metric.update(batch, real=False)
        values.append(float(metric.compute()))
    return values


def block_kid(rank: int, x: Tensor, y: Tensor, cuts: list[int]) -> list[list[float]]:
    values = []
    for at in cuts:
        part = slice(0, at) if rank == 0 else slice(at, None)
        metric = BlockKid(block=20)
        if len(x[part]):
            feed(metric, x[part], y[part])
        values.append(found(metric))
    return values


def both(rank: int, x: Tensor, y: Tensor, cuts: list[tuple[int, int]], blocks: list[int]):
    return frechet(rank, x, y, cuts), block_kid(rank, x[:60], y[:60], blocks)


def test_two_ranks_equal_a_single_pass():
    x, y = normal(70, 8), normal(70, 8, seed=1) + 0.3
    distance = frechet_distance_from_features(x, y)
    single = found(feed(BlockKid(block=20), x[:60], y[:60]))
    # Any cut for sums, an empty rank among them; whole blocks, and one rank without anything, for blocks.
    for distances, (*whole, other) in on_ranks(both, x, y, [(35, 35), (1, 69), (70, 0), (0, 0)], [20, 40, 0, 60, 30]):
        assert distances == pytest.approx([distance] * 4, rel=1e-10)
        for values in whole:
            assert values == pytest.approx(single, rel=1e-10)
        # Cut at 30, a block is made of what both ranks had left: rows 20 to 29 and 50 to 59.
        left = torch.cat([torch.arange(20), torch.arange(30, 50), torch.arange(20, 30), torch.arange(50, 60)])
        assert other == pytest.approx(found(feed(BlockKid(block=20), x[left], y[left])), rel=1e-10)


def test_merged_shards_equal_a_single_pass():
    x, y = normal(120, 8), normal(120, 8, seed=1) + 0.3
    first, second = feed(BlockKid(20), x[:80], y[:80]), feed(BlockKid(20), x[80:], y[80:])
    first.merge_state(second)
    assert found(first) == pytest.approx(found(feed(BlockKid(20), x, y)), rel=1e-10)


@pytest.mark.unchecked
def test_a_million_features_stream_in_constant_memory():
    """The process after 1,000,000 rows a side against after 100,000; keeping the others would take 900 MB."""
    metrics, generator, memory, values = (FrechetDistance(64), BlockKid(100)), torch.Generator().manual_seed(0), [], []
    for step in range(1, 51):
        for real in (True, False):
            batch = torch.randn(20_000, 64, generator=generator)
            for metric in metrics:
                metric.update(batch, real=real)
        if step in (5, 50):
            memory.append(psutil.Process().memory_info().rss)
            values.append([metric.compute() for metric in metrics])
    assert memory[1] - memory[0] < 100 * 2**20  # what an allocator keeps differs by some batches of 10 MB
    # Of equal Gaussians, all that d² holds is its bias, which goes as 1 / n.
    (short, _), (long, blocks) = values
    assert float(long) == pytest.approx(float(short) / 10, rel=0.2)
    assert blocks["blocks"] == 10_000
    assert abs(blocks["value"]) < 4 * blocks["standard_error"]

"""Metrics whose states are sums: batches, shards and ranks give what one pass over the pure function gives."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from metrics import (
    BitsPerDim,
    ConditionalAccuracy,
    InceptionScore,
    SlicedSketch,
    SlicedWasserstein,
    Slices,
    bits_per_dim,
    conditional_accuracy,
    inception_score,
    sliced_wasserstein_of_sketches,
)
from tests.exact import normal
from tests.metrics.gloo import on_ranks

SLICES = Slices(6, 12, centre=0.5)
CUTS = [[0, 40, 41, 200], [0, 200], [0, 8, 96, 200]]  # between the batches of rank 0; rank 1 sees the rest by 33


def inputs() -> dict[str, tuple[torch.Tensor, ...]]:
    """400 samples of each metric's arguments."""
    scores, labels = 2 * normal(400, 6), torch.arange(400) % 6
    nats, noise = 50 * normal(400, 1, seed=1)[:, 0] - 900, normal(400, 1, seed=2)[:, 0]
    x, y = normal(400, 6, seed=3), normal(400, 6, seed=4) + 0.3
    return {"scores": (scores,), "conditions": (scores, labels), "nats": (nats, noise), "features": (x, y)}


def passed() -> dict[str, dict[str, Any]]:
    """A single pass over the pure functions."""
    given = inputs()
    overall, per_class, balanced = conditional_accuracy(*given["conditions"])
    accuracy = {"value": overall.value, "low": overall.low, "high": overall.high, "balanced": balanced}
    nats, noise = given["nats"]
    sketches = (SlicedSketch.from_features(features, SLICES) for features in given["features"])
    return {
        "inception": inception_score(*given["scores"])._asdict(),
        "inception of 8 splits": inception_score(*given["scores"], splits=8)._asdict(),
        "accuracy": accuracy | {"per_class": [part[:3] for part in per_class]},
        "bits": bits_per_dim(nats, 100, scale=1 / 128, dequantisation=noise)._asdict(),
        "sliced": sliced_wasserstein_of_sketches(*sketches)._asdict(),
    }


def fill(rank: int, cuts: list[int]) -> dict[str, Any]:
    """Metrics that saw the rank's samples in batches."""
    ends = cuts if rank == 0 else [cuts[-1], *range(cuts[-1] + 33, 400, 33), 400]
    given = inputs()
    filled = {
        "inception": (InceptionScore(6), given["scores"]),
        "inception of 8 splits": (InceptionScore(6, splits=8), given["scores"]),
        "accuracy": (ConditionalAccuracy(6), given["conditions"]),
        "bits": (BitsPerDim(100, scale=1 / 128), given["nats"]),
    }
    sliced = SlicedWasserstein(SLICES)
    for low, high in itertools.pairwise(ends):
        for metric, arguments in filled.values():
            metric.update(*(argument[low:high] for argument in arguments))
        for features, real in zip(given["features"], (True, False), strict=True):
            sliced.update(features[low:high], real=real)
    return {name: metric for name, (metric, _) in filled.items()} | {"sliced": sliced}


def on_rank(rank: int) -> list[dict[str, dict[str, torch.Tensor]]]:
    return [{name: metric.compute() for name, metric in fill(rank, cuts).items()} for cuts in CUTS]


def check(found: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, truth in passed().items():
        assert set(found[name]) == set(truth), name
        for field, value in truth.items():
            expected = torch.tensor(value, dtype=torch.float64)
            torch.testing.assert_close(found[name][field], expected, rtol=1e-10, atol=1e-14, msg=f"{name} {field}")


def test_ranks_equal_a_single_pass():
    for rank in on_ranks(on_rank):
        for found in rank:
            check(found)


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_merged_shards_equal_a_single_pass(cuts: list[int]):
    first, second = fill(0, cuts), fill(1, cuts)
    for name, metric in first.items():
        metric.merge_state(second[name])
    check({name: metric.compute() for name, metric in first.items()})


def test_splits_of_uneven_shards_are_dealt_by_each_shard():
    """Shards of 13 and 17 into 4 splits: split s is every fourth sample, from s on, of each."""
    scores = 2 * normal(30, 5, seed=5)
    shards = [InceptionScore(5, splits=4) for _ in range(2)]
    for shard, part in zip(shards, scores.split([13, 17]), strict=True):
        for batch in part.split(3):
            shard.update(batch)
    shards[0].merge_state(shards[1])
    parts = [torch.cat([part[s::4] for part in scores.split([13, 17])]) for s in range(4)]
    truth = sum(inception_score(part).score for part in parts) / 4
    assert float(shards[0].compute()["score"]) == pytest.approx(truth, rel=1e-10)


def test_forward_scores_a_batch_and_deals_on():
    scores = 2 * normal(50, 5, seed=5)
    metric = InceptionScore(5, splits=4)
    for batch in scores.split(9):
        found = metric(batch)["score"]
        assert float(found) == pytest.approx(inception_score(batch, splits=4).score, rel=1e-10)
    assert float(metric.compute()["score"]) == pytest.approx(inception_score(scores, splits=4).score, rel=1e-10)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_probabilities_are_taken_as_such_and_reset_forgets():
    scores = 2 * normal(30, 5, seed=5)
    metric = InceptionScore(5, probabilities=True)
    metric.update(scores.softmax(1))
    assert float(metric.compute()["score"]) == pytest.approx(inception_score(scores).score, rel=1e-12)
    metric.reset()
    with pytest.raises(ValueError, match="there are 0 samples"):
        metric.compute()


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_is_refused_by_name():
    features = torch.zeros(4, 7)
    for wrong, message in [
        (lambda: InceptionScore(6).update(features), r"\(n, 6\) is accepted"),
        (lambda: InceptionScore(6, splits=0), "splits is 0"),
        (lambda: ConditionalAccuracy(0), "classes is 0"),
        (lambda: ConditionalAccuracy(6).update(features, torch.zeros(4).long()), "classes is 6 and there are 7 scores"),
        (lambda: ConditionalAccuracy(6).compute(), "no samples"),
        (lambda: BitsPerDim(3, scale=-1.0), r"scale is -1\.0"),
        (lambda: BitsPerDim(3).compute(), "there are 0"),
        (lambda: SlicedWasserstein(SLICES).update(features, real=True), r"\(n, 6\) is accepted"),
        (lambda: SlicedWasserstein(SLICES).compute(), "0 and 0 samples"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()

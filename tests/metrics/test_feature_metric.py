"""The metric that keeps features: any split into batches, shards and ranks gives what one pass gives."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from metrics.samples.energy import energy_distance
from metrics.samples.extrapolation import fd_infinity
from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.kernel import KidSubsets, cmmd, kid, kid_subsets
from metrics.streams.features import FeatureMetric, in_order
from tests.exact import normal
from tests.metrics.gloo import on_ranks


class Two(NamedTuple):
    apart: float
    first: float


def first_rows(x: Tensor, y: Tensor, *, rows: int = 3, scale: float = 1.0) -> Two:
    """Depends on the order of the rows, as a function that draws some of them does."""
    apart = (x[:rows].sum(0) - y[:rows].sum(0)).norm()
    return Two(scale * float(apart), float(x[0, 0]))


def subsets(x: Tensor, y: Tensor) -> KidSubsets:
    return kid_subsets(x, y, subsets=5, size=20)


FUNCTIONS = [first_rows, frechet_distance_from_features, fd_infinity, kid, subsets, cmmd, energy_distance]


def values(metric: FeatureMetric) -> list[float]:
    found = metric.compute()
    return [float(value) for value in (found.values() if isinstance(found, dict) else [found])]


def split_over_ranks(
    rank: int, function, x: Tensor, y: Tensor, shares: list[tuple[list[int], list[int]]]
) -> list[float]:
    """Each rank sees the batches of its share, given as row counts from the front; the ranks before it saw theirs."""
    metric = FeatureMetric(function)
    for side, features in enumerate((x, y)):
        at = sum(sum(share[side]) for share in shares[:rank])
        for n in shares[rank][side]:
            metric.update(features[at : at + n], real=side == 0)
            at += n
    found = values(metric)
    metric.reset()
    return found


# Row counts of the batches of x and y on both ranks: uneven ones, a rank without y, a rank without anything.
SHARES = [
    [([7, 1], [20]), ([32], [1, 4, 25])],
    [([40], []), ([], [50])],
    [([], []), ([13, 27], [50])],
]


def test_ranks_equal_a_single_pass():
    x, y = normal(40, 5), normal(50, 5, seed=1)
    truth = [[in_one_pass(function, x, y)] * len(SHARES) for function in FUNCTIONS]
    for found in on_ranks(every_split, FUNCTIONS, x, y):
        assert found == truth  # to the bit: the rows are the same, in one order


def in_one_pass(function, x: Tensor, y: Tensor) -> list[float]:
    metric = FeatureMetric(function)
    metric.update(x, real=True)
    metric.update(y, real=False)
    return values(metric)


def every_split(rank: int, functions, *features: Tensor) -> list[list[list[float]]]:
    return [[split_over_ranks(rank, function, *features, shares) for shares in SHARES] for function in functions]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_batches_and_merged_shards_equal_a_single_pass(function):
    x, y = normal(40, 5), normal(50, 5, seed=1)
    parts = [FeatureMetric(function) for _ in range(3)]
    for i, batch in enumerate(x.split(11)):
        parts[i % 2].update(batch, real=True)
    parts[2].update(y, real=False)
    for part in parts[1:]:
        parts[0].merge_state(part)
    assert values(parts[0]) == in_one_pass(function, x, y)
    found = parts[0].compute()
    assert {v.dtype for v in (found.values() if isinstance(found, dict) else [found])} == {torch.float64}


def test_the_function_gets_its_options_and_every_digit():
    x, y = normal(20, 5), normal(20, 5, seed=1)
    metric = FeatureMetric(first_rows, rows=20, scale=3.0, sync_on_compute=False)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert not metric.sync_on_compute
    expected = first_rows(x, y, rows=20, scale=3.0)
    assert values(metric)[0] == pytest.approx(expected.apart, rel=1e-13)  # a sum in another order
    assert in_one_pass(frechet_distance_from_features, x.float(), y) == pytest.approx(
        [frechet_distance_from_features(x.float().double(), y)], rel=1e-12
    )
    with pytest.raises(TypeError, match="colour"):
        FeatureMetric(first_rows, colour="red")


@pytest.mark.parametrize("kind", ["normal", "float32", "counts", "one feature"])
def test_the_order_depends_on_the_rows_alone(kind: str):
    """Also for features whose low bits are all 0."""
    x = {
        "normal": normal(5000, 5), "float32": normal(5000, 5).float().double(),
        "counts": normal(5000, 5).mul(4).round(),
        "one feature": torch.arange(5000).double()[:, None],
    }[kind]  # fmt: skip
    ordered = in_order(x)
    shuffled = in_order(x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))])
    assert torch.equal(ordered, shuffled)
    assert not torch.equal(ordered, x)
    assert torch.equal(ordered.sort(0).values, x.sort(0).values)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    metric = FeatureMetric(first_rows)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        metric.update(torch.zeros(5), real=True)
    with pytest.raises(ValueError, match="1 of 2 rows of features are not finite"):
        metric.update(torch.tensor([[0.0, 1], [torch.nan, 1]]), real=True)
    metric.update(normal(4, 5), real=True)
    with pytest.raises(ValueError, match=r"\(4, 6\); \(n, 5\) is accepted"):
        metric.update(normal(4, 6), real=False)
    with pytest.raises(ValueError, match="no features of the fake side"):
        metric.compute()

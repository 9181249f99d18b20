"""Copies are found, independent samples are not: C_T, authenticity and the nearest-neighbour ratio."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from metrics import FeatureMetric, authenticity, bootstrap, data_copying, floor, nearest_neighbour_ratio
from metrics.samples.cells import cell_of, k_means
from tests.exact import normal


@pytest.fixture
def train() -> Tensor:
    """Three clusters of 100."""
    return torch.cat([normal(100, 6, seed=s) + 8.0 * s for s in range(3)])


def independent(seed: int, n: int = 60) -> Tensor:
    return torch.cat([normal(n, 6, seed=seed + s) + 8.0 * s for s in range(3)])


def test_double_loop():
    x, y = normal(30, 3), torch.cat([normal(20, 3, seed=1), normal(5, 3) + 0.01])
    apart = [[math.dist(a, b) for b in x.tolist()] for a in y.tolist()]
    among = [min(math.dist(a, b) for j, b in enumerate(x.tolist()) if j != i) for i, a in enumerate(x.tolist())]
    authentic = [among[row.index(min(row))] < min(row) for row in apart]
    assert authenticity(x, y) == sum(authentic) / len(y)
    ratios = [sorted(row)[0] / sorted(row)[1] for row in apart]
    found = nearest_neighbour_ratio(x, y, threshold=0.4)
    assert found.mean == pytest.approx(sum(ratios) / len(y), rel=1e-12)
    assert found.memorised == sum(ratio < 0.4 for ratio in ratios) / len(y)


def test_statistic_is_the_weighted_rank_score_of_the_cells(train: Tensor):
    """Against SciPy's U, with the cells known: the clusters are far apart."""
    generated, test = (
        independent(10, 40),
        torch.cat([normal(50, 6, seed=20), normal(30, 6, seed=21) + 8.0, normal(20, 6, seed=22) + 16.0]),
    )
    generated = torch.cat([generated, train[:30]])  # ties at 0 within the first cell
    found = data_copying(train, generated, test=test)
    total = 0.0
    for centre, share in ((0.0, 0.5), (8.0, 0.3), (16.0, 0.2)):
        inside = [x[(x.mean(1) - centre).abs() < 4] for x in (generated, test, train)]
        to_train = [torch.cdist(x, inside[2], compute_mode="donot_use_mm_for_euclid_dist").amin(1) for x in inside[:2]]
        m, n = len(inside[0]), len(inside[1])
        u = scipy.stats.mannwhitneyu(*(distances.numpy() for distances in to_train)).statistic
        total += share * (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)
    assert found.statistic == pytest.approx(total, rel=1e-12)
    assert found.null_deviation == pytest.approx(math.sqrt(0.5**2 + 0.3**2 + 0.2**2), rel=1e-12)
    assert found.used == pytest.approx(1)


def test_null_has_the_stated_deviation(train: Tensor):
    """Over 50 pairs of independent sets: mean within four standard errors, deviation within three, 30 %."""
    found = [data_copying(train, independent(100 + 6 * s), test=independent(103 + 6 * s)) for s in range(50)]
    values = torch.tensor([each.statistic for each in found])
    deviation = found[0].null_deviation
    assert abs(float(values.mean())) < 4 * deviation / 50**0.5
    assert float(values.std()) == pytest.approx(deviation, rel=0.3)


def test_copies_are_found(train: Tensor):
    test, fresh = independent(30), independent(40)
    noise = 1e-3 * normal(300, 6, seed=50)
    assert abs(data_copying(train, fresh, test=test).statistic) < 3
    assert data_copying(train, train, test=test).statistic < -8
    assert data_copying(train, train + noise, test=test).statistic < -8
    assert data_copying(train, fresh + 3 * normal(180, 6, seed=51), test=test).statistic > 5  # far from any
    assert authenticity(train, train) == 0
    assert authenticity(train, train + noise) == 0
    assert authenticity(train, fresh) > 0.3
    assert nearest_neighbour_ratio(train, train + noise).memorised == 1
    assert nearest_neighbour_ratio(train, fresh).memorised < 0.05


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_memorised_share_is_measured(train: Tensor, share: float):
    fresh, copies = independent(40), train[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    mixed = torch.cat([fresh[: round(180 * (1 - share))], copies[: round(180 * share)] + 1e-4])
    beside = nearest_neighbour_ratio(train, fresh).memorised
    assert nearest_neighbour_ratio(train, mixed).memorised == pytest.approx(share, abs=beside + 0.01)
    assert authenticity(train, mixed) < authenticity(train, fresh)


def test_an_exact_copy_of_a_doubled_image_is_seen():
    """Both neighbours are at 0; a near copy of it is hidden, as the docstring warns."""
    doubled = torch.cat([normal(20, 6), normal(20, 6)])
    assert nearest_neighbour_ratio(doubled, normal(20, 6)) == (0, 1)
    assert nearest_neighbour_ratio(doubled, normal(20, 6) + 1e-6).memorised == 0


def test_permutation_changes_nothing_and_seeds_repeat(train: Tensor):
    fresh, test = independent(40), independent(30)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    assert authenticity(train[order], fresh.flip(0)) == authenticity(train, fresh)
    a, b = nearest_neighbour_ratio(train[order], fresh.flip(0)), nearest_neighbour_ratio(train, fresh)
    assert (a.memorised, a.mean) == (b.memorised, pytest.approx(b.mean, rel=1e-13))  # a sum in another order
    found = data_copying(train, fresh, test=test)
    assert data_copying(train, fresh, test=test) == found
    assert data_copying(train[order], fresh.flip(0), test=test).statistic == pytest.approx(found.statistic, rel=1e-9)


def test_cells_components_and_minimum_do_something(train: Tensor):
    fresh, test = independent(40), independent(30)
    found = data_copying(train, fresh, test=test)
    assert data_copying(train, fresh, test=test, cells=1) != found
    assert data_copying(train, fresh, test=test, cells=5, seed=0) != data_copying(
        train, fresh, test=test, cells=5, seed=1
    )
    assert data_copying(train, fresh, test=test, components=2) != found
    assert data_copying(train, fresh, test=test, components=None) == found  # 6 features are few enough
    lopsided = torch.cat([fresh, normal(60, 6, seed=60)])  # 120, 60 and 60 in the cells
    assert data_copying(train, lopsided, test=test, minimum=60).used == pytest.approx(1 / 3)
    assert data_copying(train, lopsided, test=test, minimum=59).used == pytest.approx(1)


def test_components_are_those_of_most_variance():
    """Noise features of little variance are dropped, whatever there are of them."""
    signal = [normal(100, 2, seed=s) for s in range(3)]
    wide = [torch.cat([x, 1e-9 * normal(100, 80, seed=3 + s)], 1) for s, x in enumerate(signal)]
    two = {"cells": 2, "components": 2, "minimum": 0}
    narrow = data_copying(signal[0], signal[1], test=signal[2], **two)
    assert data_copying(wide[0], wide[1], test=wide[2], **two).statistic == pytest.approx(narrow.statistic, abs=1e-6)


def test_k_means_finds_clusters_and_stays_where_it_is(train: Tensor):
    centres = k_means(train, 3, seed=4)
    truth = torch.stack([train[100 * i : 100 * (i + 1)].mean(0) for i in range(3)])
    assert torch.cdist(centres, truth).amin(0).max() < 1e-12
    assert torch.bincount(cell_of(train, centres)).tolist() == [100, 100, 100]
    assert torch.equal(k_means(train, 7, seed=1), k_means(train, 7, seed=1))
    cost = [float((train - c[cell_of(train, c)]).square().sum()) for c in (k_means(train, k) for k in (1, 2, 3, 6))]
    assert cost == sorted(cost, reverse=True)


def test_interval_and_floor(train: Tensor):
    fresh = independent(40)
    low, high = bootstrap(authenticity, train, fresh, resamples=50)
    assert low < authenticity(train, fresh) < high
    reached = floor(authenticity, train, 100, draws=10)
    assert 0 < reached.low <= reached.mean <= reached.high < 1


def test_as_a_metric_in_batches(train: Tensor):
    fresh, test = independent(40), independent(30)
    copying = FeatureMetric(data_copying, test=test, cells=3)
    ratio = FeatureMetric(nearest_neighbour_ratio, threshold=0.5)
    for metric in (copying, ratio):
        for batch in train.split(77):
            metric.update(batch, real=True)
        for batch in fresh.split(50):
            metric.update(batch, real=False)
    expected = data_copying(train, fresh, test=test, cells=3)
    found = copying.compute()["statistic"]
    assert float(found) == pytest.approx(
        expected.statistic, rel=1e-9
    )  # k-means starts elsewhere, the cells are the same
    memorised = nearest_neighbour_ratio(train, fresh, threshold=0.5).memorised
    assert float(ratio.compute()["memorised"]) == memorised


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name(train: Tensor):
    fresh, test = independent(40), independent(30)
    with pytest.raises(ValueError, match=r"cell \d of 3 has 100 training and 0 test samples"):
        data_copying(train, fresh, test=test[:60])
    with pytest.raises(ValueError, match="no cell has more than 500 of the 180"):
        data_copying(train, fresh, test=test, minimum=500)
    with pytest.raises(ValueError, match="cells is 0"):
        data_copying(train, fresh, test=test, cells=0)
    with pytest.raises(ValueError, match="1 different points; at least 3"):
        data_copying(torch.zeros(50, 6), fresh, test=test)
    with pytest.raises(ValueError, match="rows of features are not finite"):
        data_copying(train, fresh * math.nan, test=test)
    with pytest.raises(ValueError, match=r"features have the shapes \(180, 5\) and"):
        data_copying(train, fresh[:, :5], test=test)
    with pytest.raises(ValueError, match="threshold is 0"):
        nearest_neighbour_ratio(train, fresh, threshold=0)
    with pytest.raises(ValueError, match="k is 2 and there are 1"):
        nearest_neighbour_ratio(train[:1], fresh)
    with pytest.raises(ValueError, match="k is 1 and there are 0"):
        authenticity(train[:1], fresh)

"""Precision, recall, density, coverage: a double loop, and what each of them is there to tell."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metrics import (
    FeatureMetric,
    authenticity,
    bootstrap,
    density_coverage,
    floor,
    prdc,
    precision_recall,
    vendi_scores,
)
from tests.exact import normal
from tests.metrics.gloo import on_ranks

ROOT = Path(__file__).parent.parent.parent


def naive(real: list[list[float]], fake: list[list[float]], k: int, closed: bool) -> dict[str, float]:
    """By the papers' definitions, one pair at a time."""

    def radius(points: list[list[float]], i: int) -> float:
        return sorted(math.dist(points[i], point) for j, point in enumerate(points) if j != i)[k - 1]

    def holds(centre: list[float], radius: float, point: list[float]) -> bool:
        return math.dist(centre, point) <= radius if closed else math.dist(centre, point) < radius

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    balls = [[holds(x, r, y) for y in fake] for x, r in zip(real, real_radii, strict=True)]
    recalled = [any(holds(y, r, x) for y, r in zip(fake, fake_radii, strict=True)) for x in real]
    return {
        "precision": sum(map(any, zip(*balls, strict=True))) / len(fake),
        "recall": sum(recalled) / len(real),
        "density": sum(map(sum, balls)) / (k * len(fake)),
        "coverage": sum(map(any, balls)) / len(real),
    }


@pytest.mark.parametrize(("n", "m", "d", "k"), [(6, 7, 1, 5), (30, 20, 2, 1), (25, 40, 6, 3)])
def test_double_loop(n: int, m: int, d: int, k: int):
    x, y = normal(n, d), normal(m, d, seed=1) + 0.3
    opened, closed = (naive(x.tolist(), y.tolist(), k, closed) for closed in (False, True))
    found = prdc(x, y, neighbours=k)
    assert found._asdict() == pytest.approx(opened, abs=1e-15)  # whole counts over whole numbers
    both = density_coverage(x, y, neighbours=k)
    assert (both.density, both.coverage) == (found.density, found.coverage)
    assert precision_recall(x, y, school="prdc", neighbours=k) == (found.precision, found.recall)
    ours = precision_recall(x, y, neighbours=k)
    assert ours._asdict() == pytest.approx({name: closed[name] for name in ("precision", "recall")}, abs=1e-15)


def test_the_schools_differ_in_neighbours_and_at_the_boundary():
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    beside = grid + torch.tensor([6.0, 0.0])  # its first column is 1 from the last of the grid, as 2nd neighbours are
    assert precision_recall(grid, beside, neighbours=2) == (1 / 6, 1 / 6)
    assert precision_recall(grid, beside, school="prdc", neighbours=2) == (0, 0)
    x, y = normal(200, 8), normal(200, 8, seed=1) + 0.5
    assert precision_recall(x, y) == precision_recall(x, y, school="kynkaanniemi", neighbours=3)
    assert precision_recall(x, y, school="prdc") == precision_recall(x, y, school="prdc", neighbours=5)
    assert precision_recall(x, y) != precision_recall(x, y, school="prdc")


def test_a_set_against_itself():
    x = normal(100, 8)
    assert prdc(x, x) == (1, 1, 1, 1)  # of the 5 + 1 points within the closed ball one is the boundary
    assert precision_recall(x, x) == (1, 1)


def test_a_dropped_mode_costs_recall_and_coverage_and_no_precision():
    real = torch.cat([normal(300, 8), normal(300, 8, seed=1) + 20])
    whole = prdc(real, torch.cat([normal(300, 8, seed=2), normal(300, 8, seed=3) + 20]))
    half = prdc(real, normal(600, 8, seed=2))
    assert half.recall < 0.6 * whole.recall
    assert half.coverage < 0.6 * whole.coverage
    assert half.precision > 0.9 * whole.precision


def test_an_outlier_among_the_real_fools_precision_and_not_density():
    """Its ball is wide and holds samples far from the data: for precision one ball is enough (2002.09797, sec. 3)."""
    real, fake = normal(200, 8), normal(200, 8, seed=1) + 4.0
    spoilt = torch.cat([real, torch.full((1, 8), 9.0).double()])
    clean, fooled = prdc(real, fake), prdc(spoilt, fake)
    assert clean.precision < 0.1
    assert fooled.precision > 0.9
    assert fooled.density < 0.3


def test_permutation_rotation_and_scale_change_nothing():
    x, y = normal(120, 8), normal(90, 8, seed=1) + 0.3
    found = prdc(x, y)
    rotation = torch.linalg.qr(normal(8, 8, seed=2)).Q
    assert prdc(x[torch.randperm(120)], y[torch.randperm(90)]) == found
    assert prdc(x @ rotation + 1000, y @ rotation + 1000) == found
    assert prdc(7 * x, 7 * y) == found


def test_samples_are_drawn_from_the_seed():
    x, y = normal(120, 8), normal(90, 8, seed=1) + 0.3
    found = prdc(x, y, samples=50, seed=3)
    assert found == prdc(x, y, samples=50, seed=3)
    assert found != prdc(x, y, samples=50, seed=4)
    assert prdc(x, y, samples=120, seed=4) == prdc(x, y)  # a shuffle
    assert all(float(share * 50).is_integer() for share in (found.precision, found.recall, found.coverage))
    assert precision_recall(x, y, school="prdc", samples=50, seed=3) == (found.precision, found.recall)
    assert density_coverage(x, y, samples=50, seed=3) == (found.density, found.coverage)


def test_interval_by_halves_and_floor():
    """Over 60 fresh pairs the value's deviation is that which halves of one pair show, within a factor of 2."""

    def coverage(x: Tensor, y: Tensor) -> float:
        return prdc(x, y).coverage

    fresh = torch.tensor(
        [coverage(normal(150, 8, seed=2 * s), normal(150, 8, seed=2 * s + 1) + 0.3) for s in range(60)]
    )
    x, y = normal(150, 8, seed=998), normal(150, 8, seed=999) + 0.3
    low, high = bootstrap(coverage, x, y, resamples=60)
    assert low <= coverage(x, y) <= high
    assert 0.5 < (high - low) / (2 * 1.96 * float(fresh.std())) < 2
    reached = floor(coverage, normal(900, 8, seed=5), 150)
    assert reached.low <= reached.mean <= reached.high
    assert reached.mean > coverage(x, y)


def test_rows_drawn_twice_break_the_radii():
    """Why intervals come from halves: with replacement the mean is off by more than the interval is wide."""

    def coverage(x: Tensor, y: Tensor) -> float:
        return prdc(x, y).coverage

    x, y = normal(150, 8), normal(150, 8, seed=1)
    low, high = bootstrap(coverage, x, y, resamples=40, kind="percentile")
    assert not low <= coverage(x, y) <= high


SHARES = [[([7, 1], [20]), ([32], [1, 4, 25])], [([40], []), ([], [50])]]


FUNCTIONS = [(prdc, {"neighbours": 3}), (authenticity, {}), (vendi_scores, {"order": 2.0})]


def on_a_rank(rank: int, x: Tensor, y: Tensor) -> list[list[float]]:
    found = []
    for (function, options), shares in itertools.product(FUNCTIONS, SHARES):
        metric = FeatureMetric(function, **options)
        for side, features in enumerate((x, y)):
            at = sum(sum(share[side]) for share in shares[:rank])
            for n in shares[rank][side]:
                metric.update(features[at : at + n], real=side == 0)
                at += n
        value = metric.compute()
        found.append([float(each) for each in (value.values() if isinstance(value, dict) else [value])])
    return found


def test_as_metrics_over_two_ranks():
    x, y = normal(40, 8), normal(50, 8, seed=1) + 0.3
    truth = [function(x, y, **options) for function, options in FUNCTIONS for _ in SHARES]
    for found in on_ranks(on_a_rank, x, y):
        for values, expected in zip(found, truth, strict=True):
            assert values == pytest.approx(list(expected) if isinstance(expected, tuple) else [expected], rel=1e-12)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 8)
    for k in (0, 5, 9):
        with pytest.raises(ValueError, match=f"neighbours is {k} and there are 5 real and 20 generated"):
            prdc(x, normal(20, 8), neighbours=k)
    with pytest.raises(ValueError, match="neighbours is 3 and there are 3 real and 3 generated"):
        precision_recall(x, x, samples=3)
    with pytest.raises(ValueError, match="school is 'best'"):
        precision_recall(x, x, school="best")
    with pytest.raises(ValueError, match="samples is 0"):
        prdc(x, x, samples=0)
    with pytest.raises(ValueError, match="1 of 5 rows of features are not finite"):
        prdc(x, x * torch.tensor([1, 1, math.inf, 1, 1])[:, None], neighbours=2)
    with pytest.raises(ValueError, match=r"\(5, 8\) and \(5, 7\)"):
        density_coverage(x, normal(5, 7))


MEMORY = """
import resource, torch
from metrics import prdc
x, y = torch.randn(2, 12000, 16, generator=torch.Generator().manual_seed(0))
prdc(x[:100], y[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prdc(x, y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_matrix_of_all_distances_is_held():
    """In float32 one would be 549 MiB, and the package prdc holds several in float64."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(run.stdout) < 256 * 1024  # KiB: a block and its flags, and what the allocator keeps

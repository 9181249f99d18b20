"""Nearest neighbours and counts within balls against a full matrix of differences, to the bit, where rounding bites."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metrics.samples import neighbours
from metrics.samples.neighbours import count_inside, find_nearest, round_root

KINDS = (
    "normal", "grid", "copies", "doubled", "clusters", "tight clusters", "offset", "huge", "tiny", "outlier",
    "one point", "one hot",
)  # fmt: skip


def pair(kind: str, n: int, m: int, d: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, d, generator=generator, dtype=torch.float64)

    x, y = normal(n), normal(m)
    clusters = [10.0 * torch.randint(3, (rows, 1), generator=generator) for rows in (n, m)]
    x, y = {
        "normal": (x, y),
        "grid": (x.round(), y.round()),
        "copies": (x, torch.cat([x[: n // 2], y])),
        "doubled": (x.repeat(2, 1), x.repeat(3, 1)),
        "clusters": (1e-3 * x + clusters[0], 1e-3 * y + clusters[1]),
        "tight clusters": (1e-6 * x + clusters[0], 1e-6 * y + clusters[1]),
        "offset": (x + 1e3, y + 1e3),
        "huge": (1e15 * x, 1e15 * y),
        "tiny": (1e-15 * x, 1e-15 * y),
        "outlier": (x, torch.cat([1e9 * y[:1], y[1:]])),
        "one point": (0 * x, 0 * y),
        "one hot": (torch.eye(n).double(), torch.eye(n).double()),
    }[kind]
    return x.to(dtype), y.to(dtype)


def squares(x: Tensor, y: Tensor) -> Tensor:
    return (x.double()[:, None] - y.double()[None]).square().sum(2)


def root(square: Tensor, dtype: torch.dtype) -> Tensor:
    """NumPy's, which is rounded to nearest where torch's is not."""
    return torch.from_numpy(np.sqrt(square.to(dtype).numpy()))


def check(x: Tensor, y: Tensor, k: int):
    for queries, reference, alone in ((x, y, False), (x, x, True), (y, y, True)):
        truth = squares(queries, reference)
        if alone:
            truth.fill_diagonal_(torch.inf)
        ordered = truth.sort(dim=1, stable=True)
        found = find_nearest(queries, reference, k, exclude_self=alone)
        assert torch.equal(found.distances, root(ordered.values[:, :k], x.dtype))
        assert torch.equal(found.rows, ordered.indices[:, :k])
    x_radii, y_radii = (find_nearest(z, z, k, exclude_self=True).distances[:, -1] for z in (x, y))
    distances = root(squares(x, y), x.dtype)
    for closed, compare in ((True, torch.le), (False, torch.lt)):
        around_x, around_y = count_inside(x, y, x_radii=x_radii, y_radii=y_radii, closed=closed)
        within_x, within_y = compare(distances, x_radii[:, None]), compare(distances, y_radii)
        assert torch.equal(around_x.balls, within_x.sum(1))
        assert torch.equal(around_x.points, within_x.sum(0))
        assert torch.equal(around_y.balls, within_y.sum(0))
        assert torch.equal(around_y.points, within_y.sum(1))


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_a_full_matrix_of_differences(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """In blocks of any size: pairs that float32 settles, pairs it cannot, and ties."""
    for rows, columns in ((1024, 4096), (16, 64), (7, 11)):
        monkeypatch.setattr(neighbours, "ROWS", rows)
        monkeypatch.setattr(neighbours, "COLUMNS", columns)
        for seed, (n, m, d, k) in enumerate([(4, 4, 1, 1), (6, 9, 2, 3), (40, 30, 33, 3), (30, 130, 8, 2)]):
            check(*pair(kind, n, m, d, seed, dtype), k)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(2, 40), m=st.integers(2, 40), d=st.integers(1, 20), seed=st.integers(0, 99), data=st.data())
def test_equals_a_full_matrix_at_every_size(n: int, m: int, d: int, seed: int, data: st.DataObject):
    check(*pair("normal", n, m, d, seed, torch.float32), data.draw(st.integers(1, min(n, m) - 1)))


@pytest.mark.parametrize("kind", ["normal", "clusters"])
def test_most_pairs_are_settled_without_their_differences(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Speed rests on it: the 5 nearest and little more. Float64 settles of the clusters what float32 cannot."""
    taken, exact = [], neighbours._Pairs.squares
    monkeypatch.setattr(neighbours._Pairs, "squares", lambda self, i, j: taken.append(len(i)) or exact(self, i, j))
    x, y = pair(kind, 1500, 1500, 64, 0, torch.float64)
    radii = find_nearest(x, x, 5, exclude_self=True).distances[:, -1]
    assert sum(taken) < 10 * len(x)
    taken.clear()
    count_inside(x, y, x_radii=radii, y_radii=radii, closed=False)
    assert sum(taken) < len(x)


def test_bounds_hold_for_every_pair_in_both_dtypes():
    for kind in ("normal", "tight clusters", "offset", "outlier"):
        x, y = pair(kind, 60, 70, 512, 1, torch.float64)
        pairs = neighbours._Pairs(x, y)
        truth = squares(x, y) * pairs.scale**2
        for dtype in (torch.float32, torch.float64):
            block = pairs.block(range(60), range(70), dtype)
            scores = block.scores.double()
            rounding = 1e-15 * truth  # of this test's own sums
            assert bool((scores + block.low <= truth + rounding).all())
            assert bool((scores + block.high + block.wide >= truth - rounding).all())


def test_lower_precision_of_products_is_not_trusted():
    x, y = pair("normal", 300, 300, 64, 2, torch.float32)
    before = torch.get_float32_matmul_precision()
    truth = find_nearest(x, y, 3)
    torch.set_float32_matmul_precision("medium")
    try:
        found = find_nearest(x, y, 3)
        assert neighbours._Pairs(x, y).first == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.distances, truth.distances)
    assert torch.equal(found.rows, truth.rows)


def test_permutation_and_mixed_dtypes():
    x, y = pair("normal", 50, 60, 7, 3, torch.float32)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found, shuffled = find_nearest(x, y, 4), find_nearest(x, y[order], 4)
    assert torch.equal(found.distances, shuffled.distances)
    assert torch.equal(found.rows, order[shuffled.rows])
    mixed = find_nearest(x, y.double(), 4)
    assert mixed.distances.dtype == torch.float64
    assert torch.equal(mixed.distances.float(), find_nearest(x.double(), y.double(), 4).distances.float())
    assert find_nearest(x.half(), y.half(), 4).distances.dtype == torch.float32


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 4\)"):
        find_nearest(x, torch.zeros(5, 4), 1)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        find_nearest(torch.zeros(5), x, 1)
    with pytest.raises(ValueError, match="5 of 5 rows of features are not finite"):
        find_nearest(x, x + math.nan, 1)
    with pytest.raises(ValueError, match="k is 5 and there are 4 neighbours"):
        find_nearest(x, x, 5, exclude_self=True)
    with pytest.raises(ValueError, match="k is 0"):
        find_nearest(x, x, 0)
    with pytest.raises(ValueError, match="5 queries and 6 rows"):
        find_nearest(x, torch.zeros(6, 3), 1, exclude_self=True)


def test_roots_are_rounded_as_numpys_are():
    squares = 2000 * torch.rand(100_003, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        expected = np.sqrt(squares.to(dtype).numpy())
        assert (round_root(squares, dtype).numpy() == expected).all()

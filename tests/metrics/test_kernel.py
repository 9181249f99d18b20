"""Kernel and energy distances against double loops, closed forms, and their own errors against repeated draws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

import metrics.samples.energy as energy
import metrics.samples.kernel as kernels
from metrics.samples.energy import energy_distance
from metrics.samples.kernel import cmmd, kid, kid_subsets, maximum_mean_discrepancy, polynomial_kernel
from tests.exact import normal


def cubic(a: Tensor, b: Tensor) -> float:
    return (sum(p * q for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a) + 1) ** 3


def gaussian(a: Tensor, b: Tensor) -> float:
    return math.exp(-(math.dist(a.tolist(), b.tolist()) ** 2) / 200)


def negative_distance(a: Tensor, b: Tensor) -> float:
    return -math.dist(a.tolist(), b.tolist())


def by_loops(x: Tensor, y: Tensor, kernel, unbiased: bool) -> float:
    """Term by term as it is defined."""

    def within(z: Tensor) -> float:
        pairs = itertools.permutations(z, 2) if unbiased else itertools.product(z, z)
        return math.fsum(kernel(a, b) for a, b in pairs) / (len(z) * (len(z) - unbiased))

    across = math.fsum(kernel(a, b) for a, b in itertools.product(x, y)) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


DISTANCES = {
    "kid": (kid, cubic, True, 1),
    "cmmd": (cmmd, gaussian, False, 1000),
    "energy": (energy_distance, negative_distance, True, 1),
    "energy, V": (lambda x, y: energy_distance(x, y, unbiased=False), negative_distance, False, 1),
}


@pytest.mark.parametrize("shift", [0.0, 30.0])
@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 4), (9, 70, 1), (40, 40, 3)])
@pytest.mark.usefixtures("block")
def test_kid_by_moments_is_kid_by_pairs(monkeypatch, n, m, d, shift):
    """The value and its error, from as few rows as one likes; ``dtype`` is that of features as they come."""
    x, y = (normal(n, d) + shift).float(), normal(m, d, seed=1) + shift + 0.3
    expected = maximum_mean_discrepancy(x, y, polynomial_kernel)
    size = float(polynomial_kernel(x.double(), y).abs().mean())  # terms of this size cancel
    calls = []
    monkeypatch.setattr(kernels, "maximum_mean_discrepancy", lambda *sides: calls.append(1) or expected)
    for rows_per_square, pairs in ((0, 0), (10**6, 1)):
        monkeypatch.setattr(kernels, "MANY", rows_per_square)
        found = kid(x, y)
        assert len(calls) == pairs
        assert found.value == pytest.approx(expected.value, rel=1e-9, abs=1e-12 * size)
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9, abs=1e-12 * size)


def test_many_rows_of_few_features_are_summed_by_moments(monkeypatch):
    monkeypatch.setattr(kernels, "polynomial_kernel", None)
    assert abs(kid(normal(30_000, 5), normal(20_000, 5, seed=1)).value) < 0.01  # pairs would take seconds


@pytest.fixture(params=[3, 2048], ids="blocks of {}".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", request.param)


@pytest.mark.parametrize("shift", [0.0, 30.0])
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.usefixtures("block")
def test_equals_a_double_loop(name: str, shift: float):
    """Also at a mean far from 0, with repeated rows, and rows that both sides share."""
    distance, kernel, unbiased, scale = DISTANCES[name]
    x, y = normal(10, 6) + shift, normal(7, 6, seed=1) + shift + 0.3
    x[4], y[2], y[3] = x[1], x[0], x[0] + 1e-7
    truth = scale * by_loops(x, y, kernel, unbiased)
    size = scale * abs(sum(kernel(a, b) for a in x for b in y)) / 70  # terms of this size cancel
    assert float(distance(x, y)) == pytest.approx(truth, rel=1e-10, abs=1e-12 * size)


@pytest.mark.parametrize("name", DISTANCES)
def test_error_is_that_of_leaving_out_a_row(name: str):
    """The closed form of the jackknife against itself done by hand."""
    distance, _, _, _ = DISTANCES[name]
    x, y = normal(9, 6), normal(6, 6, seed=1) + 0.5
    variance = 0.0
    for rows, others, swap in ((x, y, False), (y, x, True)):
        left = [torch.cat([rows[:i], rows[i + 1 :]]) for i in range(len(rows))]
        values = [float(distance(others, part) if swap else distance(part, others)) for part in left]
        variance += (len(rows) - 1) * float(torch.tensor(values, dtype=torch.float64).var(correction=0))
    assert distance(x, y).standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("name", DISTANCES)
def test_error_is_the_deviation_over_draws(name: str, shift: float):
    """Between it and sqrt 2 of it, give or take the 5 % that a deviation over 200 draws has, three times."""
    distance, _, _, _ = DISTANCES[name]
    found = [distance(normal(60, 6, seed=s), normal(80, 6, seed=1000 + s) + shift) for s in range(200)]
    spread = torch.tensor([f.value for f in found]).std()
    error = torch.tensor([f.standard_error for f in found]).square().mean().sqrt()
    assert 0.85 < error / spread < 1.15 * math.sqrt(2)


def test_unbiased_ones_have_mean_zero_at_equal_distributions_and_v_statistics_their_bias():
    n, m, seeds = 20, 30, 300
    pairs = [(normal(n, 6, seed=s), normal(m, 6, seed=1000 + s)) for s in range(seeds)]
    for distance in (kid, energy_distance):
        values = torch.tensor([float(distance(x, y)) for x, y in pairs])
        assert abs(values.mean()) < 4 * values.std() / math.sqrt(seeds)
        assert (values < 0).any()
    squared = torch.tensor([float(cmmd(x, y)) for x, y in pairs])
    assert (squared >= 0).all()
    # E exp(-|x - x'|² / 200) with |x - x'|² / 2 chi-squared of 6 degrees: (1 + 2 / 100)^(-6 / 2)
    bias = 1000 * (1 - 1.02**-3) * (1 / n + 1 / m)
    assert float(squared.mean()) == pytest.approx(bias, abs=4 * float(squared.std()) / math.sqrt(seeds))


def test_mean_shift_has_a_closed_form():
    """At a linear kernel, MMD² of the V-statistic is |mean x - mean y|²."""
    x, y = normal(30, 6), normal(20, 6, seed=1) + 1.0
    found = maximum_mean_discrepancy(x, y, lambda a, b: a @ b.mT, unbiased=False)
    assert found.value == pytest.approx(float((x.mean(0) - y.mean(0)).square().sum()), rel=1e-12)


def test_energy_in_one_dimension_is_the_square_of_scipys():
    x, y = normal(40, 1), normal(23, 1, seed=1) + 0.4
    peer = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert float(energy_distance(x, y, unbiased=False)) == pytest.approx(peer**2, rel=1e-10)


def test_close_pairs_are_done_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_AT_ONCE", 20)
    x = normal(9, 6) + 100.0
    assert torch.equal(energy.distances(x, x).diagonal(), torch.zeros(9).double())
    shifted = energy.distances(x, x + 1e-8).diagonal()
    # 1e-8 itself is rounded at 100: 1.4e-14
    torch.testing.assert_close(shifted, torch.full((9,), 1e-8 * math.sqrt(6)).double(), rtol=1e-5, atol=0)


def test_symmetric_and_blind_to_the_order_of_rows():
    x, y = normal(30, 6), normal(20, 6, seed=1) + 0.5
    for distance, _, _, _ in DISTANCES.values():
        found = distance(x, y)
        assert distance(y, x) == pytest.approx(found, rel=1e-11)
        assert distance(x.flip(0), y) == pytest.approx(found, rel=1e-11)


def test_subsets_are_seeded_and_average_to_the_whole():
    x, y = normal(300, 6), normal(200, 6, seed=1) + 0.3
    found = kid_subsets(x, y, size=50, seed=3)
    assert kid_subsets(x, y, size=50, seed=3) == found
    assert kid_subsets(x, y, size=50, seed=4) != found
    assert float(found) == found.mean
    # Unbiased subsets have the whole's value for their mean: four of its deviations over 100 subsets.
    assert found.mean == pytest.approx(float(kid(x, y)), abs=4 * found.std / 10)
    few = kid_subsets(x, y, size=50, subsets=2, seed=3)
    assert few.mean != found.mean
    whole = kid_subsets(x, x[:200], size=200, subsets=1, seed=0)
    assert whole.std == 0


def test_widths_and_scales_matter():
    x, y = normal(30, 6), normal(20, 6, seed=1) + 0.5
    assert float(cmmd(x, y, scale=1.0)) == pytest.approx(float(cmmd(x, y)) / 1000, rel=1e-12)
    # Twice as wide a kernel on features twice as large is the same.
    assert float(cmmd(2 * x, 2 * y, sigma=20.0)) == pytest.approx(float(cmmd(x, y)), rel=1e-9)
    assert math.isnan(kid(x[:2], y[:2]).standard_error)
    assert maximum_mean_discrepancy(x, y, polynomial_kernel, unbiased=False).value > kid(x, y).value


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 6)
    for distance in (kid, cmmd, energy_distance):
        with pytest.raises(ValueError, match=r"\(5, 6\) and \(5, 4\)"):
            distance(x, normal(5, 4))
        with pytest.raises(ValueError, match="1 of 5 rows of features are not finite"):
            distance(x, torch.where(torch.arange(5)[:, None] == 2, torch.inf, x))
        with pytest.raises(ValueError, match="0 and 5 rows"):
            distance(x[:0], x)
    with pytest.raises(ValueError, match="1 and 5 rows of features; at least 2"):
        kid(x[:1], x)
    with pytest.raises(ValueError, match="sigma is 0"):
        cmmd(x, x, sigma=0)
    with pytest.raises(ValueError, match="size is 6 and subsets is 100; 2 to 5 rows"):
        kid_subsets(x, x, size=6)
    with pytest.raises(ValueError, match="subsets is 0"):
        kid_subsets(x, x, size=5, subsets=0)

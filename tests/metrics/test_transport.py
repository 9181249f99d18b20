"""Exact transport against all permutations, a linear programme, closed forms and the bounds that it obeys."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from metrics import FeatureMetric, bootstrap, exact_wasserstein, floor, sliced_wasserstein
from tests.exact import normal


@pytest.mark.parametrize("seed", range(5))
def test_is_the_best_of_all_permutations(seed: int):
    x, y = normal(6, 3, seed=seed), normal(6, 3, seed=seed + 50)
    orders = itertools.permutations(range(6))
    truth = min(math.sqrt(sum(math.dist(x[i], y[j]) ** 2 for i, j in enumerate(order)) / 6) for order in orders)
    assert exact_wasserstein(x, y) == pytest.approx(truth, rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 8), m=st.integers(1, 8), seed=st.integers(0, 99))
def test_unequal_numbers_are_the_linear_programme(n: int, m: int, seed: int):
    x, y = normal(n, 2, seed=seed), normal(m, 2, seed=seed + 100)
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    mass = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    cost = torch.cdist(x, y).square().flatten().numpy()
    truth = math.sqrt(linprog(cost, A_eq=sums, b_eq=mass).fun)
    assert exact_wasserstein(x, y) == pytest.approx(truth, rel=1e-6)  # the programme's own tolerance is 1e-7


def test_in_one_dimension_is_the_sorted_coupling():
    x, y = normal(60, 1), normal(40, 1, seed=1)
    assert exact_wasserstein(x, y) == pytest.approx(sliced_wasserstein(x, y, projections=1), rel=1e-10)


def test_a_shift_is_its_length():
    x, shift = normal(100, 7), normal(1, 7, seed=1)
    assert exact_wasserstein(x, x + shift) == pytest.approx(float(shift.norm()), rel=1e-12)


def test_is_a_distance_of_samples():
    x, y, z = normal(30, 4), 2 * normal(30, 4, seed=1), normal(30, 4, seed=2) + 1
    d, turn = exact_wasserstein(x, y), torch.linalg.qr(normal(4, 4, seed=3)).Q
    assert exact_wasserstein(x, x[torch.randperm(30)]) == 0
    assert exact_wasserstein(y, x) == pytest.approx(d, rel=1e-12)
    assert exact_wasserstein(x @ turn + 5, y @ turn + 5) == pytest.approx(d, rel=1e-10)
    assert exact_wasserstein(3 * x, 3 * y) == pytest.approx(3 * d, rel=1e-12)
    assert exact_wasserstein(x.repeat(2, 1), y) == pytest.approx(d, rel=1e-12)  # the same distribution
    assert d <= exact_wasserstein(x, z) + exact_wasserstein(z, y)
    # The projections of the best coupling couple the projections, and their costs add up over a basis.
    assert sliced_wasserstein(x, y, projections=8) <= d / math.sqrt(4)


def test_samples_of_gaussians_come_near_their_closed_form():
    """W^2 = |m|^2 + sum (s1 - s2)^2. In two dimensions the bias falls as log n / n."""
    mean, scale = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])
    truth = math.sqrt(5 + 2**2 + 0.5**2)
    errors = [
        np.mean(
            [
                abs(exact_wasserstein(normal(n, 2, seed=s), normal(n, 2, seed=s + 9) * scale + mean) - truth)
                for s in range(6)
            ]
        )
        for n in (20, 100, 500)
    ]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02 * truth + 4 * 3 / math.sqrt(6 * 500)  # the mean of a side has the deviation 3 / sqrt(n)


def test_is_a_metric_of_batches():
    x, y = normal(30, 4), normal(30, 4, seed=1)
    metric = FeatureMetric(exact_wasserstein)
    for features, real in ((x, True), (y, False)):
        for part in features.split(13):
            metric.update(part, real=real)
    assert float(metric.compute()) == pytest.approx(exact_wasserstein(x, y), rel=1e-12)


def test_has_an_interval_and_a_floor():
    """Far apart, W_2 is nearly that of the means: |s| with the deviation sqrt(1/n + 1/m) along s."""
    x, y = normal(60, 3), normal(60, 3, seed=1) + torch.tensor([9.0, 0, 0])
    found, (low, high) = exact_wasserstein(x, y), bootstrap(exact_wasserstein, x, y)
    assert low < found < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / 60), rel=0.3)  # of 200 resamples of 60
    real = floor(exact_wasserstein, normal(400, 3, seed=2), 60)
    assert real.low < exact_wasserstein(normal(60, 3, seed=3), normal(60, 3, seed=4)) < real.high < found


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 3)
    for wrong, message in [
        (lambda: exact_wasserstein(x, normal(5, 4)), r"\(5, 3\) and \(5, 4\)"),
        (lambda: exact_wasserstein(x, x[:0]), "5 and 0 rows"),
        (lambda: exact_wasserstein(x, x * math.nan), "not finite"),
        (
            lambda: exact_wasserstein(normal(99, 1), normal(100, 1)),
            "99 and 100 samples need an assignment of 9900 rows",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()

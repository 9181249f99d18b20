"""Sliced Wasserstein against exact one-dimensional transport, shifts, and the invariances of a distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from metrics import sliced_wasserstein
from metrics.samples import sliced
from tests.exact import normal


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 12), m=st.integers(1, 12), p=st.sampled_from([1.0, 2.0, 3.0]), seed=st.integers(0, 99))
def test_one_dimension_is_the_quantile_formula(n: int, m: int, p: float, seed: int):
    """W_p^p is the mean over lcm(n, m) equal quantiles of |difference|^p, each sample repeated to that length."""
    x, y, length = normal(n, 1, seed=seed), normal(m, 1, seed=seed + 1), math.lcm(n, m)
    a, b = (np.repeat(np.sort(z[:, 0].numpy()), length // len(z)) for z in (x, y))
    truth = np.mean(np.abs(a - b) ** p) ** (1 / p)
    assert sliced_wasserstein(x, y, projections=3, p=p) == pytest.approx(truth, rel=1e-10, abs=1e-14)  # some 100 sums


def test_first_power_is_scipys_distance():
    x, y = normal(40, 1), normal(23, 1, seed=1)
    peer = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert sliced_wasserstein(x, y, p=1.0) == pytest.approx(peer, rel=1e-12)


@pytest.mark.parametrize("d", [2, 5, 64])
def test_a_shift_is_exact_over_whole_bases(d: int):
    """|u's|² over an orthonormal basis adds up to |s|², so SW2 = |s| / sqrt(d) for any basis."""
    x, shift = normal(50, d), normal(1, d, seed=1)
    found = sliced_wasserstein(x, x + shift, projections=4 * d)
    assert found == pytest.approx(float(shift.norm()) / math.sqrt(d), rel=1e-12)


def test_a_part_of_a_basis_is_right_on_the_average():
    """With 3 directions in 12 dimensions the squared share |P s|² / |s|² has mean 1/4: 200 seeds, four deviations."""
    x, shift, seeds = normal(5, 12), normal(1, 12, seed=1), range(200)
    squares = torch.tensor([sliced_wasserstein(x, x + shift, projections=3, seed=s) ** 2 for s in seeds])
    truth = float(shift.square().sum()) / 12
    assert abs(float(squares.mean()) - truth) < 4 * float(squares.std()) / math.sqrt(len(seeds))


def test_is_a_distance_of_samples():
    x, y = normal(60, 3, 4), normal(45, 3, 4, seed=1) * 1.5
    d = sliced_wasserstein(x, y)
    assert sliced_wasserstein(x, x[torch.randperm(60)]) < 1e-14  # sorted, the same numbers
    assert sliced_wasserstein(y, x) == pytest.approx(d, rel=1e-12)
    assert sliced_wasserstein(x.flatten(1), y.flatten(1)) == d
    assert sliced_wasserstein(7 * x, 7 * y) == pytest.approx(7 * d, rel=1e-12)
    assert sliced_wasserstein(x.repeat(2, 1, 1), y) == pytest.approx(d, rel=1e-12)  # the same distribution


def test_seeded_and_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch):
    x, y = normal(30, 7), normal(20, 7, seed=1)
    d = sliced_wasserstein(x, y, seed=3)
    assert sliced_wasserstein(x, y, seed=3) == d
    assert sliced_wasserstein(x, y, seed=4) != d
    monkeypatch.setattr(sliced, "_CHUNK", 200)
    assert sliced_wasserstein(x, y, seed=3) == pytest.approx(d, rel=1e-13)  # matrix products round by their width


@pytest.mark.parametrize("projections", [1, 5, 8, 512])
def test_draws_as_many_directions_as_asked_and_orthonormal_ones(projections: int):
    directions = torch.cat(list(sliced.draw_bases(8, projections, 0)), 1)
    assert directions.shape == (8, projections)
    for basis in directions.split(8, dim=1):
        torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1]).double(), rtol=0, atol=1e-14)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 3)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 4\)"):
        sliced_wasserstein(x, normal(5, 4))
    with pytest.raises(ValueError, match="0 and 5 samples"):
        sliced_wasserstein(x[:0], x)
    with pytest.raises(ValueError, match="not finite"):
        sliced_wasserstein(x, x * math.nan)
    with pytest.raises(ValueError, match="projections is 0"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match=r"p is 0\.5"):
        sliced_wasserstein(x, x, p=0.5)

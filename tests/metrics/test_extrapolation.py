"""FD-infinity: a line through points that lie on one, and a bias that is gone."""

from __future__ import annotations

import pytest
import torch

import metrics.samples.extrapolation as extrapolation
from metrics.samples.extrapolation import debiased_frechet_distance, fd_infinity, leave_one_out
from metrics.samples.frechet import FeatureStatistics, frechet_distance_from_features
from tests.exact import normal


def test_a_line_is_found_to_rounding(monkeypatch: pytest.MonkeyPatch):
    """With d² = 3 + 40 / n the fit is exact, and every size from the smallest to all is taken once."""
    sizes = []

    def line(a, b):
        sizes.append((a.count, b.count))
        return 3 + 40 / b.count

    monkeypatch.setattr(extrapolation, "frechet_distance", line)
    found = fd_infinity(normal(50, 16), normal(1000, 16))
    assert (found.value, found.slope) == pytest.approx((3, 40), rel=1e-12)
    assert found.standard_error < 1e-12
    assert [n for n, _ in sizes] == [50] * 15
    assert (sizes[0][1], sizes[-1][1], len(set(sizes))) == (100, 1000, 15)
    assert float(found) == found.value
    sizes.clear()
    fd_infinity(normal(600, 16), normal(1000, 16), points=5, smallest=200, vary="both")
    assert sizes == [(n, n) for n in (200, 300, 400, 500, 600)]


def test_error_is_that_of_least_squares(monkeypatch: pytest.MonkeyPatch):
    """Over 400 sets of points with noise of .5, the intercept's deviation is what its error says."""
    generator, found = torch.Generator().manual_seed(0), []
    monkeypatch.setattr(
        extrapolation,
        "frechet_distance",
        lambda a, b: 3 + 40 / b.count + float(torch.randn(1, generator=generator)) / 2,
    )
    x, y = normal(5, 1), normal(100, 1)
    found = [fd_infinity(x, y) for _ in range(400)]
    values, errors = torch.tensor([[f.value, f.standard_error] for f in found]).T
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.2)  # 4 % either, five times
    assert float(values.mean()) == pytest.approx(3, abs=4 * float(values.std()) / 20)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_takes_the_bias_away(shift: float):
    """Gaussians of 16 features: d² = 16 shift², at n = 1,000 too large by some .13; the mean of 12 draws."""
    truth, plain, extrapolated = 16 * shift**2, [], []
    for seed in range(12):
        x, y = normal(1000, 16, seed=seed), normal(1000, 16, seed=100 + seed) + shift
        plain.append(frechet_distance_from_features(x, y) - truth)
        extrapolated.append(float(fd_infinity(x, y, vary="both", smallest=200)) - truth)
    plain, extrapolated = torch.tensor(plain), torch.tensor(extrapolated)
    assert plain.mean() > 0.05
    # What the fit leaves is second order in 1 / n, and the draws' own chance.
    assert abs(extrapolated.mean()) < 0.15 * plain.mean() + 3 * plain.std() / 12**0.5


def test_a_fixed_reference_keeps_its_own_bias():
    """With few rows of x, varying y alone leaves most of it."""
    x, y = normal(300, 16), normal(6000, 16, seed=1)
    assert float(fd_infinity(x, y)) > 3 * abs(float(fd_infinity(normal(6000, 16, seed=2), y)))


def test_seeded():
    x, y = normal(200, 16), normal(300, 16, seed=1)
    assert fd_infinity(x, y, seed=3) == fd_infinity(x, y, seed=3)
    assert fd_infinity(x, y, seed=3) != fd_infinity(x, y, seed=4)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(20, 16)
    with pytest.raises(ValueError, match="points is 2"):
        fd_infinity(x, x, points=2)
    with pytest.raises(ValueError, match="smallest is 20 of 20 rows"):
        fd_infinity(x, x, smallest=20)
    with pytest.raises(ValueError, match="vary is 'x'"):
        fd_infinity(x, x, vary="x")


@pytest.mark.unchecked
def test_bias_of_order_1_over_n_goes_to_rounding(monkeypatch: pytest.MonkeyPatch):
    """d² = 3 + 40 / n + 10 / m becomes 3; every part is a half or a whole of the smaller side's number."""
    sizes = set()

    def biased(a, b):
        sizes.add((a.count, b.count))
        return 3 + 40 / a.count + 10 / b.count

    monkeypatch.setattr(extrapolation, "frechet_distance", biased)
    assert float(debiased_frechet_distance(normal(600, 4), normal(200, 4))) == pytest.approx(3, rel=1e-12)
    assert {(200, 200), (100, 100)} <= sizes
    assert sizes == {(200, 200), (100, 100), (570, 200), (190, 600)}  # at last a twentieth is left out of either side


def test_every_row_of_the_larger_side_has_its_turn():
    """No row of a longer side is without influence."""
    x, y = normal(120, 1), normal(40, 1, seed=1)
    value = debiased_frechet_distance(x, y).value
    for row in range(0, 120, 3):
        changed = x.clone()
        changed[row] += 1
        assert debiased_frechet_distance(changed, y).value != value


@pytest.mark.unchecked  # 50 distances a case
def test_debiased_lies_nearer_than_fd_and_is_seeded():
    """Eight pairs of laws a shift of s apart in 4 or 16 features, whose distance is d s²."""
    apart = {"fd": 0.0, "debiased": 0.0}
    for case in range(8):
        d, s = (4, 16)[case % 2], 0.1 * (case // 2)
        x, y = normal(120, d, seed=case), normal(150, d, seed=100 + case) + s
        found = debiased_frechet_distance(x, y)
        assert found == debiased_frechet_distance(x, y)
        assert found.low < found.value < found.high
        apart["fd"] += (frechet_distance_from_features(x, y) - d * s**2) / found.standard_error
        apart["debiased"] += (float(found) - d * s**2) / found.standard_error
    assert abs(apart["debiased"]) < 4 * 8**0.5  # four deviations of a sum of 8
    assert apart["fd"] > 8
    assert debiased_frechet_distance(x, y, seed=1) != found
    wide = debiased_frechet_distance(x, y, level=0.99)
    assert wide.low < found.low < found.high < wide.high


@pytest.mark.unchecked
def test_debiased_refuses_what_it_cannot_halve():
    x = normal(100, 16)
    with pytest.raises(ValueError, match=r"33 rows of 16 features.*at least 40 rows"):
        debiased_frechet_distance(x, x[:33])
    with pytest.raises(ValueError, match=r"there are 65 rows of 32 features.*at least 66 rows \(2 d \+ 2\)"):
        debiased_frechet_distance(normal(65, 32), normal(65, 32))
    with pytest.raises(ValueError, match="splits is 0"):
        debiased_frechet_distance(x, x, splits=0)


def test_each_group_is_left_out_once():
    """Sums from both ends are the statistics of the other rows, to rounding."""
    groups = [normal(2 + i % 3, 4, seed=i) + 100 for i in range(7)]
    found = list(leave_one_out([FeatureStatistics.from_features(rows) for rows in groups]))
    assert len(found) == len(groups)
    for i, rest in enumerate(found):
        expected = FeatureStatistics.from_features(torch.cat(groups[:i] + groups[i + 1 :]))
        assert rest.count == expected.count
        torch.testing.assert_close(rest.mean, expected.mean, rtol=1e-14, atol=0)
        torch.testing.assert_close(rest.scatter, expected.scatter, rtol=1e-12, atol=1e-11)

"""FD-infinity: a line through points that lie on one, and a bias that is gone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import metrics.extrapolation as extrapolation
from metrics.extrapolation import fd_infinity
from metrics.frechet import frechet_distance_from_features


def draw(n: int, d: int = 16, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_a_line_is_found_to_rounding(monkeypatch: pytest.MonkeyPatch):
    """With d² = 3 + 40 / n the fit is exact, and every size from the smallest to all is taken once."""
    sizes = []

    def line(a, b):
        sizes.append((a.count, b.count))
        return 3 + 40 / b.count

    monkeypatch.setattr(extrapolation, "frechet_distance", line)
    found = fd_infinity(draw(50), draw(1000))
    assert (found.value, found.slope) == pytest.approx((3, 40), rel=1e-12)
    assert found.standard_error < 1e-12
    assert [n for n, _ in sizes] == [50] * 15
    assert (sizes[0][1], sizes[-1][1], len(set(sizes))) == (100, 1000, 15)
    assert float(found) == found.value
    sizes.clear()
    fd_infinity(draw(600), draw(1000), points=5, smallest=200, vary="both")
    assert sizes == [(n, n) for n in (200, 300, 400, 500, 600)]


def test_error_is_that_of_least_squares(monkeypatch: pytest.MonkeyPatch):
    """Over 400 sets of points with noise of .5, the intercept's deviation is what its error says."""
    generator, found = torch.Generator().manual_seed(0), []
    monkeypatch.setattr(
        extrapolation,
        "frechet_distance",
        lambda a, b: 3 + 40 / b.count + float(torch.randn(1, generator=generator)) / 2,
    )
    x, y = draw(5, 1), draw(100, 1)
    found = [fd_infinity(x, y) for _ in range(400)]
    values, errors = torch.tensor([[f.value, f.standard_error] for f in found]).T
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.2)  # 4 % either, five times
    assert float(values.mean()) == pytest.approx(3, abs=4 * float(values.std()) / 20)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_takes_the_bias_away(shift: float):
    """Gaussians of 16 features: d² = 16 shift², at n = 1,000 too large by some .13; the mean of 12 draws."""
    truth, plain, extrapolated = 16 * shift**2, [], []
    for seed in range(12):
        x, y = draw(1000, seed=seed), draw(1000, seed=100 + seed, shift=shift)
        plain.append(frechet_distance_from_features(x, y) - truth)
        extrapolated.append(float(fd_infinity(x, y, vary="both", smallest=200)) - truth)
    plain, extrapolated = torch.tensor(plain), torch.tensor(extrapolated)
    assert plain.mean() > 0.05
    # What the fit leaves is second order in 1 / n, and the draws' own chance.
    assert abs(extrapolated.mean()) < 0.15 * plain.mean() + 3 * plain.std() / 12**0.5


def test_a_fixed_reference_keeps_its_own_bias():
    """With few rows of x, varying y alone leaves most of it."""
    x, y = draw(300), draw(6000, seed=1)
    assert float(fd_infinity(x, y)) > 3 * abs(float(fd_infinity(draw(6000, seed=2), y)))


def test_seeded():
    x, y = draw(200), draw(300, seed=1)
    assert fd_infinity(x, y, seed=3) == fd_infinity(x, y, seed=3)
    assert fd_infinity(x, y, seed=3) != fd_infinity(x, y, seed=4)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = draw(20)
    with pytest.raises(ValueError, match="points is 2"):
        fd_infinity(x, x, points=2)
    with pytest.raises(ValueError, match="smallest is 20 of 20 rows"):
        fd_infinity(x, x, smallest=20)
    with pytest.raises(ValueError, match="vary is 'x'"):
        fd_infinity(x, x, vary="x")

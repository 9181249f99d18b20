"""Intervals hold the truth as often as they say; the floor is what real data give against real data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metrics.samples.frechet import frechet_distance_from_features
from metrics.uncertainty import bootstrap, extrapolated_floor, floor, prediction_interval
from tests.exact import normal


def apart(x: Tensor, y: Tensor) -> float:
    return float((x.mean(0) - y.mean(0)).norm())


def difference(x: Tensor, y: Tensor) -> float:
    return float(x.mean() - y.mean())


def repeats(x: Tensor) -> float:
    return float(len(x) - len(x.unique(dim=0)))


@pytest.mark.unchecked  # 200 calls an interval
@pytest.mark.parametrize(("kind", "n"), [("halves", 41), ("percentile", 40)])
def test_covers_the_truth_as_often_as_its_level(kind: str, n: int):
    """400 intervals at .9 of a difference of means: four binomial deviations are .06, the normal's for t .01."""
    covered = 0
    for trial in range(400):
        low, high = bootstrap(
            difference, normal(n, 1, seed=trial), normal(60, 1, seed=1000 + trial), seed=trial, level=0.9, kind=kind
        )
        covered += low <= 0 <= high
    assert abs(covered / 400 - 0.9) < 0.07


@pytest.mark.unchecked
def test_halves_cover_a_biased_distance_and_percentiles_do_not():
    """Intervals at .95 of the Fréchet distance, over 60 draws; four binomial deviations are .11."""
    draws = [(normal(100, 8, seed=s), normal(100, 8, seed=1000 + s) + 0.3) for s in range(60)]
    mean = sum(frechet_distance_from_features(x, y) for x, y in draws) / 60
    covered = {"halves": 0, "percentile": 0}
    for x, y in draws:
        for kind in covered:
            low, high = bootstrap(frechet_distance_from_features, x, y, resamples=50, kind=kind)
            covered[kind] += low <= mean <= high
    assert covered["halves"] / 60 > 0.95 - 0.11
    assert covered["percentile"] < covered["halves"]


@pytest.mark.parametrize("kind", ["halves", "percentile"])
def test_width_is_that_of_the_normal(kind: str):
    """A mean of 2,000: 2 x 1.96 s / sqrt n; quantiles of 2,000 resamples are within 10 % of it."""
    x = normal(2000, 1)
    low, high = bootstrap(lambda x: float(x.mean()), x, resamples=2000, kind=kind)
    assert high - low == pytest.approx(2 * 1.96 * float(x.std()) / math.sqrt(2000), rel=0.1)
    assert low < float(x.mean()) < high


def test_halves_repeat_no_row_and_percentiles_do():
    x = normal(50, 1)
    assert bootstrap(repeats, x) == (0, 0)
    assert bootstrap(repeats, x, kind="percentile")[0] > 5


def test_pairs_stay_together():
    """The difference of a set and itself, moved by 1, is 1 in every paired resample."""
    x = normal(50, 1)
    low, high = bootstrap(difference, x + 1, x, paired=True)
    assert (low, high) == pytest.approx((1, 1), abs=1e-12)
    low, high = bootstrap(difference, x + 1, x)
    assert high - low > 0.1


def test_seeded_and_wider_at_a_higher_level():
    x, y = normal(30, 1), normal(30, 1, seed=1)
    assert bootstrap(difference, x, y, seed=3) == bootstrap(difference, x, y, seed=3)
    assert bootstrap(difference, x, y, seed=3) != bootstrap(difference, x, y, seed=4)
    low, high = bootstrap(difference, x, y, seed=3)
    wide = bootstrap(difference, x, y, seed=3, level=0.99)
    assert wide[0] < low < high < wide[1]


def test_floor_is_of_disjoint_parts_of_n():
    reference = torch.arange(40.0)[:, None]
    sizes = []

    def meet(x: Tensor, y: Tensor) -> float:
        sizes.append((len(x), len(y)))
        return float(len(set(x.flatten().tolist()) & set(y.flatten().tolist())))

    assert floor(meet, reference, 20) == (0, 0, 0)
    assert sizes == [(20, 20)] * 20


def test_floor_falls_with_n_and_is_seeded():
    """The distance of two means of n goes as 1 / sqrt n: 100 times as many, a tenth."""
    reference = normal(20_000, 8)
    few, many = floor(apart, reference, 100), floor(apart, reference, 10_000)
    assert few.mean / many.mean == pytest.approx(10, rel=0.3)  # a mean of 20 chi variables of 8 degrees: 6 % each
    assert few.low < few.mean < few.high
    assert few == floor(apart, reference, 100)
    assert few != floor(apart, reference, 100, seed=1)
    assert few != floor(apart, reference, 100, draws=30)
    narrow = floor(apart, reference, 100, level=0.5)
    assert narrow.mean == few.mean
    assert few.low < narrow.low < narrow.high < few.high


def test_floor_at_the_numbers_of_both_sides_is_what_fresh_rows_give():
    """Twenty pairs of numbers, two laws: 400 against 400 has half the distance of 200 against 200.

    The mean over fresh rows lies within a tenth of the mean floor, and its parts of the reference well above.
    """
    shapes = [(n, m) for n in (60, 90, 150, 240) for m in (40, 70, 110, 180, 260) if m <= 3 * n]
    fresh, floors, parts = 0.0, 0.0, 0.0
    for case, (n, m) in enumerate(shapes):
        law = normal(4 * n + m, 6, seed=case)
        if case % 2:
            law = law.exp()
        real, scale = law[:n], 1 / n + 1 / m
        fresh += frechet_distance_from_features(real, law[n : n + m]) / scale
        floors += extrapolated_floor(frechet_distance_from_features, real, m, draws=8).mean / scale
        parts += floor(frechet_distance_from_features, real, n // 2, draws=8).mean / scale
    assert len(shapes) >= 19
    assert floors == pytest.approx(fresh, rel=0.2)  # 20 values, each with a deviation of a half
    assert parts > 1.3 * fresh


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize(("n", "m"), [(100, 100), (90, 30), (64, 190)])
def test_a_floor_on_its_line_is_extrapolated_to_rounding(power: float, n: int, m: int):
    """2 + 5 scale^-power of two parts with the ratio of the sides, which need not be whole numbers: to 3 %."""
    found = extrapolated_floor(
        lambda x, y: 2 + 5 * (len(x) / n * len(y) / m) ** (-power / 2), normal(n, 1), m, power=power, draws=3
    )
    assert found.mean == pytest.approx(7, rel=0.03)
    assert found.low == pytest.approx(found.high)  # all draws are equal


def test_prediction_interval_holds_the_next_draw():
    """Of 400 sets of five normals; four binomial deviations at .9 are .06. Their quantiles hold two thirds."""
    held, quantiles = 0, 0
    for trial in range(400):
        *values, following = normal(6, 1, seed=trial).flatten().tolist()
        found = prediction_interval(values, level=0.9)
        held += found.low <= following <= found.high
        quantiles += min(values) <= following <= max(values)
    assert abs(held / 400 - 0.9) < 0.06
    assert quantiles / 400 < 0.75


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(10, 1)
    with pytest.raises(ValueError, match=r"\[1, 10\] rows"):
        bootstrap(difference, x[:1], x)
    with pytest.raises(ValueError, match=r"\[9, 10\] rows; paired ones have equal numbers"):
        bootstrap(difference, x[:9], x, paired=True)
    with pytest.raises(ValueError, match="level is 1"):
        bootstrap(difference, x, x, level=1)
    with pytest.raises(ValueError, match="resamples is 1"):
        bootstrap(difference, x, x, resamples=1)
    with pytest.raises(ValueError, match="kind is 'basic'"):
        bootstrap(difference, x, x, kind="basic")
    with pytest.raises(ValueError, match="n is 6 and the reference has 10 rows"):
        floor(apart, x, 6)
    with pytest.raises(ValueError, match="draws is 1"):
        floor(apart, x, 5, draws=1)
    with pytest.raises(ValueError, match="n is 31 and the reference has 10 rows"):
        extrapolated_floor(apart, x, 31)
    with pytest.raises(ValueError, match="draws is 1"):
        extrapolated_floor(apart, x, 10, draws=1)

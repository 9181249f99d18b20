"""Sketches of projected samples against the exact sliced distance: within their bound, and far nearer where smooth."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import SlicedSketch, Slices, floor, sliced_wasserstein, sliced_wasserstein_of_sketches
from metrics.samples.sketch import SlicedResult
from tests.exact import normal


def sketched(x: torch.Tensor, y: torch.Tensor, slices: Slices) -> SlicedResult:
    return sliced_wasserstein_of_sketches(*(SlicedSketch.from_features(z, slices) for z in (x, y)))


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(16, 60),
    m=st.integers(16, 60),
    seed=st.integers(0, 999),
    size=st.sampled_from([1e-3, 1.0, 1e3, 1e7]),
    tail=st.sampled_from([1, 3, 9]),
    resolution=st.sampled_from([0.02, 0.3, 2.0]),
)
def test_the_bound_holds_for_every_sample(n: int, m: int, seed: int, size: float, tail: int, resolution: float):
    """Heavy tails, values beyond the last bin, and bins that are far too wide."""
    x, y = size * normal(n, 3, seed=seed) ** tail, size * normal(m, 3, seed=seed + 1) ** tail + 0.1
    found = sketched(x, y, Slices(3, 6, resolution=resolution))
    truth = sliced_wasserstein(x, y, projections=6)
    assert abs(found.value - truth) <= found.bound + 1e-9 * size  # rounding within a bin taken for equal values


def test_the_error_of_smooth_samples_is_of_second_order():
    x, y = normal(4000, 4), normal(4000, 4, seed=1) * 1.2 + 0.3
    truth = sliced_wasserstein(x, y, projections=8)
    errors = [abs(sketched(x, y, Slices(4, 8, resolution=h)).value / truth - 1) for h in (0.8, 0.2, 0.05)]
    assert errors[1] < errors[0] / 4
    assert errors[2] < 1e-3
    assert sketched(x, y, Slices(4, 8, resolution=0.05)).bound < sketched(x, y, Slices(4, 8, resolution=0.2)).bound / 3


def test_samples_without_spread_are_exact():
    """Every bin is one value, wherever in the bin it lies."""
    x, shift = torch.full((20, 5), 0.123).double(), normal(1, 5, seed=1)
    found = sketched(x, x + shift, Slices(5, 10, resolution=1.0))
    assert found.value == pytest.approx(float(shift.norm()) / math.sqrt(5), rel=1e-10)
    assert found.bound < 1e-10
    assert found.error < 1e-10


def test_is_a_distance():
    x, y, slices = normal(300, 4), normal(200, 4, seed=1) * 1.5, Slices(4, 16)
    found = sketched(x, y, slices)
    assert sketched(x, x, slices).value == 0
    assert sketched(y, x, slices).value == pytest.approx(found.value, rel=1e-12)
    scaled = sketched(8 * x, 8 * y, Slices(4, 16, scale=8.0))
    assert scaled == pytest.approx([8 * part for part in found], rel=1e-10)


def test_centre_and_scale_keep_the_bins_where_samples_are():
    x, y = normal(500, 3) + 1000, normal(500, 3, seed=1) + 1000.5
    near = sketched(x, y, Slices(3, 6, centre=(1000.0, 1000.0, 1000.0)))
    far, wide = sketched(x, y, Slices(3, 6)), sketched(x, y, Slices(3, 6, centre=1000.0, scale=30.0))
    truth = sliced_wasserstein(x, y, projections=6)
    assert near.value == pytest.approx(truth, rel=1e-3)
    assert 10 * near.bound < min(far.bound, wide.bound)
    assert near == sketched(x, y, Slices(3, 6, centre=1000.0))
    assert Slices(3, 6, centre=torch.full((3,), 1000.0)) == Slices(3, 6, centre=(1000.0, 1000.0, 1000.0))
    around = sketched(x / 50, y / 50, Slices.around(x / 50, projections=6))
    assert around.bound == pytest.approx(near.bound / 50, rel=0.1)


def test_directions_are_those_of_the_exact_distance_and_of_the_seed():
    x, y = normal(200, 6), normal(200, 6, seed=1) + torch.arange(6)
    for seed in (0, 1):
        truth = sliced_wasserstein(x, y, projections=2, seed=seed)
        assert sketched(x, y, Slices(6, 2, seed=seed)).value == pytest.approx(truth, rel=1e-3)
    assert sketched(x, y, Slices(6, 2, seed=1)) != sketched(x, y, Slices(6, 2))


def test_any_split_adds_up_to_the_single_pass():
    x, y, slices = normal(1000, 5), normal(700, 5, seed=1) + 0.2, Slices(5, 20)
    whole = SlicedSketch.from_features(x, slices)
    parts, start = SlicedSketch.empty(slices), 0
    for part in x.split([1, 300, 0, 7, 692]):
        parts, start = parts + SlicedSketch.from_features(part, slices, start=start), start + len(part)
    assert parts.count == whole.count == 1000
    other = SlicedSketch.from_features(y, slices)
    found, truth = (sliced_wasserstein_of_sketches(side, other) for side in (parts, whole))
    assert found == pytest.approx(truth, rel=1e-10)


def test_the_standard_error_is_the_spread_over_samples():
    slices, values, errors = Slices(4, 8), [], []
    for seed in range(150):
        found = sketched(normal(200, 4, seed=2 * seed), normal(300, 4, seed=2 * seed + 1) + 0.5, slices)
        values.append(found.value)
        errors.append(found.error**2)
    ratio = math.sqrt(sum(errors) / len(errors)) / float(torch.tensor(values).std())
    assert 0.8 < ratio < 1.25  # the deviation of 150 values is known to 6 %, the jackknife of each has 7 degrees


@pytest.mark.parametrize(("n", "m"), [(200, 200), (200, 800), (800, 200)])
def test_the_floor_is_real_against_real_at_these_numbers(n: int, m: int):
    slices = Slices(4, 8)
    found = torch.tensor(
        [sketched(normal(n, 4, seed=s), normal(m, 4, seed=s + 1000) + 1, slices).floor for s in range(60)]
    )
    pairs = [sliced_wasserstein(normal(n, 4, seed=s), normal(m, 4, seed=s + 2000), projections=8) for s in range(60)]
    # Root mean squares; 60 of them with a relative deviation of some 20 % each leave 4 %, three times on both sides.
    truth = float(torch.tensor(pairs).square().mean().sqrt())
    assert float(found.square().mean().sqrt()) == pytest.approx(truth, rel=0.15)
    if n == m:
        halves = floor(lambda x, y: sliced_wasserstein(x, y, projections=8), normal(20 * n, 4), n)
        assert float(found.mean()) == pytest.approx(halves.mean, rel=0.15)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x, slices = normal(20, 3), Slices(3, 4)
    sketch = SlicedSketch.from_features(x, slices)
    for wrong, message in [
        (lambda: SlicedSketch.from_features(normal(5, 4), slices), r"\(5, 4\); \(n, 3\) is accepted"),
        (lambda: SlicedSketch.from_features(x / 0, slices), "20 of 20 rows of features are not finite"),
        (lambda: sketch + SlicedSketch.empty(Slices(3, 4, seed=1)), "differ in directions or bins"),
        (lambda: sliced_wasserstein_of_sketches(sketch, SlicedSketch.empty(slices)), "20 and 0 samples"),
        (lambda: Slices(3, 4, resolution=0.0), r"resolution is 0\.0"),
        (lambda: Slices(3, 4, scale=math.inf), "scale is inf"),
        (lambda: Slices(0), "dimension is 0"),
        (lambda: Slices.around(torch.ones(9, 3)), r"scale is 0\.0"),
        (lambda: Slices(3, 4, centre=(1.0, 2.0)), r"centre is \(1\.0, 2\.0\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()

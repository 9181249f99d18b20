"""Sets of samples against one reference: the jackknife by hand, the shared luck of the reference, what is refused."""

import numpy as np
import pytest
import scipy.stats
import torch

from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.kernel import kid
from metrics.samples.paired import GROUPS, compare_samples, count_calls


def draw(*shifts, n=100, d=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) + shift for shift in shifts]


def of_set(reference, rows):
    return rows.mean()


def test_of_means_it_is_welch_s_test_of_the_means_of_groups():
    reference, a, b = draw(0, 0, 0.1)
    found = compare_samples(of_set, reference, {"a": a, "b": b})["b", "a"]
    generator = torch.Generator().manual_seed(0)
    groups = [torch.randperm(100, generator=generator) % GROUPS for _ in range(3)][1:]
    means = [
        [rows[group == k].mean().item() for k in range(GROUPS)] for rows, group in zip((a, b), groups, strict=True)
    ]
    expected = scipy.stats.ttest_ind(means[1], means[0], equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert found.mean == pytest.approx(b.mean().item() - a.mean().item())
    assert found.interval == pytest.approx((low, high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_the_luck_of_the_reference_cancels_and_what_does_not_cancel_counts():
    reference, a, b = draw(0, 0, 0.5)
    alone, shared, apart = (
        compare_samples(function, reference, {"a": a, "b": b})["b", "a"]
        for function in (
            of_set,
            lambda x, y: y.mean() + 100 * x.mean(),
            lambda x, y: y.mean() * (1 + 100 * x.mean()),
        )
    )
    assert shared.interval == pytest.approx(alone.interval)
    width = [high - low for low, high in (alone.interval, apart.interval)]
    assert width[1] > 2 * width[0]


@pytest.mark.parametrize("function", [frechet_distance_from_features, kid])
def test_the_nearer_set_is_better_whatever_the_order(function):
    reference, near, far, other = draw(0, 0.2, 0.7, 0.2)
    sets = {"near": near, "far": far, "other": other}
    found = compare_samples(function, reference, sets, every=True)
    said = {pair: each.verdict(pair, "lower") for pair, each in found.items()}
    assert said == {
        ("far", "near"): "near is better",
        ("other", "near"): "not told apart",
        ("other", "far"): "other is better",
    }
    back = compare_samples(function, reference, {"far": far, "near": near})["near", "far"]
    assert back.mean == pytest.approx(-found["far", "near"].mean)
    assert back.verdict(("near", "far"), "lower") == "near is better"


def test_verdicts_know_the_better_direction():
    reference, low, high = draw(0, 0, 1)
    pair = ("high", "low")
    found = compare_samples(of_set, reference, {"low": low, "high": high})[pair]
    assert [found.verdict(pair, better) for better in ("lower", "higher", "floor")] == [
        "low is better", "high is better", "high is higher",
    ]  # fmt: skip


def test_the_function_is_called_as_often_as_said():
    reference, a, b = draw(0, 0, 0)
    calls = []
    compare_samples(lambda x, y: calls.append(0) or 0.0, reference, {"a": a, "b": b})
    assert len(calls) == count_calls(2)


@pytest.mark.unchecked
def test_what_is_refused():
    reference, a, b = draw(0, 0, 0)
    with pytest.raises(ValueError, match="there are 1 sets and 100 rows"):
        compare_samples(kid, reference, {"a": a})
    with pytest.raises(ValueError, match="2 sets and 39 rows in the smallest sample; 2 sets and 40 rows are accepted"):
        compare_samples(kid, reference, {"a": a, "b": b[:39]})
    with pytest.raises(ValueError, match="2 sets and 30 rows"):
        compare_samples(kid, reference[:30], {"a": a, "b": b})
    assert np.isfinite(compare_samples(kid, reference[:40], {"a": a[:40], "b": b[:41]})["b", "a"].p_value)

"""Paired differences: their error rates and power as promised, Holm's adjustment, and what is refused."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from metrics.paired import POWER, differences_from, holm, paired_difference

TRIALS = 100
WITHIN = scipy.stats.binom(TRIALS, 0.05).ppf(0.999)  # a right test of level .05 is above this once in a thousand tests


def even(rng, n):
    return rng.normal(size=n)


def often_nothing(rng, n):
    """As final IoUs differ: most pairs not at all, some by a little, few by much, of either sign."""
    return np.where(rng.random(n) < 0.6, 0, rng.normal(size=n) * rng.exponential(size=n))


def lopsided(rng, n):
    return rng.exponential(size=n) - 1


@pytest.mark.parametrize(("law", "n"), [(even, 10), (even, 300), (often_nothing, 300), (lopsided, 300)])
def test_equal_methods_are_told_apart_as_rarely_as_promised(law, n):
    """Of twenty that equal the first, none is told from it in 95 % of trials; nor does an interval miss 0."""
    wrong = missed = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        hard = 5 * rng.normal(size=n)  # what a case costs any method
        found = differences_from(hard, {str(k): hard + law(rng, n) for k in range(20)}).values()
        wrong += min(each.p_value for each in found) <= 0.05
        missed += any(not each.interval[0] <= 0 <= each.interval[1] for each in found)
    assert max(wrong, missed) <= WITHIN


@pytest.mark.parametrize("n", [10, 60, 300])
def test_a_detectable_difference_is_detected_in_four_of_five_trials(n):
    low, high = scipy.stats.binom(TRIALS, POWER).ppf([0.001, 0.999])
    told = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=n)
        true = (scipy.stats.t.ppf(0.975, n - 1) + scipy.stats.t.ppf(POWER, n - 1)) / np.sqrt(n)
        found = paired_difference(noise + true, np.zeros(n))
        told += found.p_value <= 0.05
        assert found.detectable == pytest.approx(true * noise.std(ddof=1))
    assert low <= told <= high


def test_pairing_tells_what_intervals_of_the_figures_do_not():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    a, b = hard + 0.05 + 0.1 * rng.normal(size=200), hard
    assert a.mean() - 1.96 * a.std() / 200**0.5 < b.mean() + 1.96 * b.std() / 200**0.5  # they overlap
    assert paired_difference(a, b).p_value < 1e-6


def test_it_is_scipy_s_paired_t_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    expected = scipy.stats.ttest_rel(a, b)
    found = paired_difference(a, b)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.n == 30


def test_no_difference_in_any_case():
    assert paired_difference(np.ones(5), np.ones(5)) == (0.0, (0.0, 0.0), 1.0, 5, 0.0)
    assert paired_difference(np.ones(5) * 2, np.ones(5)).p_value == 0.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's paper has this shape
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_between_nothing_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1, len(p_values) * p) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([1.0, 2.0], [1.0], {}, r"a has shape \(2,\), b \(1,\)"),
        ([1.0], [1.0], {}, "n from 2 on"),
        ([[1.0, 2.0]], [[1.0, 2.0]], {}, r"shape \(1, 2\)"),
        ([1.0, np.nan], [1.0, 2.0], {}, "not finite"),
        ([1.0, 2.0], [1.0, 2.0], {"level": 1.0}, "level is 1.0"),
        ([1.0, 2.0], [1.0, 2.0], {"comparisons": 0}, "comparisons 0"),
    ],
)
def test_what_is_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(np.array(a), np.array(b), **options)

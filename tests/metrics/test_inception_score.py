"""The Inception score against its formula, its two ends, and the spread and bias that it states."""

from __future__ import annotations

import math

import pytest
import torch

from metrics import inception_score


def logits(n: int, k: int, seed: int = 0, sharpness: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sharpness * torch.randn(n, k, dtype=torch.float64, generator=generator)


def naive(p: list[list[float]]) -> float:
    marginal = [sum(column) / len(p) for column in zip(*p, strict=True)]
    divergence = sum(q * math.log(q / m) for row in p for q, m in zip(row, marginal, strict=True) if q > 0)
    return math.exp(divergence / len(p))


@pytest.mark.parametrize("splits", [1, 3, 7])
def test_is_the_formula_over_splits_dealt_in_turn(splits: int):
    scores = logits(23, 5)
    truth = [naive(scores[i::splits].softmax(1).tolist()) for i in range(splits)]
    found = inception_score(scores, splits=splits)
    assert found.score == pytest.approx(sum(truth) / splits, rel=1e-10)
    variance = sum((one - sum(truth) / splits) ** 2 for one in truth) / splits
    assert found.spread == pytest.approx(math.sqrt(variance), rel=1e-10)


@pytest.mark.parametrize("k", [1, 2, 10, 300])
def test_reaches_the_number_of_classes_and_falls_to_one(k: int):
    sure_and_even = torch.eye(k).repeat(3, 1)
    rows = torch.full((3 * k, k), 1 / k)
    assert inception_score(sure_and_even, probabilities=True).score == pytest.approx(k, rel=1e-12)
    assert inception_score(rows, probabilities=True).score == pytest.approx(1, rel=1e-12)
    one_class = torch.eye(k)[[0] * 4]
    assert inception_score(one_class, probabilities=True).score == pytest.approx(1, rel=1e-12)
    assert inception_score(1e4 * sure_and_even).score == pytest.approx(k, rel=1e-12)  # as logits


def test_does_not_depend_on_the_form_of_scores_or_on_orders():
    scores = logits(40, 6)
    found = inception_score(scores)
    same = [
        inception_score(scores.softmax(1), probabilities=True),
        inception_score(scores + torch.linspace(-50, 50, 40)[:, None]),
        inception_score(scores.flip(0)),
        inception_score(scores[:, [3, 1, 0, 5, 4, 2]]),
        inception_score(scores, seed=3),
    ]
    for other in same:
        assert other == pytest.approx(found, rel=1e-10, abs=1e-12)
    half = inception_score(scores.softmax(1).half(), probabilities=True)
    assert half.score == pytest.approx(found.score, rel=1e-3)  # eps of half precision


def test_a_shuffle_repeats_from_its_seed():
    scores = logits(40, 6)
    assert inception_score(scores, splits=4, seed=1) == inception_score(scores, splits=4, seed=1)
    assert inception_score(scores, splits=4, seed=1).spread != inception_score(scores, splits=4, seed=2).spread


def test_the_interval_covers_what_many_samples_score():
    """All of 300 draws of 400 out of a population, at 80 %: four deviations of a share of 300 are 9 %."""
    population = logits(200_000, 4, sharpness=1.5)
    truth, draws = inception_score(population).score, population[:120_000].split(400)
    covered = [low < truth < high for _, low, high, _ in (inception_score(draw, level=0.8) for draw in draws)]
    assert abs(sum(covered) / len(covered) - 0.8) < 0.09


def test_few_samples_score_low_by_the_stated_law():
    """Sure of k classes at random: log IS falls short of log k by (k - 1) / (2 n)."""
    k, n = 5, 100
    labels = torch.randint(k, (400, n), generator=torch.Generator().manual_seed(0))
    found = torch.tensor([math.log(inception_score(torch.eye(k)[row], probabilities=True).score) for row in labels])
    error = float(found.std()) / math.sqrt(len(labels))
    assert float(found.mean()) == pytest.approx(math.log(k) - (k - 1) / (2 * n), abs=4 * error + k / n**2)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    scores = logits(5, 3)
    for wrong, message in [
        (lambda: inception_score(scores[0]), r"\(3,\)"),
        (lambda: inception_score(scores / 0), "5 of 5 rows of scores are not finite"),
        (lambda: inception_score(scores, probabilities=True), "rows are no probabilities"),
        (lambda: inception_score(scores.softmax(1) * 1.01, probabilities=True), "5 of 5 rows are no probabilities"),
        (lambda: inception_score(scores[:1]), "there are 1 samples"),
        (lambda: inception_score(scores, splits=6), "5 samples in 6 splits"),
        (lambda: inception_score(scores, splits=0), "splits is 0"),
        (lambda: inception_score(scores, level=1.0), r"level is 1\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()

"""The classifier two-sample test: chance on equal distributions, at its stated level; near 1 on distributions apart."""

from __future__ import annotations

import math

import pytest
import torch

from metrics import FeatureMetric, classifier_two_sample_test
from metrics.samples import two_sample
from metrics.samples.two_sample import CLASSIFIERS, fit_logistic
from tests.exact import normal


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch):
    """The level of the test holds for any classifier, trained to the end or not."""
    monkeypatch.setattr(two_sample, "EPOCHS", 5)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("folds", [None, 3])
def test_equal_distributions_give_one_half_and_valid_p_values(classifier: str, folds: int | None):
    """Over 200 pairs; four deviations of a share and of a mean."""
    found = [
        classifier_two_sample_test(
            normal(40, 2, seed=2 * s), normal(40, 2, seed=2 * s + 1), classifier=classifier, folds=folds
        )
        for s in range(200)
    ]
    accuracies, p = (torch.tensor([getattr(one, name) for one in found]) for name in ("accuracy", "p_value"))
    assert abs(float(accuracies.mean()) - 0.5) < 4 * float(accuracies.std()) / math.sqrt(200)
    for level in (0.05, 0.2, 0.5):
        assert float((p <= level).double().mean()) <= level + 4 * math.sqrt(level * (1 - level) / 200)
    if folds is None:  # not merely large: the p-values of 40 hits take few values, hence less than 0.2
        assert float((p <= 0.2).double().mean()) > 0.04
        assert float((accuracies - 0.5).square().mean()) < 1.5 / (4 * 40)  # a binomial share has 1 / (4 n)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("folds", [None, 2])
def test_distributions_apart_are_told_apart(classifier: str, folds: int | None):
    found = classifier_two_sample_test(normal(60, 3), normal(60, 3, seed=1) + 4, classifier=classifier, folds=folds)
    assert found.accuracy > 0.97  # the best rule errs in P(z > 2 sqrt 3) = 3e-4
    assert found.p_value < 1e-6
    assert found.low > 0.9
    assert found.tested == (60 if folds is None else 120)


def test_only_logistic_regression_is_blind_to_all_but_means():
    x, y = normal(300, 2), 4 * normal(300, 2, seed=1)
    found = {name: classifier_two_sample_test(x, y, classifier=name).accuracy for name in CLASSIFIERS}
    assert found["logistic"] < 0.6
    assert found["nearest"] > 0.7
    assert found["mlp"] > 0.75  # the best rule, by the radius, is right in 0.82


def test_copies_fool_the_nearest_neighbour():
    """Half the test samples have their copy on the other side's training part."""
    x = normal(200, 5)
    assert classifier_two_sample_test(x, x, classifier="nearest").accuracy < 0.4


def test_nearest_is_the_double_loop():
    train, test = normal(20, 3), normal(15, 3, seed=1)
    labels = normal(20, 1, seed=2)[:, 0] > 0
    truth = [bool(labels[min(range(20), key=lambda i: math.dist(train[i], row))]) for row in test]
    assert CLASSIFIERS["nearest"](train, labels, test, torch.Generator()).tolist() == truth


def test_logistic_regression_is_at_the_minimum_of_its_loss():
    features, labels = normal(50, 4), normal(50, 1, seed=1)[:, 0] > 0.3
    weights = fit_logistic(features, labels).requires_grad_()
    logits = features @ weights[:-1] + weights[-1]
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum")
    (gradient,) = torch.autograd.grad(nats + weights[:-1].square().sum() / 2, weights)
    assert float(gradient.abs().max()) < 1e-5  # where its steps change the loss by less than 1e-14


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_units_do_not_matter_and_a_constant_says_nothing(classifier: str):
    x, y, units = normal(40, 3), normal(40, 3, seed=1) + 0.5, torch.tensor([2.0**-20, 1, 2.0**9])
    found = classifier_two_sample_test(x, y, classifier=classifier)
    assert classifier_two_sample_test(x * units, y * units, classifier=classifier) == found  # powers of 2 do not round
    if classifier != "mlp":  # whose width and first weights depend on the number of features
        x, y = (torch.cat([z, torch.full((40, 1), 7.0).double()], 1) for z in (x, y))
        assert classifier_two_sample_test(x, y, classifier=classifier) == found


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_repeats_from_its_seed_and_leaves_others_draws_alone(classifier: str):
    x, y = normal(50, 2), normal(90, 2, seed=1) + 0.3
    before = torch.get_rng_state()
    found = [classifier_two_sample_test(x, y, classifier=classifier, seed=1, folds=5) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert len({classifier_two_sample_test(x, y, classifier=classifier, seed=s).accuracy for s in range(6)}) > 1
    assert found[0].tested == 100  # of the larger side as many as of the smaller


def test_p_values_of_samples_that_are_all_told_right():
    """2^-10 of ten; with folds twice the mean of the folds' own, 2^-4 each of four."""
    x = normal(10, 2)
    halves, folds = (classifier_two_sample_test(x, x + 100, classifier="nearest", folds=k) for k in (None, 5))
    assert (halves.accuracy, folds.accuracy) == (1, 1)
    assert halves.p_value == pytest.approx(2**-10)
    assert folds.p_value == pytest.approx(2 * 2**-4)


@pytest.mark.usefixtures("_short")
def test_the_interval_has_its_level():
    x, y = normal(100, 2), normal(100, 2, seed=1) + 1
    wide, narrow = (classifier_two_sample_test(x, y, classifier="logistic", level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.accuracy < narrow.high < wide.high
    assert wide.accuracy == narrow.accuracy


def test_is_a_metric_of_batches():
    x, y = normal(60, 3), normal(60, 3, seed=1) + 1
    values = []
    for batch in (60, 17):
        metric = FeatureMetric(classifier_two_sample_test, classifier="logistic")
        for features, real in ((x, True), (y, False)):
            for part in features.split(batch):
                metric.update(part, real=real)
        values.append(metric.compute())
    assert values[0] == values[1]
    assert 0.6 < float(values[0]["accuracy"]) < 1


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    x = normal(5, 3)
    for wrong, message in [
        (lambda: classifier_two_sample_test(x, normal(5, 4)), r"\(5, 3\) and \(5, 4\)"),
        (lambda: classifier_two_sample_test(x, x / 0), "not finite"),
        (lambda: classifier_two_sample_test(x, x, classifier="svm"), "classifier is 'svm'; 'mlp', 'logistic'"),
        (lambda: classifier_two_sample_test(x, x[:1]), "1 samples per side"),
        (lambda: classifier_two_sample_test(x, x, folds=6), "folds is 6"),
        (lambda: classifier_two_sample_test(x, x, level=0.0), r"level is 0\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()

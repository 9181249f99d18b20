"""Every metric of samples takes NumPy arrays, refuses anything else in one line, and trains where it must."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import metrics
from metrics.samples.inception import inception_score
from metrics.samples.sketch import SlicedSketch, Slices
from metrics.streams.features import FeatureMetric
from metrics.streams.frechet import FrechetDistance
from metrics.streams.kid import BlockKid
from metrics.streams.sliced import SlicedWasserstein
from metrics.streams.sums import BitsPerDim, ConditionalAccuracy, InceptionScore

rng = np.random.default_rng(0)
X, Y = (rng.normal(size=(48, 3)).astype(np.float32).astype(float) for _ in range(2))  # the same in every float
TEST, SCORES, NATS = X[::-1] + 0.5, rng.normal(size=(48, 5)).astype(np.float32).astype(float), X[:, 0]
MAPS, LABELS, SIMILARITY = X.reshape(12, 3, 2, 2), rng.integers(0, 5, 48), np.eye(4)
SLICES = Slices(dimension=3, projections=4)


def streamed(metric, *batches):
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


# name -> (function of arrays, the arrays)
CALLS = {
    **{
        name: (getattr(metrics, name), (X, Y))
        for name in (
            "authenticity", "cmmd", "debiased_frechet_distance", "density_coverage", "energy_distance",
            "exact_wasserstein", "fd_infinity", "frechet_distance_from_features", "kid", "nearest_neighbour_ratio",
            "prdc", "precision_recall", "sliced_wasserstein", "vendi_scores",
        )
    },
    "kid_subsets": (lambda x, y: metrics.kid_subsets(x, y, subsets=2, size=10), (X, Y)),
    "maximum_mean_discrepancy": (lambda x, y: metrics.maximum_mean_discrepancy(x, y, lambda a, b: a @ b.mT), (X, Y)),
    "c2st": (lambda x, y: metrics.classifier_two_sample_test(x, y, classifier="nearest"), (X, Y)),
    "data_copying": (lambda x, y, z: metrics.data_copying(x, y, test=z, cells=1, minimum=2), (X, Y, TEST)),
    "vendi_score": (metrics.vendi_score, (X,)),
    "vendi_score_from_similarity": (metrics.vendi_score_from_similarity, (SIMILARITY,)),
    "inception_score": (metrics.inception_score, (SCORES,)),
    "conditional_accuracy": (metrics.conditional_accuracy, (SCORES, LABELS)),
    "conditional_accuracy of labels": (lambda a, b: metrics.conditional_accuracy(a, b, classes=5), (LABELS, LABELS)),
    "bits_per_dim": (lambda x: metrics.bits_per_dim(x, 7), (NATS,)),
    "bits_per_dim, dequantised": (lambda x, q: metrics.bits_per_dim(x, 7, dequantisation=q), (NATS, NATS)),
    "spatial_features": (lambda x: metrics.spatial_features(x, channels=2).sum().item(), (MAPS,)),
    "spatial_statistics": (lambda x: metrics.spatial_statistics(x, channels=2).mean.tolist(), (MAPS,)),
    "statistics": (lambda x: metrics.FeatureStatistics.from_features(x).scatter.tolist(), (X,)),
    "sketch": (lambda x: SlicedSketch.from_features(x, SLICES).count, (X,)),
    "FrechetDistance": (lambda x, y: streamed(FrechetDistance(3), (x, True), (y, False)), (X, Y)),
    "FeatureMetric": (lambda x, y: streamed(FeatureMetric(metrics.kid), (x, True), (y, False)), (X, Y)),
    "BlockKid": (lambda x, y: streamed(BlockKid(10), (x, True), (y, False)), (X, Y)),
    "SlicedWasserstein": (lambda x, y: streamed(SlicedWasserstein(SLICES), (x, True), (y, False)), (X, Y)),
    "InceptionScore": (lambda x: streamed(InceptionScore(5), (x,)), (SCORES,)),
    "ConditionalAccuracy": (lambda x, y: streamed(ConditionalAccuracy(5), (x, y)), (SCORES, LABELS)),
    "BitsPerDim": (lambda x: streamed(BitsPerDim(7), (x,)), (NATS,)),
}  # fmt: skip

KINDS = {
    "as it is": lambda a: a,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "long double": lambda a: a.astype(np.longdouble) if a.dtype.kind == "f" else a,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


def plain(value):
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("name", CALLS)
def test_arrays_give_what_tensors_give(name):
    function, arrays = CALLS[name]
    expected = plain(function(*(torch.from_numpy(a.copy()) for a in arrays)))
    for kind, change in KINDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns of arrays that it may not write to
            assert plain(function(*map(change, arrays))) == expected, kind


@pytest.mark.unchecked
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", [lambda a: a.tolist(), lambda a: a.astype(object), lambda a: a.astype(str)])
def test_anything_else_is_named_in_one_line(name, wrong):
    function, arrays = CALLS[name]
    with pytest.raises(ValueError, match=r"^\w+ is an? .*; a tensor or a NumPy array (of numbers )?is accepted$"):
        function(*(wrong(a) for a in arrays))


@pytest.mark.unchecked
def test_a_missing_argument_is_told_by_the_function_itself():
    with pytest.raises(TypeError, match=r"kid\(\) missing 1 required positional argument"):
        metrics.kid(X)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_the_classifier_trains_where_gradients_are_forbidden(guard, monkeypatch):
    monkeypatch.setattr("metrics.samples.two_sample.EPOCHS", 40)
    expected = metrics.classifier_two_sample_test(X, Y + 6)
    with guard():
        x, y = torch.tensor(X), torch.tensor(Y + 6)
        assert metrics.classifier_two_sample_test(x, y) == expected
        assert not torch.is_grad_enabled()
    assert expected.accuracy > 0.8


def test_probabilities_in_the_place_of_logits_are_remarked_on():
    p = torch.from_numpy(SCORES).softmax(1)
    for call in (
        lambda: inception_score(p),
        lambda: inception_score(p.half()),
        lambda: streamed(InceptionScore(5), (p,)),
    ):
        with pytest.warns(UserWarning, match="as probabilities do; if they are, take probabilities=True"):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inception_score(p, probabilities=True)
        inception_score(SCORES)
        inception_score(np.abs(SCORES))

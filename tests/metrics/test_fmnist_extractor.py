"""The shipped classifier: as accurate as its card says, small, indifferent to the batch size, and strict on input."""

from __future__ import annotations

import json

import pytest
import torch

from bench.data import fashion_mnist
from metrics import frechet_distance_from_features
from metrics.extractors import fmnist

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """The test set in [0, 1]."""
    return fashion_mnist.load("test")[0][:, None].float() / 255


@pytest.fixture(scope="module")
def features(images: torch.Tensor) -> torch.Tensor:
    return fmnist.extract(images)


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads(fmnist.WEIGHTS.with_suffix(".json").read_text())


def test_is_as_accurate_as_the_card_says(features: torch.Tensor, card: dict):
    labels = fashion_mnist.load("test")[1]
    accuracy = float((fmnist.load_fmnist().head(features.float()).argmax(1) == labels).double().mean())
    assert accuracy >= 0.92
    assert accuracy == pytest.approx(card["test_accuracy"], abs=3e-4)  # three images at the border of two classes


def test_the_card_belongs_to_these_weights_and_data(card: dict):
    assert card["weights_hash"] == fmnist.extractor_hash()
    assert card["test_data"] == fashion_mnist.data_hash("test")
    assert fmnist.extractor_hash() in fmnist.WEIGHTS.with_suffix(".md").read_text()
    assert fmnist.WEIGHTS.stat().st_size <= MEGABYTE


def test_the_hash_covers_names_shapes_and_values():
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    same = {"b": torch.ones(4), "a": torch.zeros(3, 2).mT}
    assert fmnist.weights_hash(weights) == fmnist.weights_hash(same)
    for other in ({"a": torch.zeros(3, 2)}, {"b": torch.ones(4) + 1e-7}, {"b": torch.ones(4, dtype=torch.float64)}):
        assert fmnist.weights_hash(weights | other) != fmnist.weights_hash(weights)
    assert fmnist.weights_hash({"c": weights["a"], "b": weights["b"]}) != fmnist.weights_hash(weights)


def test_features_are_the_classifiers_penultimate(images: torch.Tensor, features: torch.Tensor):
    assert features.shape == (10_000, 64)
    assert features.dtype == torch.float64
    model = fmnist.load_fmnist()
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(images[:256]), model.head(features[:256].float()))


def test_the_batch_size_moves_the_distance_by_rounding_alone(images: torch.Tensor):
    """To 1e-4 of the distance: convolutions pick another kernel, so features move in float32's last bits."""
    x, y = fmnist.extract(images[:500]), fmnist.extract(images[500:1000])
    d = frechet_distance_from_features(x, y)
    for batch in (1, 7, 500):
        assert frechet_distance_from_features(fmnist.extract(images[:500], batch), y) == pytest.approx(d, rel=1e-4)


def test_the_distance_tells_damage_from_real_data(images: torch.Tensor, features: torch.Tensor):
    """It grows with noise, and a blur or a missing class moves it well off the distance of real to real."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 1, 28, 28, generator=generator)
    labels = fashion_mnist.load("test")[1]
    whole, half = features[2000:], images[:2000]
    found = [
        frechet_distance_from_features(fmnist.extract((half + s * noise).clamp(0, 1)), whole)
        for s in (0, 0.05, 0.1, 0.2)
    ]
    assert found == sorted(found)
    blurred = torch.nn.functional.avg_pool2d(half, 3, stride=1, padding=1)
    assert frechet_distance_from_features(fmnist.extract(blurred), whole) > 2 * found[0]
    missing = features[:2000][labels[:2000] != 3]
    assert frechet_distance_from_features(missing, whole) > 2 * found[0]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 28, 28), r"shape \(2, 28, 28\)"),
        (torch.zeros(0, 1, 28, 28), "n at least 1"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "uint8"),
        (torch.full((2, 1, 28, 28), -1.0), r"images lie in \[-1, -1\]"),
        (torch.full((2, 1, 28, 28), torch.nan), r"finite values in \[0, 1\]"),
    ],
)
def test_bad_images_are_refused_by_name(images: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        fmnist.extract(images)
    with pytest.raises(ValueError, match="batch is 0"):
        fmnist.extract(torch.zeros(2, 1, 28, 28), 0)

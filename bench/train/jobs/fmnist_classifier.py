"""The job ``fmnist_classifier``: the network whose features give ``fd_fmnist``, on the 60,000 training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from bench.data import fashion_mnist
from bench.train.loop import Job, Rows, shuffle
from bench.train.recipe import Recipe
from metrics.extractors.fmnist import FmnistClassifier, weights_hash
from metrics.samples.frechet import frechet_distance_from_features

SMOOTHING = 0.05  # label smoothing


def job(recipe: Recipe, folder: Path) -> Job:
    """Make the job: the classifier, cross-entropy on randomly mirrored images, and the figures of its card."""
    images, labels = fashion_mnist.load("train")

    def draw(step: int) -> Rows:
        index = shuffle(len(images), recipe.batch, recipe.seed, step)
        batch = _pixels(images[index])
        mirrored = torch.rand(len(batch), 1, 1, 1) < 0.5
        return torch.where(mirrored, batch.flip(3), batch), labels[index]

    def loss(model: nn.Module, batch: Float[Tensor, "n 1 28 28"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        # The mean itself: by way of a loss per row the last bits, and so the hash of the weights, would be others.
        return nn.functional.cross_entropy(model(batch), labels, label_smoothing=SMOOTHING)

    # Channels last is about a third faster on a CPU; the stored weights do not depend on the layout.
    model = FmnistClassifier().to(memory_format=torch.channels_last)
    return Job(model, draw, loss, lambda model: _card(model, images))


@torch.inference_mode()
def _card(model: nn.Module, train_images: UInt8[Tensor, "n 28 28"]) -> dict[str, Any]:
    """Test accuracy and floors: the distance from n test images to n, and to 10,000, training images."""
    assert isinstance(model, FmnistClassifier)
    images, labels = fashion_mnist.load("test")
    features = _features(model, images)
    others = _features(model, train_images[: 2 * len(images) : 2])
    accuracy = (model.head(features).argmax(1) == labels).double().mean()
    x, y = features.double(), others.double()
    return {
        "weights_hash": weights_hash(model.state_dict()),
        "train_data": fashion_mnist.data_hash("train"),
        "test_data": fashion_mnist.data_hash("test"),
        "test_accuracy": float(accuracy),
        "fd_floor_equal_n": {str(n): frechet_distance_from_features(x[:n], y[:n]) for n in (500, 2000, 10_000)},
        "fd_floor_to_10000": {str(n): frechet_distance_from_features(x[:n], y) for n in (500, 2000, 10_000)},
    }


def _features(model: FmnistClassifier, images: UInt8[Tensor, "n 28 28"]) -> Float[Tensor, "n 64"]:
    return torch.cat([model.features(_pixels(part)) for part in images.split(500)])


def _pixels(images: UInt8[Tensor, "n 28 28"]) -> Float[Tensor, "n 1 28 28"]:
    return images[:, None].float() / 255  # uint8 NHW => float NCHW in [0, 1]

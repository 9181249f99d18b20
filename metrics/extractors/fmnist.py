"""The Fashion-MNIST classifier whose 64 penultimate features give ``fd_fmnist``; its card is fmnist.md."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from metrics.extractors.extractor import Extractor, weights_hash

OPENS = ("fmnist.safetensors",)
WEIGHTS = Path(__file__).with_suffix(".safetensors")


class FmnistClassifier(nn.Module):
    """A small convolutional classifier of 28x28 grey images in [0, 1], where 0 is the background.

    It has a 2x2 pixel-unshuffle and five 3x3 convolutions with batch norm at 14x14 and 7x7. The features are the mean
    over the 7x7 positions of the last, as Inception's are, so that they are not negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),  # (n, 4, 14, 14)
            *_block(4, 32),
            *_block(32, 64),
            *_block(64, 96, stride=2),  # (n, 96, 7, 7)
            *_block(96, 96),
            *_block(96, 64),
        )
        self.head = nn.Linear(64, 10)

    def features(self, images: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 64"]:
        """The 64 penultimate activations of images in [0, 1], by which ``fd_fmnist`` is computed."""
        return self.body(images).mean(dim=(2, 3))

    def forward(self, images: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 10"]:
        """The logits of the ten Fashion-MNIST classes, of images in [0, 1]."""
        return self.head(self.features(images))


@cache
def load_fmnist(device: str = "cpu") -> FmnistClassifier:
    """Load the shipped Fashion-MNIST classifier in evaluation mode, one instance per device.

    Its parameters are fixed.
    """
    model = FmnistClassifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.to(device).eval().requires_grad_(False)


@cache
def extractor_hash() -> str:
    """The first 16 hex digits of the sha256 of the shipped classifier's weights; records name it ``fmnist@<hash>``."""
    return weights_hash(load_file(WEIGHTS))


@torch.inference_mode()
def extract(images: Float[Tensor, "n 1 28 28"], batch: int = 256) -> Float[Tensor, "n 64"]:
    """The 64 features of 28 x 28 images in [0, 1] by the shipped Fashion-MNIST classifier, in float64 on their device.

    They are computed in float32, and the batch size changes them by its rounding alone. Raises ValueError on another
    shape, on no images, on integers, and on values outside [0, 1] or not finite: samples in [-1, 1] have to be mapped
    first.
    """
    if not len(images) or images.shape[1:] != (1, 28, 28) or not images.is_floating_point():
        given = f"{images.dtype} of shape {tuple(images.shape)}"
        raise ValueError(f"images are {given}; floats of shape (n, 1, 28, 28), n at least 1, are accepted")
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least 1 is accepted")
    if not bool(((images >= 0) & (images <= 1)).all()):  # false for NaN too
        raise ValueError(
            f"images lie in [{images.min():.4g}, {images.max():.4g}]; finite values in [0, 1] are accepted"
        )
    model = load_fmnist(str(images.device))
    return torch.cat([model.features(part.float()).double() for part in images.split(batch)])


def load(weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load the shipped Fashion-MNIST classifier as an extractor of 64 features, for 28 x 28 pixels in grey.

    Images of other sizes are resized, and colour becomes grey. Raises ValueError if weights are given.
    """
    if weights is not None:
        raise ValueError("fmnist comes with its weights; a path is not accepted")
    model = load_fmnist(device)
    return Extractor("fmnist", extractor_hash(), "bilinear-antialias-28-grey", model.features, model.head, device)


def _block(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU()]

"""Fashion-MNIST as a problem for samplers: its spectrum, its classes as a mixture, and its images.

The principal axes of the test images serve as coordinates. Noise has the same law in any orthonormal basis, so that a
Gaussian or a mixture that is diagonal there costs a sampler 784 numbers per image and no matrix. A method that learns
per element (DPM-Solver-v3) fits these coordinates better than it would fit pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from bench.data import fashion_mnist
from implementations.diffusion.empirical import EmpiricalOracle
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import Path
from metrics.extractors import fmnist

EXTRACTOR = f"fmnist@{fmnist.extractor_hash()}"
PIXELS = 784
LEADING = 256  # coordinates of the mixture; the others, with 3 % of the variance, stay at their mean


class Axes(NamedTuple):
    """Principal axes of the Fashion-MNIST test images in [-1, 1], and the images in these coordinates.

    ``spectrum`` has the eigenvalues, falling, and ``basis`` one axis per column.
    """

    spectrum: Float64[Tensor, "784"]
    basis: Float64[Tensor, "784 784"]  # one axis per column
    coordinates: Float64[Tensor, "n 784"]
    labels: Int64[Tensor, " n"]


@lru_cache(maxsize=1)
def principal_axes() -> Axes:
    """The principal axes of the 10,000 Fashion-MNIST test images; the spectrum is that of their sample covariance."""
    images, labels = fashion_mnist.load("test")
    flat = fashion_mnist.to_unit(images, torch.float64).flatten(1)
    spectrum, basis = torch.linalg.eigh(flat.T.cov())
    spectrum, basis = spectrum.flip(0), basis.flip(1)
    return Axes(spectrum, basis, flat @ basis, labels)


def spectral_gaussian(path: Path, device: str = "cpu") -> GaussianOracle:
    """The Gaussian with mean and covariance of the Fashion-MNIST test images, in their principal axes: 784 modes."""
    axes = principal_axes()
    return GaussianOracle(path, axes.coordinates.mean(0), axes.spectrum).to(device)


def class_mixture(path: Path, device: str = "cpu") -> MixtureOracle:
    """The ten classes of Fashion-MNIST as labelled Gaussians, diagonal on the ``LEADING`` principal axes."""
    axes = principal_axes()
    classes = [axes.coordinates[axes.labels == label, :LEADING] for label in range(10)]
    means, variances = torch.stack([x.mean(0) for x in classes]), torch.stack([x.var(0) for x in classes])
    return MixtureOracle(path, means, variances, torch.ones(10), labels=torch.arange(10)).to(device)


def mixture_pixels(coordinates: Float[Tensor, "n leading"]) -> Float64[Tensor, "n 1 28 28"]:
    """Turn samples of ``class_mixture``, coordinates on principal axes, into images (n, 1, 28, 28) of about [-1, 1]."""
    axes = principal_axes()
    rest = axes.coordinates[:, LEADING:].mean(0) @ axes.basis[:, LEADING:].T
    flat = coordinates.cpu().double() @ axes.basis[:, :LEADING].T + rest
    return flat.reshape(-1, 1, 28, 28)


def empirical(path: Path, images: int, device: str = "cpu") -> EmpiricalOracle:
    """The optimal denoiser of the first ``images`` Fashion-MNIST test images."""
    return EmpiricalOracle(path, pixels(images)).to(device)


def pixels(images: int) -> Float[Tensor, "n 1 28 28"]:
    """The first ``images`` Fashion-MNIST test images as (n, 1, 28, 28) float in [-1, 1]."""
    return fashion_mnist.to_unit(fashion_mnist.load("test")[0][:images])


def features(images: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 64"]:
    """The 64 features of images in [-1, 1] by the Fashion-MNIST classifier, for fd_fmnist.

    The images are first quantised to uint8, as if they had been saved.
    """
    return fmnist.extract(fashion_mnist.from_unit(images).float() / 255)

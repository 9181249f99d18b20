"""Operators of inverse problems, from images (n, c, h, w) to what is measured of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import avg_pool2d

from implementations.diffusion.path import Images
from implementations.guidance.blur import gaussian_blur

Operator = Callable[[Images], Tensor]


def inpainting(mask: Tensor) -> Operator:
    """Give the operator that sets to 0 where ``mask``, which broadcasts to the images, is 0 or False."""
    return lambda images: images * mask.to(images)


def blurring(sigma: float, size: int | None = None) -> Operator:
    """Give the operator that blurs by a Gaussian of ``sigma`` pixels, as ``gaussian_blur`` does."""
    return lambda images: gaussian_blur(images, sigma, size)


def super_resolution(factor: int) -> Operator:
    """Give the operator that averages blocks of ``factor`` x ``factor`` pixels."""
    return lambda images: avg_pool2d(images, factor)

"""Convolution of images along their axes, and the Gaussian blur that attention guidance and operators use."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from implementations.diffusion.path import Images


def gaussian_blur(images: Images, sigma: float, size: int | None = None) -> Images:
    """Blur images (n, c, h, w) by a Gaussian of ``sigma`` pixels, its kernel of ``size``, reflected at the borders.

    The kernel has the least odd size of at least 6 sigma by default; along each axis it is cut to what can be
    reflected, ``2 h - 1``. An infinite sigma gives the mean of every channel.
    """
    if sigma == math.inf:
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    size = math.ceil(6 * sigma) // 2 * 2 + 1 if size is None else size
    down, across = (gaussian_kernel(sigma, min(size, 2 * length - 1)).to(images) for length in images.shape[-2:])
    return convolve(images, down, across)


def gaussian_kernel(sigma: float, size: int) -> Tensor:
    """Give the weights of a Gaussian of ``sigma`` at ``size`` points around 0, an odd number, whose sum is 1."""
    points = torch.arange(size, dtype=torch.float64) - size // 2
    weights = (-(points / sigma).square() / 2).exp()
    return weights / weights.sum()


def convolve(images: Images, down: Tensor, across: Tensor) -> Images:
    """Convolve every channel of images (n, c, h, w) with odd kernels along its axes, reflected at the borders."""
    n, c, height, width = images.shape
    margin = [len(across) // 2] * 2 + [len(down) // 2] * 2
    padded = pad(images.reshape(n * c, 1, height, width), margin, mode="reflect")
    blurred = conv2d(conv2d(padded, down.reshape(1, 1, -1, 1)), across.reshape(1, 1, 1, -1))
    return blurred.reshape(n, c, height, width)

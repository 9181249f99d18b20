"""Guidance with a scale of its own for each band of frequencies of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images
from implementations.guidance.blur import convolve
from implementations.guidance.contract import (
    CONDITIONAL,
    UNCONDITIONAL,
    Evaluation,
    Evaluations,
    Guidance,
    Level,
    check_scale,
)
from implementations.guidance.spaces import check_space, shift, view

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt and Adelson's kernel, along each axis


class FrequencyDecoupled(Guidance):
    """Frequency-decoupled guidance (2506.19713): ``sum_k band_k(u) + w_k (band_k(c) - band_k(u))``.

    The bands are those of a Laplacian pyramid, and ``scale`` has their w from high to low frequencies: two in the
    paper, the first the larger. In ``space``, which is x0 in the paper. Where all w are 1 the prediction is that of
    what is wrapped, bit for bit; where they are equal it is classifier-free guidance. Raises ValueError on no scales,
    on samples that are no images (n, c, h, w), and on images too small for so many bands.
    """

    def __init__(self, denoiser: Denoiser, *, scale: Sequence[float] = (8.0, 4.0), space: str = "x0", **how: Any):
        super().__init__(denoiser, **how)
        if isinstance(scale, int | float) or not len(scale):
            raise ValueError(f"scale must have one w per band, from high to low frequencies, got {scale!r}")
        self.scale, self.space = tuple(check_scale("scale", one) for one in scale), check_space(space)
        self._neutral = all(one == 1 for one in self.scale)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self._neutral else (CONDITIONAL, UNCONDITIONAL)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self._neutral or at[CONDITIONAL] is at[UNCONDITIONAL]:
            return total
        # a pyramid is linear, so that the bands of the difference are enough
        difference = view(at[CONDITIONAL], self.space) - view(at[UNCONDITIONAL], self.space)
        bands = laplacian_pyramid(difference, len(self.scale))
        return shift(
            total, self.space, from_pyramid([band * (w - 1) for band, w in zip(bands, self.scale, strict=True)])
        )


def laplacian_pyramid(images: Tensor, bands: int) -> list[Tensor]:
    """Split images (n, c, h, w) into bands, from the highest frequencies at full size to the lowest.

    A level is blurred by the binomial kernel and halved bilinearly, and what it lacks of the one above is a band.
    Raises ValueError on other shapes, and where the smallest level to be blurred has fewer than 3 rows or columns.
    """
    if images.ndim != 4:
        raise ValueError(f"bands of frequencies are of images (n, c, h, w), got {tuple(images.shape)}")
    found = []
    for k in range(bands - 1):
        height, width = images.shape[-2:]
        if min(height, width) < 4:
            raise ValueError(f"{bands} bands are too many: level {k} is {height} x {width}, of at least 4 x 4 needed")
        small = interpolate(_blur(images), size=((height + 1) // 2, (width + 1) // 2), mode="bilinear")
        found.append(images - _enlarge(small, (height, width)))
        images = small
    return [*found, images]


def from_pyramid(bands: Sequence[Tensor]) -> Tensor:
    """Put the bands of ``laplacian_pyramid`` together again."""
    image = bands[-1]
    for band in reversed(bands[:-1]):
        image = _enlarge(image, (band.shape[-2], band.shape[-1])) + band
    return image


def _enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    return _blur(interpolate(image, size=size, mode="bilinear"))


def _blur(images: Images) -> Images:
    kernel = torch.tensor(BINOMIAL, dtype=images.dtype, device=images.device)
    return convolve(images, kernel, kernel)

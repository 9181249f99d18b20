"""Samples of a model in training: drawn by the recipe's sampler from starts of fixed seeds, and put into a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bench.files import write_atomic
from bench.train.recipe import Sampling
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.noise import PerSampleNoise

BATCH = 250
COLUMNS = 10  # of a picture


@torch.no_grad()
def draw_samples(
    denoiser: Denoiser, shape: tuple[int, ...], classes: int, sampling: Sampling, n: int, device: torch.device | str
) -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, " n"] | None]:
    """Draw n images and, where there are classes, the label of each; sample i is of class i modulo their number.

    Sample i begins from the noise of seed i, so that models are compared from the same starts.
    """
    times = SCHEDULES[sampling.schedule](denoiser.path, sampling.steps, **sampling.schedule_options)
    labels = torch.arange(n) % classes if classes else None
    drawn = []
    for first in range(0, n, BATCH):
        noise = PerSampleNoise(range(first, min(first + BATCH, n)))
        start = noise(0, torch.empty(len(noise.seeds), *shape, device=device))
        condition = None if labels is None else labels[first : first + BATCH].to(device)
        x = SAMPLERS[sampling.sampler](
            denoiser,
            denoiser.path.prior(start, times[0]),
            times,
            condition=condition,
            noise=noise,
            **sampling.options,
        )
        drawn.append(to_pixels(x))
    return torch.cat(drawn), labels


def to_unit(images: UInt8[Tensor, "n c h w"]) -> Tensor:
    """Scale pixels k in 0..255 to ``2 k / 255 - 1`` in [-1, 1], float32."""
    return images.float() / 127.5 - 1


def to_pixels(x: Tensor) -> UInt8[Tensor, "n c h w"]:
    """Turn images in [-1, 1] into pixels 0..255 on the CPU: clamp and round; the inverse of ``to_unit``."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)


def write_picture(file: Path, images: UInt8[Tensor, "n c h w"], rows: int = 10) -> None:
    """Write the first images as a PNG with ten columns, and so one class per column where there are ten."""
    from PIL import Image

    images = images[: rows * COLUMNS]
    n, c, h, w = images.shape
    images = torch.cat([images, images.new_full((-n % COLUMNS, c, h, w), 255)])
    grid = images.reshape(-1, COLUMNS, c, h, w).permute(0, 3, 1, 4, 2).reshape(-1, COLUMNS * w, c)
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grid.squeeze(2).numpy())).save(content, "PNG", optimize=True)
    write_atomic(file, content.getvalue())

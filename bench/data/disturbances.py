"""Faults that a set of generated images may have, one kind at a time, at a level from 0 (no fault) to 1.

- ``blur``: Gaussian blur with a standard deviation of up to 2 pixels.
- ``noise``: normal noise with a standard deviation of up to a quarter of the range, clipped to the range.
- ``class_drop``: up to nine of the ten classes are missing, the last ones first.
- ``mode_drop``: of each class only the images nearest to its mean image remain, at level 1 a tenth.
- ``memorised``: a share of the images are copies of reference images.

Missing images are replaced by repeats of those that remain, so that the number of images does not change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

Fault = Callable[[Tensor, Tensor, float, Tensor, torch.Generator], Tensor]  # images, labels, level, reference


def disturb(
    images: UInt8[Tensor, "n 28 28"],
    labels: Int64[Tensor, " n"],
    disturbance: str,
    level: float,
    *,
    reference: UInt8[Tensor, "m 28 28"],
    seed: int = 0,
) -> UInt8[Tensor, "n 28 28"]:
    """Give a set of images one kind of fault, at a level from 0 to 1: blur, noise, class_drop, mode_drop or memorised.

    Missing images are replaced by repeats of those that remain; memorised ones are copies of the ``reference``. The
    same random numbers are used at every level. Raises ValueError on another kind or level.
    """
    if disturbance not in DISTURBANCES:
        raise ValueError(f"disturbance {disturbance!r} is not one of {', '.join(DISTURBANCES)}")
    if not 0 <= level <= 1:
        raise ValueError(f"level is {level}; 0 to 1 is accepted")
    if level == 0:
        return images
    generator = torch.Generator().manual_seed(seed)
    return DISTURBANCES[disturbance](images, labels, level, reference, generator)


def _blur(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    soft = gaussian_blur(images[:, None].float(), kernel_size=[13, 13], sigma=[2 * level, 2 * level])
    return soft[:, 0].round().to(torch.uint8)


def _noise(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator)
    return (images + 255 / 4 * level * noise).round().clamp(0, 255).to(torch.uint8)


def _class_drop(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    return _refill(images, labels < 10 - round(9 * level), generator)


def _mode_drop(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    kept = torch.zeros(len(images), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        pixels = images[own].flatten(1).double()
        near = (pixels - pixels.mean(0)).norm(dim=1).argsort(stable=True)
        kept[own[near[: max(1, round((1 - 0.9 * level) * len(own)))]]] = True
    return _refill(images, kept, generator)


def _memorise(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    which = torch.randperm(len(images), generator=generator)[: round(level * len(images))]
    copies = images.clone()
    copies[which] = reference[torch.randint(len(reference), (len(which),), generator=generator)]
    return copies


def _refill(images: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """The images that are kept, with the others replaced by repeats of them."""
    left = kept.nonzero().squeeze(1)
    place = torch.arange(len(images))
    place[~kept] = left[torch.randint(len(left), (len(images) - len(left),), generator=generator)]
    return images[place]


DISTURBANCES: dict[str, Fault] = {
    "blur": _blur,
    "noise": _noise,
    "class_drop": _class_drop,
    "mode_drop": _mode_drop,
    "memorised": _memorise,
}

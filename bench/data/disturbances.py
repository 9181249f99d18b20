"""What may be wrong with a set of generated images, one kind at a time, dosed from 0 (nothing) to 1.

- ``blur``: a Gaussian of deviation up to 2 pixels.
- ``noise``: normals of deviation up to a quarter of the range are added and the result is cut to it.
- ``class_drop``: up to nine of the ten classes are gone, the last ones first.
- ``mode_drop``: of each class, only the part nearest to its mean image is left, at level 1 a tenth.
- ``memorised``: a share of the images are the reference's own.

The dropped make room for repeats of what is left, so that every set has as many images as it was given.
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
    """The images with one kind of fault; one draw of random numbers serves every level. ValueError on another kind."""
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


def _memorised(images: Tensor, labels: Tensor, level: float, reference: Tensor, generator: torch.Generator) -> Tensor:
    which = torch.randperm(len(images), generator=generator)[: round(level * len(images))]
    copies = images.clone()
    copies[which] = reference[torch.randint(len(reference), (len(which),), generator=generator)]
    return copies


def _refill(images: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """What is kept, and repeats of it in the place of the rest."""
    left = kept.nonzero().squeeze(1)
    place = torch.arange(len(images))
    place[~kept] = left[torch.randint(len(left), (len(images) - len(left),), generator=generator)]
    return images[place]


DISTURBANCES: dict[str, Fault] = {
    "blur": _blur,
    "noise": _noise,
    "class_drop": _class_drop,
    "mode_drop": _mode_drop,
    "memorised": _memorised,
}

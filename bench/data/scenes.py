"""Detection scenes composed of Fashion-MNIST test images, as COCO JSON with exact boxes.

A scene is a grey image with 1 to 12 objects of 10 classes, and in about one scene of ten there is also a crowd.

- *Size*: small, medium and large are equally likely, by area relative to the image. The bounds are COCO's 32^2 and 96^2
  pixels relative to 640 x 480 (so that at the default size they are COCO's own). Sizes are log-uniform within each
  range. Width over height is log-uniform in [1/4, 4].
- *Box*: the silhouette of the source image (pixels above 16) is cropped to its extents and stretched to the box. Every
  output pixel averages the source pixels that it touches, and belongs to the object if one of them does. So the object
  reaches all four sides of its box, which has integer coordinates, lies inside the image, and ignores occlusion.
- *Occlusion*: larger objects are pasted first, and smaller ones over them. Positions are drawn again until every object
  shows 30 % of its pixels. Each time that this fails, the bound is lowered by a tenth, but never to no pixel.
- *Contrast*: objects are brighter or darker than every background pixel, by 12 grey levels at the faintest.
- *Crowd* (``iscrowd`` = 1): one box around 8 to 24 objects of one class, on a jittered lattice with cells of 1/30 of
  the image's shorter side; its members have no boxes of their own.
- *COCO*: ``area`` is the box's width x height. Image ids are 0, 1, ... (the index of ``Scenes.image``), category ids
  are the Fashion-MNIST label + 1, annotation ids count from 1. Scene i depends on (seed, i, size) alone, not on n.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bench.data.fashion_mnist import CLASSES, LICENCE, load
from bench.files import write_atomic

SMALL, LARGE = 32**2 / (640 * 480), 96**2 / (640 * 480)  # bounds of medium areas, as shares of the image
_SMALLEST = 8**2 / (640 * 480)
_MAX_OBJECTS = 12
_CROWD_SHARE = 0.1
_VISIBLE = 0.3


@dataclass(frozen=True)
class Patch:
    """An object or crowd as it is pasted into a scene: its class, place, pixels, and contrast to the background."""

    label: int
    x: int
    y: int
    mask: Bool[np.ndarray, "h w"]
    texture: Float[np.ndarray, "h w"]  # in [0, 1]
    contrast: float  # grey levels that the texture spans; negative: darker than the background
    crowd: bool = False

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the scene that the patch covers, as slices."""
        height, width = self.mask.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


@dataclass(frozen=True)
class Scenes:
    """``n`` detection scenes: ``coco`` (the data set, ready for JSON), ``image(i)``, ``save(folder)``."""

    n: int
    seed: int
    size: tuple[int, int]

    @cached_property
    def coco(self) -> dict[str, Any]:
        """The scenes as a COCO data set: info, licenses, images, annotations (boxes ``xywh``), categories."""
        height, width = self.size
        info = {"description": "scenes of Fashion-MNIST test images", "version": "1", "seed": self.seed}
        images = [
            {"id": i, "file_name": f"{i:06d}.png", "height": height, "width": width, "license": 1}
            for i in range(self.n)
        ]
        patches = [(i, patch) for i in range(self.n) for patch in self.patches(i)]
        return {
            "info": info,
            "licenses": [{"id": 1, "name": LICENCE, "url": "https://github.com/zalandoresearch/fashion-mnist"}],
            "images": images,
            "annotations": [_annotation(number, i, patch) for number, (i, patch) in enumerate(patches, 1)],
            "categories": [{"id": i, "name": name, "supercategory": "clothing"} for i, name in enumerate(CLASSES, 1)],
        }

    def patches(self, i: int) -> list[Patch]:
        """The objects of scene ``i``, in the order in which they are pasted and annotated."""
        if not 0 <= i < self.n:
            raise IndexError(f"scene {i} is not among the {self.n}")
        return _compose(np.random.default_rng([self.seed, i]), *self.size)

    def image(self, i: int, only: Collection[int] | None = None) -> UInt8[Tensor, "h w"]:
        """Scene ``i`` in grey levels; with ``only``, just these of its objects are pasted (none: the background)."""
        rng = np.random.default_rng([self.seed, i, 1])
        base, background = _background(rng, *self.size)
        canvas = background.copy()
        for index, patch in enumerate(self.patches(i)):
            if only is None or index in only:
                values = base + math.copysign(_FAINTEST, patch.contrast) + patch.contrast * patch.texture
                canvas[patch.window][patch.mask] = values[patch.mask]
        return torch.from_numpy(canvas.round().astype(np.uint8))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the scenes: one PNG per image and then ``annotations.json``; each file appears whole or not at all.

        Raises UsageError where the folder cannot be written to.
        """
        from PIL import Image

        folder = Path(folder)
        for i, entry in enumerate(self.coco["images"]):
            picture = io.BytesIO()
            Image.fromarray(self.image(i).numpy()).save(picture, format="PNG")
            write_atomic(folder / entry["file_name"], picture.getvalue())
        write_atomic(folder / "annotations.json", json.dumps(self.coco).encode())


def scenes(n: int, seed: int = 0, size: tuple[int, int] = (480, 640)) -> Scenes:
    """Make ``n`` detection scenes of ``size`` (height, width) in pixels; images are composed when they are accessed.

    Raises ValueError on a negative number or seed, a side under 160 pixels, and sides with a ratio above 4.
    """
    if n < 0 or seed < 0:
        raise ValueError(f"n = {n}, seed = {seed}: neither may be negative")
    if min(size) < 160 or max(size) > 4 * min(size):
        raise ValueError(f"size {tuple(size)}: height and width of 160 pixels at least, at most 4 : 1, are accepted")
    return Scenes(n, seed, (int(size[0]), int(size[1])))


def _annotation(number: int, image: int, patch: Patch) -> dict[str, Any]:
    height, width = patch.mask.shape
    return {
        "id": number,
        "image_id": image,
        "category_id": patch.label + 1,
        "bbox": [patch.x, patch.y, width, height],
        "area": width * height,
        "iscrowd": int(patch.crowd),
    }


# Composition ---------------------------------------------------------------------------------------------------------

_DARKEST, _BRIGHTEST = 80.0, 175.0  # range of the mean of the background
_ROUGH = 8.0  # the background differs from its mean by at most this
_FAINTEST = 12.0  # least contrast of an object to the mean, and so at least 4 to every background pixel
_RANGE = min(_DARKEST, 255 - _BRIGHTEST) - _FAINTEST  # grey levels that remain for texture, in either direction


def _compose(rng: np.random.Generator, height: int, width: int) -> list[Patch]:
    patches = [_object(rng, height, width) for _ in range(rng.integers(1, _MAX_OBJECTS + 1))]
    if rng.random() < _CROWD_SHARE:
        patches.append(_crowd(rng, min(height, width)))
    patches.sort(key=lambda patch: -patch.mask.size)

    owner = np.zeros((height, width), np.int8)  # 0: background, k: the k-th patch
    least = np.array([_VISIBLE * patch.mask.sum() for patch in patches])
    visible = np.array([patch.mask.sum() for patch in patches])
    return [_place(rng, patch, owner, number, visible, least) for number, patch in enumerate(patches, 1)]


def _place(
    rng: np.random.Generator, patch: Patch, owner: np.ndarray, number: int, visible: np.ndarray, least: np.ndarray
) -> Patch:
    """Place the patch where it leaves enough of every earlier one visible; updates ``owner`` and ``visible``."""
    height, width = patch.mask.shape
    while True:
        x = int(rng.integers(0, owner.shape[1] - width + 1))
        y = int(rng.integers(0, owner.shape[0] - height + 1))
        window = owner[y : y + height, x : x + width]
        left = visible - np.bincount(window[patch.mask], minlength=len(visible) + 1)[1:]
        if (left >= np.maximum(least, 1)).all():
            window[patch.mask] = number
            visible[:] = left
            return replace(patch, x=x, y=y)
        least = 0.9 * least


def _object(rng: np.random.Generator, height: int, width: int) -> Patch:
    w, h = _sides(rng, height, width)
    label = int(rng.integers(10))
    mask, texture = _stretch(*_source(rng, label), h, w)
    return Patch(label, 0, 0, mask, texture, _contrast(rng))


def _sides(rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    """Integer sides whose area is strictly inside the range of the drawn size, with a ratio from 1:4 to 4:1."""
    largest = 0.95 * min(height, width) ** 2 / 4  # fits into the image at every ratio, so that none is favoured
    bounds = np.array([_SMALLEST, SMALL, LARGE]) * height * width
    low, high = list(zip(bounds, [*bounds[1:], largest], strict=True))[rng.integers(3)]
    while True:
        area = math.exp(rng.uniform(math.log(low), math.log(high)))
        ratio = 4.0 ** rng.uniform(-1, 1)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if low < w * h < high and w <= 4 * h and h <= 4 * w:
            return w, h


def _crowd(rng: np.random.Generator, shorter: int) -> Patch:
    label, contrast, cell = int(rng.integers(10)), _contrast(rng), shorter // 30
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(4, 7))
    mask = np.zeros((rows * cell, columns * cell), bool)
    texture = np.zeros(mask.shape)
    for row, column in np.ndindex(rows, columns):
        h, w = rng.integers(math.ceil(cell / 2), cell + 1, 2)
        y, x = row * cell + rng.integers(cell - h + 1), column * cell + rng.integers(cell - w + 1)
        window = slice(y, y + h), slice(x, x + w)
        mask[window], texture[window] = _stretch(*_source(rng, label), int(h), int(w))
    mask, texture = _trim(mask, texture)
    return Patch(label, 0, 0, mask, texture, contrast, crowd=True)


def _contrast(rng: np.random.Generator) -> float:
    return float(rng.choice([-1, 1]) * rng.uniform(0.1, 1.0) * _RANGE)


def _background(rng: np.random.Generator, height: int, width: int) -> tuple[float, np.ndarray]:
    """The mean grey level, and the background: a slope with noise around that mean."""
    base, angle = rng.uniform(_DARKEST, _BRIGHTEST), rng.uniform(0, 2 * math.pi)
    y, x = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)
    slope = math.sin(angle) * y + math.cos(angle) * x  # within sqrt(1/2)
    noise = rng.uniform(-1, 1, (height, width))
    return base, base + _ROUGH * (0.9 * slope + 0.3 * noise)


# Source images -------------------------------------------------------------------------------------------------------


@cache
def _silhouettes() -> tuple[np.ndarray, list[np.ndarray]]:
    images, labels = load("test")
    drawn = images.flatten(1).max(dim=1).values > 16
    return images.numpy(), [torch.nonzero(drawn & (labels == k)).flatten().numpy() for k in range(10)]


def _source(rng: np.random.Generator, label: int) -> tuple[Bool[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """Silhouette and pixels of a random test image of the class, cropped to the extents of the silhouette."""
    images, of_class = _silhouettes()
    image = images[rng.choice(of_class[label])]
    return _trim(image > 16, image.astype(np.int64))


def _trim(mask: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return mask[window], pixels[window]


def _stretch(
    mask: Bool[np.ndarray, "a b"], pixels: Int[np.ndarray, "a b"], height: int, width: int
) -> tuple[Bool[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Mask and texture of height x width: each output pixel averages the silhouette's source pixels that it touches."""
    count, total = (_sum_touched(_sum_touched(v, height).T, width).T for v in (mask.astype(np.int64), mask * pixels))
    return count > 0, total / np.maximum(255 * count, 1)


def _sum_touched(values: Int[np.ndarray, "source k"], out: int) -> Int[np.ndarray, "out k"]:
    """Sums of the source rows that each of ``out`` equal parts touches; in integers, and so exact."""
    edge = np.arange(out + 1) * len(values)
    sums = np.zeros((len(values) + 1, values.shape[1]), np.int64)
    np.cumsum(values, axis=0, out=sums[1:])
    return sums[-(-edge[1:] // out)] - sums[edge[:-1] // out]

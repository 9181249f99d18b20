"""Crowded scenes and the candidates of a simulated detector for them, as the input of an NMS.

The objects of one image are those of several detection scenes laid over one another: a tenth as many objects as there
are candidates, so that crowding grows with their number. Classes are drawn anew. Of the candidates of an image:

- Four in five belong to an object, each object with equal probability. The centre is moved by ``level`` times standard
  normals times the sides, and the sides are multiplied by ``exp(level z)``; ``level`` is ``.4 r^2``, mostly small. The
  score is ``sigmoid(6 (IoU - .6) + z)``, with the IoU to the object. One in ten gets a class drawn anew, and a score as
  if its IoU were .25 less.
- One in five is background: the sides of an object at a random place, of any class, with score ``sigmoid(z - 2.5)``.

``ious`` is what a localisation branch would predict: the IoU with the object plus a tenth of a normal, clipped to [0,
1], and uniform up to .3 on the background. Here r is uniform in [0, 1] and z standard normal, drawn anew each time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.data.scenes import scenes

SIZE = (480, 640)  # height, width
_OBJECT = 10  # candidates per object
_BACKGROUND, _CONFUSED = 0.2, 0.1


class Crowd(NamedTuple):
    """Candidates of a simulated detector for crowded scenes, sorted by image, and the truth as COCO JSON.

    A label is the COCO category id - 1; ``ious`` are the IoUs that a localisation branch would predict.
    """

    boxes: Float[Tensor, "n 4"]  # xyxy in pixels
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    image: Int[Tensor, " n"]
    ious: Float[Tensor, " n"]
    truth: dict[str, Any]


@lru_cache(maxsize=4)
def crowds(boxes: int, images: int, classes: int = 10, seed: int = 0) -> Crowd:
    """Draw crowded scenes for NMS: ``boxes`` candidates in each of ``images`` images, ten per object.

    The objects have ``classes`` classes. Raises ValueError where one of the numbers is not positive.
    """
    if min(boxes, images, classes) < 1:
        raise ValueError(f"boxes {boxes}, images {images}, classes {classes}: positive numbers are accepted")
    rng = np.random.default_rng([seed, boxes, images, classes])
    objects = max(1, boxes // _OBJECT)
    truth = _objects(objects * images, seed)  # xywh
    category = rng.integers(classes, size=len(truth))

    n = boxes * images
    image = np.repeat(np.arange(images), boxes)
    own = image * objects + rng.integers(objects, size=n)
    level = 0.4 * rng.random(n) ** 2
    found = _jitter(truth[own], level, rng)
    overlap = _iou(found, truth[own])
    confused = rng.random(n) < _CONFUSED
    score = _sigmoid(6 * (overlap - 0.25 * confused - 0.6) + rng.standard_normal(n))
    label = np.where(confused, rng.integers(classes, size=n), category[own])
    ious = np.clip(overlap + 0.1 * rng.standard_normal(n), 0, 1)

    background = rng.random(n) < _BACKGROUND
    sides = truth[own, 2:]
    anywhere = np.c_[rng.random((n, 2)) * ([SIZE[1], SIZE[0]] - sides), sides]
    found = np.where(background[:, None], anywhere, found)
    score = np.where(background, _sigmoid(rng.standard_normal(n) - 2.5), score)
    label = np.where(background, rng.integers(classes, size=n), label)
    ious = np.where(background, 0.3 * rng.random(n), ious)
    return Crowd(
        torch.from_numpy(np.c_[found[:, :2], found[:, :2] + found[:, 2:]]).float(),  # xywh => xyxy
        torch.from_numpy(score).float(),
        torch.from_numpy(label),
        torch.from_numpy(image),
        torch.from_numpy(ious).float(),
        _coco(truth, category, np.repeat(np.arange(images), objects), classes),
    )


def _objects(n: int, seed: int) -> Float[np.ndarray, "n 4"]:
    """The first ``n`` boxes of as many scenes as needed, without crowds."""
    number = math.ceil(n / 5)
    while True:
        found = [truth["bbox"] for truth in scenes(number, seed, SIZE).coco["annotations"] if not truth["iscrowd"]]
        if len(found) >= n:
            return np.array(found[:n], dtype=float)
        number += math.ceil(n / 5)


def _jitter(box: Float[np.ndarray, "n 4"], level: Float[np.ndarray, " n"], rng: np.random.Generator) -> np.ndarray:
    noise = level[:, None] * rng.standard_normal(box.shape)
    sides = box[:, 2:] * np.exp(noise[:, 2:])
    return np.c_[box[:, :2] + noise[:, :2] * box[:, 2:] - (sides - box[:, 2:]) / 2, sides]


def _iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """IoU row by row, of ``xywh`` boxes with positive sides."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    inner = np.maximum(high - low, 0).prod(1)
    return inner / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - inner)


def _sigmoid(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return 1 / (1 + np.exp(-x))


def _coco(box: np.ndarray, category: np.ndarray, image: np.ndarray, classes: int) -> dict[str, Any]:
    height, width = SIZE
    columns = zip(image.tolist(), category.tolist(), box.tolist(), strict=True)
    return {
        "images": [{"id": int(i), "height": height, "width": width} for i in np.unique(image)],
        "categories": [{"id": i + 1, "name": f"class {i + 1}"} for i in range(classes)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for k, (i, c, b) in enumerate(columns, 1)
        ],
    }

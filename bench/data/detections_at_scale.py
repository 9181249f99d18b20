"""Random ground truth and detections of the size of COCO's validation set, to time evaluations; no pictures.

Every truth has two detections near it; the others are random boxes of any class. Coordinates are multiples of 1/16
pixel and scores are float32, so that tensors and COCO's objects hold the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class DetectionsAtScale:
    """Random truths and detections as tensors (``targets``, ``outputs``) and as COCO has them (``coco``, ``entries``).

    Image ids count from 0, category ids are the ``labels`` and count from 0; boxes are sorted by image.
    """

    n_images: int
    n_classes: int
    image: tuple[Int[np.ndarray, " truth"], Int[np.ndarray, " found"]]
    box: tuple[Float[np.ndarray, "truth 4"], Float[np.ndarray, "found 4"]]  # xywh
    label: tuple[Int[np.ndarray, " truth"], Int[np.ndarray, " found"]]
    score: Float[np.ndarray, " found"]

    @cached_property
    def targets(self) -> list[dict[str, Tensor]]:
        """The truths as torchmetrics takes them: one mapping per image with ``boxes`` (``xyxy``) and ``labels``."""
        return self._per_image(0)

    @cached_property
    def outputs(self) -> list[dict[str, Tensor]]:
        """The detections as torchmetrics takes them: per image, a mapping of ``boxes``, ``labels`` and ``scores``.

        Boxes are ``xyxy``.
        """
        return self._per_image(1, scores=torch.from_numpy(self.score.astype(np.float32)))

    @cached_property
    def coco(self) -> dict[str, Any]:
        """The truths as a COCO data set, with boxes ``xywh``; annotation ids count from 1."""
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        area = self.box[0][:, 2] * self.box[0][:, 3]
        columns = (range(1, len(area) + 1), *self._lists(0), area.tolist(), [0] * len(area))
        return {
            "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in range(self.n_images)],
            "categories": [{"id": k, "name": str(k)} for k in range(self.n_classes)],
            "annotations": [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)],
        }

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """The detections as a COCO result list, with boxes ``xywh``."""
        keys = ("image_id", "category_id", "bbox", "score")
        return [dict(zip(keys, row, strict=True)) for row in zip(*self._lists(1), self.score.tolist(), strict=True)]

    def _lists(self, side: int) -> tuple[list[Any], ...]:
        return tuple(column[side].tolist() for column in (self.image, self.label, self.box))

    def _per_image(self, side: int, **columns: Tensor) -> list[dict[str, Tensor]]:
        box = self.box[side]
        corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1).astype(np.float32)
        columns |= {"boxes": torch.from_numpy(corners), "labels": torch.from_numpy(self.label[side])}
        count = np.bincount(self.image[side], minlength=self.n_images).tolist()
        parts = {key: column.split(count) for key, column in columns.items()}
        return [{key: part[i].clone() for key, part in parts.items()} for i in range(self.n_images)]


def detections_at_scale(
    images: int = 5000, truths: int = 36_781, detections: int = 500_000, classes: int = 80, seed: int = 0
) -> DetectionsAtScale:
    """Draw random truths and detections with exactly these numbers of images, boxes and classes, to time evaluations.

    Detections are spread evenly over the images. Raises ValueError for fewer than two detections per truth, and without
    an image or class.
    """
    if images < 1 or classes < 1 or detections < 2 * truths:
        raise ValueError(
            f"{images} images, {classes} classes, {detections} detections of {truths} truths: one image and class at"
            " least, and two detections per truth, are accepted"
        )
    rng = np.random.default_rng(seed)
    image, box, label = rng.integers(0, images, truths), _boxes(rng, truths), rng.integers(0, classes, truths)
    sides = np.tile(box[:, 2:], (2, 1))
    near = np.tile(box, (2, 1)) + np.c_[0.05 * sides * rng.standard_normal(sides.shape), np.zeros_like(sides)]
    near[:, 2:] *= np.exp(rng.normal(0, 0.1, sides.shape))
    others = detections - 2 * truths
    found_image = np.concatenate([image, image, np.arange(others) % images])
    found_box = np.concatenate([near, _boxes(rng, others)])
    found_label = np.concatenate([label, label, rng.integers(0, classes, others)])
    score = rng.random(detections, dtype=np.float32)
    score[: 2 * truths] = np.sqrt(score[: 2 * truths])  # detections near truths tend to score higher
    order, found_order = np.argsort(image, kind="stable"), np.argsort(found_image, kind="stable")
    box, found_box = (np.maximum(np.round(16 * b), 1) / 16 for b in (box, found_box))
    return DetectionsAtScale(
        images,
        classes,
        (image[order], found_image[found_order]),
        (box[order], found_box[found_order]),
        (label[order], found_label[found_order]),
        score[found_order].astype(float),
    )


def _boxes(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 4"]:
    """Boxes with sides log-uniform in 8 to 300 pixels, anywhere in the image."""
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (n, 2)))
    return np.concatenate([rng.random((n, 2)) * ([WIDTH, HEIGHT] - sides), sides], axis=1)

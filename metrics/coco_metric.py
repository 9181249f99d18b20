"""COCO's figures as a ``torchmetrics.Metric``; a file of its own, since importing torchmetrics takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metrics.coco import CocoResult, evaluate_coco
from metrics.detection_arrays import Columns, read_arrays

# Rows of the states, all in float64, which holds ids and labels up to 2^53 exactly.
_STATES = {
    "images": 3,  # id (-1: none), how many truths, how many detections
    "truths": 7,  # x y w h, label, area, crowd
    "detections": 6,  # x y w h, label, score
}


class CocoAP(Metric):
    """COCO's twelve figures of detections seen in batches, boxes ``xyxy``.

    ``update(preds, target)`` takes lists of one mapping an image: ``boxes, scores, labels``, and ``boxes, labels`` with
    ``iscrowd`` and ``area`` if there are any. The states are the boxes themselves, so that shards and ranks merge
    exactly. ``image_id`` in the targets (torchvision's data sets have it) names an image: equal scores of different
    images then stand in the order of the ids, whatever the shards, and an image that a sampler repeats to fill its
    batches counts once. Without ids images stand as they come. Options are those of ``torchmetrics.Metric``.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(self, max_detections: Sequence[int] = (1, 10, 100), **options: Any) -> None:
        super().__init__(**options)
        self.max_detections = tuple(max_detections)
        for name in _STATES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]]) -> None:
        """Add a batch; raises ValueError as ``evaluate_coco`` does, and where the sides are of unlike length."""
        if len(preds) != len(target):
            raise ValueError(f"{len(target)} images in the targets, {len(preds)} in the predictions")
        if not len(target):
            return
        truth, found = read_arrays(target, "ground truth"), read_arrays(preds, "detections")
        if truth is None or found is None:
            raise ValueError(
                "lists of mappings, one an image, with boxes, labels and (predictions) scores are accepted"
            )
        ids = [int(entry.get("image_id", -1)) for entry in target]
        counts = (np.bincount(side.image, minlength=len(ids)) for side in (truth, found))
        self._append("images", ids, *counts)
        self._append("truths", truth.box, truth.category, truth.area, truth.crowd)
        self._append("detections", found.box, found.category, found.score)

    def compute(self) -> dict[str, Float64[Tensor, ""]]:
        """The figures by COCO's names, -1 without ground truth; raises ValueError if only some images have ids."""
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.result().figures.items()}

    def result(self) -> CocoResult:
        """All that ``evaluate_coco`` gives, of what this process holds."""
        images, truths, detections = (self._rows(name) for name in _STATES)
        ids = images[:, 0].astype(np.int64)
        named = ids >= 0
        if named.any() and not named.all():
            raise ValueError(f"{named.sum()} of {len(ids)} images have an image_id; all or none is accepted")
        names, first = np.unique(ids, return_index=True) if named.any() else (ids, np.arange(len(ids)))
        place = np.full(len(ids), -1)  # among those that count
        place[first] = np.arange(len(first))
        sides = []
        for rows, count in ((truths, images[:, 1]), (detections, images[:, 2])):
            image = np.repeat(place, count.astype(np.int64))
            sides.append((rows[image >= 0], image[image >= 0]))
        (truths, at), (detections, found_at) = sides
        none, no = np.zeros(len(truths)), np.zeros(len(truths), bool)
        label, area, crowd = truths[:, 4].astype(np.int64), truths[:, 5], truths[:, 6].astype(bool)
        truth = Columns(at, label, truths[:, :4], area, none, crowd, no, len(names))
        box, label, no = detections[:, :4], detections[:, 4].astype(np.int64), np.zeros(len(detections), bool)
        found = Columns(found_at, label, box, box[:, 2] * box[:, 3], detections[:, 5], no, no, len(names))
        return evaluate_coco(truth, found, max_detections=self.max_detections)

    def sync(self, *arguments: Any, **options: Any) -> None:
        """As torchmetrics has it; a rank without images contributes rows of the right width."""
        for name, width in _STATES.items():
            if not len(getattr(self, name)):
                setattr(self, name, [torch.zeros(0, width, dtype=torch.float64, device=self.device)])
        super().sync(*arguments, **options)

    def _append(self, name: str, *columns: Any) -> None:
        rows = np.column_stack([np.asarray(column, dtype=float) for column in columns])
        getattr(self, name).append(torch.from_numpy(rows).to(self.device))

    def _rows(self, name: str) -> np.ndarray:
        state = getattr(self, name)
        return dim_zero_cat(state).cpu().numpy() if len(state) else np.zeros((0, _STATES[name]))

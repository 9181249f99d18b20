"""COCO's figures as a ``torchmetrics.Metric``, in a file of its own, since importing torchmetrics takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metrics.detection.coco import CocoResult, evaluate_coco
from metrics.detection.formats.arrays import ArrayBoxes, read_arrays
from metrics.detection.formats.coco_json import Boxes
from metrics.detection.params import make_params

# Width and dtype of the rows of each state: ids, labels and counts are whole numbers of 64 bits, the rest is float64.
_STATES: dict[str, tuple[int, torch.dtype]] = {
    "images": (4, torch.int64),  # id, whether it has one, number of truths, number of detections
    "truths": (6, torch.float64),  # x y w h, area, crowd
    "truth_labels": (1, torch.int64),
    "detections": (5, torch.float64),  # x y w h, score
    "detection_labels": (1, torch.int64),
}


class CocoAP(Metric):
    """COCO's twelve figures of detections seen in batches, boxes ``xyxy``.

    ``update(preds, target)`` takes lists with one mapping per image: ``boxes, scores, labels`` in ``preds``, and
    ``boxes, labels``, optionally ``iscrowd`` and ``area``, in ``target``. The states are the boxes themselves, so that
    shards and ranks merge exactly. ``image_id`` in the targets (torchvision's data sets have it) identifies an image:
    equal scores of different images are then ordered by id, whatever the shards, and an image that a sampler repeats to
    fill its batches counts once. Without ids images keep the order in which they come. Ids and labels are whole numbers
    of 64 bits, and stay exact. The parameters are those of ``evaluate_coco``, the options those of
    ``torchmetrics.Metric``.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        max_detections: int | Sequence[int] = (1, 10, 100),
        *,
        iou_thresholds: Sequence[float] | None = None,
        area_ranges: Mapping[str, Sequence[float]] | None = None,
        class_agnostic: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.max_detections, self.iou_thresholds, self.area_ranges = max_detections, iou_thresholds, area_ranges
        self.class_agnostic = class_agnostic
        make_params(iou_thresholds, area_ranges, max_detections)  # raises now rather than after an epoch
        for name in _STATES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]]) -> None:
        """Add a batch of images: detections ``preds`` and truths ``target``, one mapping per image.

        Raises ValueError as ``evaluate_coco`` does, on sides of unequal length and on inexact ids.
        """
        if len(preds) != len(target):
            raise ValueError(f"{len(target)} images in the targets, {len(preds)} in the predictions")
        if not len(target):
            return
        truth, found = read_arrays(target, "ground truth"), read_arrays(preds, "detections")
        if truth is None or found is None:
            raise ValueError(
                "lists with one mapping per image, with boxes, labels and (predictions) scores, are accepted"
            )
        ids = [_image_id(i, entry) for i, entry in enumerate(target)]
        counts = (np.bincount(side.boxes.image, minlength=len(ids)) for side in (truth, found))
        self._append("images", [name or 0 for name in ids], [name is not None for name in ids], *counts)
        self._append("truths", truth.boxes.box, truth.boxes.area, truth.boxes.crowd)
        self._append("truth_labels", truth.boxes.category)
        self._append("detections", found.boxes.box, found.boxes.score)
        self._append("detection_labels", found.boxes.category)

    def compute(self) -> dict[str, Float64[Tensor, ""]]:
        """COCO's twelve figures by name (AP, AP50, ...), -1 without ground truth.

        Raises ValueError if only some images have ids.
        """
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.result().figures.items()}

    def result(self) -> CocoResult:
        """The whole result of ``evaluate_coco`` for the images that this process has seen."""
        images, truths, truth_labels, detections, labels = (self._rows(name) for name in _STATES)
        ids, named = images[:, 0], images[:, 1] > 0
        if named.any() and not named.all():
            raise ValueError(f"{named.sum()} of {len(ids)} images have an image_id; all or none is accepted")
        first = np.unique(ids, return_index=True)[1] if named.any() else np.arange(len(ids))
        place = np.full(len(ids), -1)  # among those that count
        place[first] = np.arange(len(first))
        at, found_at = (np.repeat(place, images[:, column]) for column in (2, 3))
        keep, found_keep = at >= 0, found_at >= 0
        truths, detections = truths[keep], detections[found_keep]
        none, no = np.zeros(len(truths)), np.zeros(len(truths), bool)
        area, crowd = truths[:, 4], truths[:, 5].astype(bool)
        truth = Boxes(at[keep], truth_labels[keep, 0], truths[:, :4], area, none, crowd, no)
        box, no = detections[:, :4], np.zeros(len(detections), bool)
        area, score = box[:, 2] * box[:, 3], detections[:, 4]
        found = Boxes(found_at[found_keep], labels[found_keep, 0], box, area, score, no, no)
        return evaluate_coco(
            ArrayBoxes(truth, len(first)), ArrayBoxes(found, len(first)), iou_thresholds=self.iou_thresholds,
            area_ranges=self.area_ranges, max_detections=self.max_detections, class_agnostic=self.class_agnostic,
        )  # fmt: skip

    def sync(self, *arguments: Any, **options: Any) -> None:
        """Gather the states of all ranks; a rank without images contributes no rows, of the right width."""
        for name, (width, dtype) in _STATES.items():
            if not len(getattr(self, name)):
                setattr(self, name, [torch.zeros(0, width, dtype=dtype, device=self.device)])
        super().sync(*arguments, **options)

    def _append(self, name: str, *columns: Any) -> None:
        of_type = np.int64 if _STATES[name][1] == torch.int64 else float
        rows = np.column_stack([np.asarray(column, dtype=of_type) for column in columns])
        getattr(self, name).append(torch.from_numpy(rows).to(self.device))

    def _rows(self, name: str) -> np.ndarray:
        state, (width, dtype) = getattr(self, name), _STATES[name]
        rows = dim_zero_cat(state) if len(state) else torch.zeros(0, width, dtype=dtype)
        return rows.cpu().numpy()


def _image_id(index: int, entry: Mapping[str, Any]) -> int | None:
    """The id of an image, None without one; raises ValueError on an id that 64 bits do not hold exactly."""
    value = entry.get("image_id")
    if value is None:
        return None
    try:
        name = value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # of none or several elements
        name = value
    if isinstance(name, float) and name.is_integer() and abs(name) < 2**53:
        name = int(name)
    if not isinstance(name, int) or isinstance(name, bool) or not -(2**63) <= name < 2**63:
        raise ValueError(f"ground truth[{index}] has image_id {value!r}; a whole number of 64 bits is accepted")
    return name

"""How tasks call a box loss and an NMS, by name and with options; and trial calls, before a suite begins."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.data.crowds import Crowd, crowds
from bench.tasks.boxes.pairs import xyxy
from implementations.boxes.nms import Kept
from implementations.catalogue import LOSSES, NMS

STATE = 0.5  # WIoU's mean of 1 - IoU where rows must not depend on one another


def bind(name: str, options: Mapping[str, Any] | None = None, *, rowwise: bool = False) -> Callable[..., Tensor]:
    """A box loss with its options, as a function of predictions and targets (x, y, w, h).

    ``rowwise``: a loss whose rows depend on their batch (WIoU v2, v3) gets ``STATE`` in place of the mean of the batch.
    """
    options = dict(options or {})
    if rowwise and depends_on_batch(name, options):
        options["state"] = STATE
    loss = functools.partial(LOSSES[name], **options)
    return lambda boxes, targets: loss(xyxy(boxes), xyxy(targets))


def depends_on_batch(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the loss of a pair depends on the others of its batch: WIoU v2 and v3 do, unless a state is set."""
    return "state" in inspect.signature(LOSSES[name].resolve()).parameters and "state" not in options


def suppress(name: str, crowd: Crowd, iou_threshold: float, options: Mapping[str, Any]) -> Kept:
    """Call an NMS on all images of a crowd at once, with the further columns that it needs."""
    entry = NMS[name]
    columns = {column: getattr(crowd, column) for column in entry.columns}
    return entry(  # type: ignore[no-any-return]
        crowd.boxes, crowd.scores, crowd.labels, iou_threshold=iou_threshold, image=crowd.image, **columns, **options
    )


def try_loss(name: str, options: Mapping[str, Any]) -> None:
    """Call a box loss on one pair with these options; raises ValueError where it does not take them."""
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    try:
        LOSSES[name](box, box, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of {name}: {error}") from None


def try_nms(name: str, iou_threshold: float, options: Mapping[str, Any]) -> None:
    """Call an NMS on one small scene with these options; raises ValueError where it does not take them."""
    try:
        suppress(name, crowds(1, 1), iou_threshold, options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of {name}: {error}") from None

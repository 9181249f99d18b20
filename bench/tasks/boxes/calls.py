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
from bench.tasks.returns import describe_return
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
    if LOSSES[name].source == "fidmap":
        return lambda boxes, targets: loss(xyxy(boxes), xyxy(targets))
    return lambda boxes, targets: check_loss(name, loss(pred := xyxy(boxes), xyxy(targets)), pred)


def depends_on_batch(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the loss of a pair depends on the others of its batch: WIoU v2 and v3 do, unless a state is set."""
    return "state" in inspect.signature(LOSSES[name].resolve()).parameters and "state" not in options


def check_loss(name: str, found: Any, pred: Tensor) -> Tensor:
    """Give what a loss returned for boxes ``pred`` (n, 4); raises ValueError on all but n floats with a gradient."""
    if not isinstance(found, Tensor) or found.shape != pred.shape[:1] or not found.is_floating_point():
        raise ValueError(
            f"{name} returned {describe_return(found)} for {len(pred)} boxes; floats of shape ({len(pred)},), one loss "
            "per row, are accepted"
        )
    if pred.requires_grad and not found.requires_grad:
        raise ValueError(f"{name} returned a loss without a gradient; one that autograd follows to pred is accepted")
    return found


def suppress(name: str, crowd: Crowd, iou_threshold: float, options: Mapping[str, Any]) -> Kept:
    """Call an NMS on all images of a crowd at once, and check what one of the user's returns."""
    found = call_nms(name, crowd, iou_threshold, options)
    return found if NMS[name].source == "fidmap" else check_kept(name, found, len(crowd.boxes))


def check_kept(name: str, found: Any, n: int) -> Kept:
    """Give what an NMS kept of n boxes; raises ValueError on anything but indices, scores and boxes of equal length."""
    parts = tuple(found) if isinstance(found, tuple | list) else ()
    k = len(parts[0]) if parts and isinstance(parts[0], Tensor) and parts[0].ndim else 0
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else None for part in parts]
    if shapes != [(k,), (k,), (k, 4)] or [part.is_floating_point() for part in parts] != [False, True, True]:
        raise ValueError(
            f"{name} returned {describe_return(found)}; a tuple of indices (k,) of integers, scores (k,) and boxes "
            "(k, 4) of floats is accepted"
        )
    indices, scores, _ = parts
    if k and (int(indices.min()) < 0 or int(indices.max()) >= n or len(indices.unique()) < k):
        raise ValueError(f"{name} returned indices twice or beyond {n - 1}; each of 0 to {n - 1} once is accepted")
    if not bool(scores.isfinite().all()):
        raise ValueError(f"{name} returned scores that are not finite; finite ones are accepted")
    return Kept(*parts)


def call_nms(name: str, crowd: Crowd, iou_threshold: float, options: Mapping[str, Any]) -> Any:
    """Call an NMS on all images of a crowd at once, with the further columns that it needs."""
    entry = NMS[name]
    columns = {column: getattr(crowd, column) for column in entry.columns}
    boxes, scores, labels = crowd.boxes, crowd.scores, crowd.labels
    if entry.source != "fidmap":  # it may write into them, as soft NMS does, and the crowd is used again
        boxes, scores, labels = boxes.clone(), scores.clone(), labels.clone()
    return entry(boxes, scores, labels, iou_threshold=iou_threshold, image=crowd.image, **columns, **options)


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
        call_nms(name, crowds(1, 1), iou_threshold, options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of {name}: {error}") from None

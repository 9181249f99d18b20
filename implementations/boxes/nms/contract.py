"""The contract of every NMS: ``nms(boxes, scores, labels=None, iou_threshold=0.5, *, image=None, **options) -> Kept``.

``boxes`` (n, 4) ``xyxy`` and ``scores`` (n,) are floating point; ``labels`` and ``image`` (n,) are integers, or None
for one class and one image. The arguments come in the order of torchvision's ``batched_nms``; a threshold in third
place, as its ``nms`` has it, is refused. Boxes suppress one another within an image and a label. ``Kept`` is best
first, and among equal scores by index. What is suppressed exceeds the threshold, a number in [0, 1]: an overlap equal
to it does not.

A side that is negative counts as 0, and a box without area overlaps nothing. So does a box that is not finite, or whose
area is not: it stays and disturbs no other. Scores must be finite: a NaN has no rank. Half precision is computed in and
returned as float32; of two dtypes the wider is taken. No gradient is kept; ``boxes[kept.indices]`` has one. What is
not a tensor and wrong shapes, dtypes and values raise ValueError, unknown options TypeError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from implementations.boxes.checks import check_boxes, check_options, check_tensor, number
from implementations.boxes.nms.groups import Candidates, Kept

Method = Callable[..., Kept]  # (candidates, iou_threshold, **options)
Suppression = Callable[..., Kept]  # under the contract
_LARGEST = 2**62  # beyond this a pair of an image and a label is no longer one int64


def nms(*, across_labels: bool = False, weighs: bool = False) -> Callable[[Method], Suppression]:
    """Make an NMS under the module's contract of a method on candidates; the method's keywords are its options.

    ``across_labels``: boxes suppress whatever their labels. ``weighs``: it multiplies or averages by scores, which
    must then not be negative.
    """

    def wrap(method: Method) -> Suppression:
        keywords = [p for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY]
        name = method.__name__

        @torch.no_grad()
        def suppress(
            boxes: Float[Tensor, "n 4"],
            scores: Float[Tensor, " n"],
            labels: Integer[Tensor, " n"] | None = None,
            iou_threshold: float = 0.5,
            *,
            image: Integer[Tensor, " n"] | None = None,
            **options: Any,
        ) -> Kept:
            check_options(name, options, [keyword.name for keyword in keywords])
            iou_threshold = number("iou_threshold", iou_threshold)
            candidates = prepare(boxes, scores, labels, image, iou_threshold, across_labels=across_labels)
            if weighs and bool((scores < 0).any()):
                row = int((scores < 0).nonzero()[0])
                raise ValueError(f"scores[{row}] is {scores[row].item()}; accepted by {name} is at least 0")
            return method(candidates, iou_threshold, **options)

        signature = inspect.signature(suppress)
        fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made: Any = suppress
        made.__signature__ = signature.replace(parameters=[*fixed, *keywords])
        made.__name__, made.__qualname__, made.__doc__ = name, name, method.__doc__
        made.__module__ = method.__module__
        return made

    return wrap


def prepare(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    image: Tensor | None,
    iou_threshold: float,
    *,
    across_labels: bool = False,
) -> Candidates:
    """Check what every NMS takes and rank it; raises ValueError that names the argument and says what is accepted."""
    check_boxes("boxes", boxes)
    check_column("scores", scores, boxes, whole=False)
    if isinstance(labels, Real):
        raise ValueError(
            f"labels is {labels}; accepted is an integer tensor ({len(boxes)},), one per box, or None. "
            f"A threshold goes by its name: iou_threshold={labels}"
        )
    for name, column in (("labels", labels), ("image", image)):
        if column is not None:
            check_column(name, column, boxes, whole=True)
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold is {iou_threshold}; accepted is a number from 0 to 1")
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    return Candidates(boxes.to(dtype), scores.to(dtype), _groups(boxes, None if across_labels else labels, image))


def check_column(name: str, column: Tensor, boxes: Tensor, *, whole: bool) -> None:
    """Raise ValueError unless it holds one whole number, or one finite floating-point number, a box."""
    check_tensor(name, column)
    if column.shape != boxes.shape[:1]:
        raise ValueError(f"{name} has shape {tuple(column.shape)}; accepted is ({len(boxes)},), one per box")
    if column.device != boxes.device:
        raise ValueError(f"{name} is on {column.device}; accepted is the boxes' device, {boxes.device}")
    if whole and (column.is_floating_point() or column.is_complex() or column.dtype == torch.bool):
        raise ValueError(f"{name} is {column.dtype}; accepted is an integer dtype: call {name}.long()")
    if not whole and not column.is_floating_point():
        raise ValueError(f"{name} is {column.dtype}; accepted is a floating-point dtype: call {name}.float()")
    if not whole and not bool(column.isfinite().all()):
        row = int((~column.isfinite()).nonzero()[0])
        raise ValueError(f"{name}[{row}] is {column[row].item()}; accepted is a finite number")


def _groups(boxes: Tensor, labels: Tensor | None, image: Tensor | None) -> Tensor:
    """One number a box, equal where image and label are."""
    group = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    span = 1
    for column in (labels, image):
        if column is None or not len(column):
            continue
        low, high = int(column.min()), int(column.max())
        if (high - low + 1) * span > _LARGEST:  # far apart: number them by their order
            column = torch.unique(column, return_inverse=True)[1]
            low, high = 0, int(column.max())
        group += (column.to(torch.int64) - low) * span
        span *= high - low + 1
    return group

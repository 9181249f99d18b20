"""The contract of every NMS: ``nms(boxes, scores, labels=None, iou_threshold=0.5, *, image=None, **options) -> Kept``.

``boxes`` (n, 4) ``xyxy`` and ``scores`` (n,) are floating point; ``labels`` and ``image`` (n,) are integers, or None
for one class and one image. The arguments are in the order of torchvision's ``batched_nms``; a threshold in third
place, where its ``nms`` has it, is refused. Boxes suppress one another only within an image and a label. ``Kept`` lists
the best box first, and equal scores by index. A box is suppressed where the overlap exceeds the threshold, a number in
[0, 1]; an overlap equal to it does not suppress.

A negative side counts as 0, and a box without area overlaps nothing. The same holds for a box that is not finite or
whose area is not: it is kept and suppresses no other. Scores must be finite, since a NaN has no rank. Half precision is
computed in float32 and returned as float32; of two dtypes the wider is taken. No gradient is kept; use
``boxes[kept.indices]`` for one. Values that are not tensors, wrong shapes, dtypes and values raise ValueError, unknown
options TypeError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from implementations.boxes.checks import check_boxes, check_options, check_tensor, number
from implementations.boxes.named import Named
from implementations.boxes.nms.groups import Candidates, Kept

Method = Callable[..., Kept]  # (candidates, iou_threshold, **options)
_LARGEST = 2**62  # beyond this, an image and a label no longer fit together into one int64


class Suppression(Named):
    """An NMS, called as ``nms(boxes, scores, labels=None, iou_threshold=0.5, *, image=None, **options) -> Kept``.

    ``boxes`` (n, 4) are ``xyxy``; boxes suppress one another within an image and a label only. It is made of a method
    on candidates, ranked and grouped boxes, whose keywords are its options. ``across_labels``: boxes suppress one
    another whatever their labels. ``weighs``: the method multiplies or averages by scores, which must then not be
    negative.
    """

    def __init__(self, method: Method, *, across_labels: bool = False, weighs: bool = False):
        super().__init__(method)
        self.method, self.across_labels, self.weighs = method, across_labels, weighs

    @torch.no_grad()
    def __call__(
        self,
        boxes: Float[Tensor, "n 4"],
        scores: Float[Tensor, " n"],
        labels: Integer[Tensor, " n"] | None = None,
        iou_threshold: float = 0.5,
        *,
        image: Integer[Tensor, " n"] | None = None,
        **options: Any,
    ) -> Kept:
        """Suppress boxes that overlap better ones, and return those that are kept, best first."""
        check_options(self.__name__, options, [option.name for option in self.options])
        iou_threshold = number("iou_threshold", iou_threshold)
        candidates = rank_candidates(boxes, scores, labels, image, iou_threshold, across_labels=self.across_labels)
        if self.weighs and bool((scores < 0).any()):
            row = int((scores < 0).nonzero()[0])
            raise ValueError(f"scores[{row}] is {scores[row].item()}; accepted by {self.__name__} is at least 0")
        return self.method(candidates, iou_threshold, **options)


def nms(*, across_labels: bool = False, weighs: bool = False) -> Callable[[Method], Suppression]:
    """Decorator that makes an NMS of a method on candidates: a function of boxes, scores and labels that checks these.

    ``across_labels``: boxes suppress one another whatever their labels. ``weighs``: scores must not be negative.
    """
    return functools.partial(Suppression, across_labels=across_labels, weighs=weighs)


def rank_candidates(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    image: Tensor | None,
    iou_threshold: float,
    *,
    across_labels: bool = False,
) -> Candidates:
    """Check the arguments that every NMS takes, rank the boxes by score and group them by image and label.

    ``across_labels`` groups by image alone. Raises ValueError that names the argument.
    """
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
    """Raise ValueError unless the argument ``name`` has one number per box: integers (``whole``) or finite floats."""
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
    """One number per box, equal for boxes of the same image and label."""
    group = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    span = 1
    for column in (labels, image):
        if column is None or not len(column):
            continue
        low, high = int(column.min()), int(column.max())
        if (high - low + 1) * span > _LARGEST:  # the values lie far apart: replace them by their ranks
            column = torch.unique(column, return_inverse=True)[1]
            low, high = 0, int(column.max())
        group += (column.to(torch.int64) - low) * span
        span *= high - low + 1
    return group

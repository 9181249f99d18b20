"""torchvision's box losses under the contract's call; their behaviour, ``eps`` and dtypes are torchvision's own.

They are documented for ``0 <= x1 < x2`` and ``0 <= y1 < y2``: what they give for other boxes, such as CIoU's NaN
gradient for a box without height, is outside of their domain.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torchvision import ops

from implementations.boxes.checks import check_tensor, choose, positive

Boxes: TypeAlias = Float[Tensor, "n 4"]


def giou(pred: Boxes, target: Boxes, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """torchvision's ``generalized_box_iou_loss`` of ``xyxy`` boxes, ``1 - IoU + (C - U) / C``, as fidmap calls losses.

    ``eps`` is added to its denominators.
    """
    _check(pred, target, reduction, eps)
    return ops.generalized_box_iou_loss(pred, target, reduction, eps)


def diou(pred: Boxes, target: Boxes, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """torchvision's ``distance_box_iou_loss`` of ``xyxy`` boxes, ``1 - IoU + rho^2 / c^2``, as fidmap calls losses.

    ``eps`` is added to its denominators.
    """
    _check(pred, target, reduction, eps)
    return ops.distance_box_iou_loss(pred, target, reduction, eps)


def ciou(pred: Boxes, target: Boxes, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """torchvision's ``complete_box_iou_loss`` of ``xyxy`` boxes, as fidmap calls losses.

    It is ``1 - IoU + rho^2 / c^2 + alpha v``. ``eps`` is added to its denominators.
    """
    _check(pred, target, reduction, eps)
    return ops.complete_box_iou_loss(pred, target, reduction, eps)


def _check(pred: Tensor, target: Tensor, reduction: str, eps: float) -> None:
    """Raise ValueError on what torchvision would take without a word, or refuse without naming it."""
    for name, boxes in (("pred", pred), ("target", target)):
        check_tensor(name, boxes)
    choose("reduction", reduction, ("none", "mean", "sum"))
    positive(eps=eps)

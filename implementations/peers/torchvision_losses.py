"""torchvision's box losses under the contract's call; their behaviour, ``eps`` and dtypes are torchvision's own.

They are documented for ``0 <= x1 < x2`` and ``0 <= y1 < y2``: what they give for other boxes, such as CIoU's NaN
gradient for a box without a height, is outside of their domain.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torchvision import ops

from implementations.boxes.checks import check_tensor, choose, positive


def _adapt(peer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def loss(
        pred: Float[Tensor, "n 4"], target: Float[Tensor, "n 4"], reduction: str = "none", eps: float = 1e-7
    ) -> Float[Tensor, "*n"]:
        for name, boxes in (("pred", pred), ("target", target)):
            check_tensor(name, boxes)
        choose("reduction", reduction, ("none", "mean", "sum"))
        positive(eps=eps)
        return peer(pred, target, reduction=reduction, eps=eps)

    loss.__doc__ = f"torchvision's ``{peer.__name__}``; ``eps`` is added to denominators."
    return loss


giou = _adapt(ops.generalized_box_iou_loss)
diou = _adapt(ops.distance_box_iou_loss)
ciou = _adapt(ops.complete_box_iou_loss)

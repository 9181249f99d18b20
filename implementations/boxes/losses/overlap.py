"""IoU as a loss, and with terms that pull boxes together that do not overlap: IoU, its logarithm, GIoU, DIoU, CIoU.

All but the logarithm take ``gradient``: ``true`` is autograd's, ``authors`` and ``authors_clamped`` are those of the
DIoU authors' regression script (see ``authors.py``). The value is the same in all three cases.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose
from implementations.boxes.geometry import (
    BoxPair,
    aspect_gap,
    clamp_straight_through,
    distance_ratio,
    empty_ratio,
    overlap_ratio,
    smallest,
    squared_unit,
)
from implementations.boxes.losses.authors import with_gradient
from implementations.boxes.losses.contract import BoxLoss

ALPHAS = ("detached", "attached", "thresholded", "thresholded_attached")


@BoxLoss
def iou(pair: BoxPair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """IoU loss of each pair of boxes, ``1 - IoU``, in [0, 1]; it has no gradient where the boxes do not overlap.

    This is the linear form; UnitBox (1608.01471) has ``-ln IoU``, which is ``iou_log``. ``gradient`` is autograd's
    (``true``) or that of the DIoU authors' regression script (``authors``, ``authors_clamped``).
    """
    return with_gradient(1 - overlap_ratio(pair, eps), pair, eps, "iou", gradient)


@BoxLoss
def iou_log(pair: BoxPair, eps: float) -> Float[Tensor, "*n"]:
    """Logarithmic IoU loss, ``-ln IoU``, at most ``-ln eps`` (UnitBox, 1608.01471).

    It has no gradient where the boxes do not overlap.
    """
    return -clamp_straight_through(overlap_ratio(pair, eps), eps).log()


@BoxLoss
def giou(pair: BoxPair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """GIoU loss of each pair of boxes, ``1 - IoU + (C - U) / C``, in [0, 2) (1902.09630).

    C is the area of the enclosing box and U that of the union. ``gradient`` is autograd's (``true``) or that of the
    DIoU authors' regression script (``authors``, ``authors_clamped``).
    """
    return with_gradient(1 - overlap_ratio(pair, eps) + empty_ratio(pair, eps), pair, eps, "giou", gradient)


@BoxLoss
def diou(pair: BoxPair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """DIoU loss of each pair of boxes, ``1 - IoU + rho^2 / c^2``, in [0, 2) (1911.08287, eq. 7).

    rho is the distance of the centres and c the diagonal of the enclosing box. ``gradient`` is autograd's (``true``) or
    that of the DIoU authors' regression script (``authors``, ``authors_clamped``).
    """
    return with_gradient(1 - overlap_ratio(pair, eps) + distance_ratio(pair, eps), pair, eps, "diou", gradient)


@BoxLoss
def ciou(
    pair: BoxPair, eps: float, *, alpha: str = "detached", aspect: str = "true", gradient: str = "true"
) -> Float[Tensor, "*n"]:
    """CIoU loss: DIoU and a term of the aspect ratio, ``1 - IoU + rho^2 / c^2 + alpha v`` (1911.08287, eq. 8 to 11).

    rho is the distance of the centres and c the diagonal of the enclosing box, ``v = 4 / pi^2 (atan(wg / hg) - atan(w /
    h))^2`` of the sides, and ``alpha = v / (1 - IoU + v)``. Public code has four versions of the weight:
    ``alpha="detached"`` takes it for a constant to autograd, ``"attached"`` differentiates it, and ``"thresholded"``
    and ``"thresholded_attached"`` are the same with ``alpha = 0`` where IoU is at most .5, as in the journal's version
    (2005.03572). ``aspect="unscaled"`` replaces the factor ``1 / (w^2 + h^2)`` in the gradient of v by 1, as the paper
    does after eq. 12; autograd keeps it. ``gradient`` is autograd's (``true``) or that of the DIoU authors' regression
    script (``authors``, ``authors_clamped``).
    """
    choose("aspect", aspect, ("true", "unscaled"))
    overlap, v = overlap_ratio(pair, eps), aspect_gap(pair, eps)
    weight = aspect_weight(v, overlap, alpha)
    if aspect == "unscaled":
        # The sides are in units of the pair, but this factor is meant in the coordinates' own scale.
        factor = (pair.x.pred**2 + pair.y.pred**2) * squared_unit(pair)
        v = v.detach() + factor.detach() * (v - v.detach())
    return with_gradient(1 - overlap + distance_ratio(pair, eps) + weight * v, pair, eps, "ciou", gradient)


def aspect_weight(v: Float[Tensor, "*n"], overlap: Float[Tensor, "*n"], alpha: str) -> Float[Tensor, "*n"]:
    """CIoU's weight of the aspect term v, ``alpha = v / (1 - IoU + v)``, in one of the four versions of public code.

    ``detached`` is a constant to autograd, ``attached`` is differentiated, and ``thresholded`` and
    ``thresholded_attached`` are the same with alpha 0 where IoU is at most .5. Raises ValueError on another.
    """
    choose("alpha", alpha, ALPHAS)
    weight = v / ((1 - overlap).clamp(min=0) + v).clamp(min=smallest(v))
    if alpha.startswith("thresholded"):
        weight = weight * (overlap > 0.5)
    return weight if alpha in ("attached", "thresholded_attached") else weight.detach()

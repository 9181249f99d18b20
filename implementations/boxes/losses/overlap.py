"""Losses of overlap and of the way to it: IoU, its logarithm, GIoU, DIoU, CIoU.

The last four take ``gradient``: ``true`` (autograd's) or that of the DIoU authors' regression script, ``authors`` and
``authors_clamped`` (see ``authors.py``). The value is the same.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import choose
from implementations.boxes.geometry import (
    Pair,
    aspect_gap,
    distance_ratio,
    empty_ratio,
    held,
    overlap_ratio,
    smallest,
    squared_unit,
)
from implementations.boxes.losses.authors import with_gradient
from implementations.boxes.losses.contract import box_loss

ALPHAS = ("detached", "attached", "thresholded", "thresholded_attached")


@box_loss
def iou(pair: Pair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """Overlap alone, ``1 - IoU``, in [0, 1]; no gradient where the boxes are apart.

    The linear form: UnitBox (1608.01471) has ``-ln IoU``.
    """
    return with_gradient(1 - overlap_ratio(pair, eps), pair, eps, "iou", gradient)


@box_loss
def iou_log(pair: Pair, eps: float) -> Float[Tensor, "*n"]:
    """Cross entropy of overlap, ``-ln IoU``, at most ``-ln eps``; no gradient where boxes are apart (1608.01471)."""
    return -held(overlap_ratio(pair, eps), eps).log()


@box_loss
def giou(pair: Pair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """Overlap and empty space, ``1 - IoU + (C - U) / C``, in [0, 2): C the enclosing area, U the union (1902.09630)."""
    return with_gradient(1 - overlap_ratio(pair, eps) + empty_ratio(pair, eps), pair, eps, "giou", gradient)


@box_loss
def diou(pair: Pair, eps: float, *, gradient: str = "true") -> Float[Tensor, "*n"]:
    """Overlap and distance, ``1 - IoU + rho^2 / c^2``, in [0, 2): centres over diagonal (1911.08287, eq. 7)."""
    return with_gradient(1 - overlap_ratio(pair, eps) + distance_ratio(pair, eps), pair, eps, "diou", gradient)


@box_loss
def ciou(
    pair: Pair, eps: float, *, alpha: str = "detached", aspect: str = "true", gradient: str = "true"
) -> Float[Tensor, "*n"]:
    """DIoU and aspect, ``1 - IoU + rho^2 / c^2 + alpha v`` (1911.08287, eq. 8 to 11).

    ``v = 4 / pi^2 (atan(wg / hg) - atan(w / h))^2`` and ``alpha = v / (1 - IoU + v)``. Its versions: ``detached`` (a
    constant to autograd), ``attached``, and either with ``alpha = 0`` where IoU is at most .5, as the journal has it
    (2005.03572): ``thresholded``, ``thresholded_attached``. ``aspect="unscaled"`` sets the factor
    ``1 / (w^2 + h^2)`` in the gradient of v to 1, as the paper does after eq. 12; autograd keeps it.
    """
    choose("aspect", aspect, ("true", "unscaled"))
    overlap, v = overlap_ratio(pair, eps), aspect_gap(pair, eps)
    weight = aspect_weight(v, overlap, alpha)
    if aspect == "unscaled":
        # Sides are in units: with them as they are given, the factor would change with the scale of the image.
        factor = (pair.x.pred**2 + pair.y.pred**2) * squared_unit(pair)
        v = v.detach() + factor.detach() * (v - v.detach())
    return with_gradient(1 - overlap + distance_ratio(pair, eps) + weight * v, pair, eps, "ciou", gradient)


def aspect_weight(v: Float[Tensor, "*n"], overlap: Float[Tensor, "*n"], alpha: str) -> Float[Tensor, "*n"]:
    """CIoU's ``alpha = v / (1 - IoU + v)`` in one of its four public versions; raises ValueError on another."""
    choose("alpha", alpha, ALPHAS)
    weight = v / ((1 - overlap).clamp(min=0) + v).clamp(min=smallest(v))
    if alpha.startswith("thresholded"):
        weight = weight * (overlap > 0.5)
    return weight if alpha in ("attached", "thresholded_attached") else weight.detach()

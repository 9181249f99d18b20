"""The overlap that NMS compares with its threshold: the arithmetic of torchvision's kernel, bit for bit.

The IoU of the losses (``boxes.geometry``) measures a pair in units of its enclosing box, which rounds differently: a
box on a grid whose IoU is exactly the threshold would be kept by the one and not by the other. So here an overlap is
``inter / (area + area - inter)`` in the dtype of the boxes, as in torchvision's kernel, and it is compared with the
threshold as if in float64. Boxes are columns ``(4, ...)``, which are contiguous in memory and broadcast.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.geometry import distance_ratio, measure_columns

_EPS = 1e-7


def overlap(a: Float[Tensor, "4 *#m"], b: Float[Tensor, "4 *#m"]) -> Float[Tensor, " *m"]:
    """IoU of each pair of ``xyxy`` boxes of finite area, (4, ...) each, in [0, 1]; it is 0 where both are empty.

    It is ``inter / (area + area - inter)`` in the dtype of the boxes, bit for bit that of torchvision's kernel.
    """
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    width = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    height = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)
    inter = width.mul_(height)
    union = (area(a) + area(b)).sub_(inter)
    return inter.div_(union.clamp_(min=_least(union.dtype)))  # 0/0 is no overlap


def distance(a: Float[Tensor, "4 *#m"], b: Float[Tensor, "4 *#m"]) -> Float[Tensor, " *m"]:
    """Squared distance of the centres over the squared diagonal of the enclosing box, as DIoU-NMS subtracts it.

    Boxes are ``xyxy``, (4, ...) each (1911.08287, eq. 6).
    """
    return distance_ratio(measure_columns(a.unbind(0), b.unbind(0)), _EPS)


def limit(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of ``dtype`` up to an NMS's threshold: ``x > limit`` is as ``float64(x) > threshold``.

    The nearest number may exceed the threshold: float32(.6) is greater than .6, so that an IoU of float32(.6) exceeds
    the threshold .6 in float64 but not in float32.
    """
    nearest = torch.tensor(threshold, dtype=dtype)
    below = torch.nextafter(nearest, torch.tensor(-torch.inf, dtype=dtype))
    return float(nearest) if float(nearest) <= threshold else float(below)


def area(boxes: Float[Tensor, " 4 *m"]) -> Float[Tensor, " *m"]:
    """Width times height of ``xyxy`` boxes (4, ...); a negative side counts as 0."""
    x1, y1, x2, y2 = boxes
    return (x2 - x1).clamp_(min=0) * (y2 - y1).clamp_(min=0)


@functools.cache
def _least(dtype: torch.dtype) -> float:
    """The smallest positive number of the dtype: as a lower bound of a denominator it changes no quotient but 0 / 0."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps

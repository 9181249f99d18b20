"""Pairs of boxes for the experiments with box losses: how they are drawn, the loss of them, its gradient, its descent.

Boxes are (x, y, w, h), centre and sides, in float64. These are the coordinates that a detector predicts, and gradients
are taken with respect to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.geometry import measure_pairs, overlap_ratio

Loss = Callable[[Tensor, Tensor], Tensor]  # on boxes (x, y, w, h)


def gradient(loss: Loss, boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> tuple[Tensor, Tensor]:
    """The loss of each pair of boxes (x, y, w, h), and its gradient with respect to those of the prediction."""
    boxes = boxes.detach().requires_grad_()
    value = loss(boxes, targets)
    if not value.requires_grad:  # the loss is constant
        return value, torch.zeros_like(boxes)
    (slopes,) = torch.autograd.grad(value.sum(), boxes)
    return value.detach(), slopes


def descend(
    loss: Loss,
    boxes: Float[Tensor, "n 4"],
    targets: Iterable[Float[Tensor, "n 4"]],
    iterations: int,
    rate: float | Float[Tensor, "n 1"] = 0.1,
) -> Iterator[Float[Tensor, "n 4"]]:
    """Yield the boxes after each update of the DIoU paper's descent, ``B += eta (2 - IoU) (-grad L)`` (1911.08287).

    ``targets`` yields the targets for each iteration. Eta is ``rate``, a tenth of it after 8/10 of the iterations and a
    hundredth after 9/10.
    """
    for i, shown in zip(range(iterations), targets, strict=False):
        decay = (1, 0.1, 0.01)[(10 * i >= 8 * iterations) + (10 * i >= 9 * iterations)]
        _, slopes = gradient(loss, boxes, shown)
        boxes = boxes - rate * decay * (2 - iou(boxes, shown))[:, None] * slopes
        yield boxes


def pairs(n: int, source: torch.Generator, *families: str) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Draw n pairs of a prediction and a target (x, y, w, h), equally many of each family of pairs.

    The families are all of ``FAMILIES``, unless some are named. Targets have sides from about .5 to 50 and aspect
    ratios from 1/4 to 4, and lie around the origin.
    """
    families = families or tuple(FAMILIES)
    drawn = [
        FAMILIES[name](targets(n // len(families) + (i < n % len(families)), source), source)
        for i, name in enumerate(families)
    ]
    return tuple(torch.cat(boxes) for boxes in zip(*drawn, strict=True))


def unit_pairs(n: int, source: torch.Generator, *families: str) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Draw n pairs of a prediction and a target (x, y, w, h) in units of the square root of the target's area.

    So one step length suits them all. Families are as in ``pairs``.
    """
    boxes, target = pairs(n, source, *families)
    unit = target[:, 2:].prod(1, keepdim=True).sqrt()
    return boxes / unit, target / unit


def targets(n: int, source: torch.Generator) -> Float[Tensor, "n 4"]:
    """Draw n target boxes (x, y, w, h) around the origin, with sides from about .5 to 50, ratios from 1/4 to 4."""
    size, half_ratio = draw_log_uniform(n, source, 1, 25), draw_log_uniform(n, source, 1 / 2, 2)
    sides = torch.stack([size * half_ratio, size / half_ratio], 1)
    return torch.cat([draw_uniform(n, source, -1, 1, 2) * sides, sides], 1)


def iou(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """IoU of each pair of boxes given by centre and sides (x, y, w, h)."""
    return overlap_ratio(measure_pairs(xyxy(boxes), xyxy(targets)), 1e-7)


def gap(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Distance of two boxes (x, y, w, h) along the axis on which they are further apart.

    It is negative where they overlap on both axes.
    """
    return ((boxes - targets)[:, :2].abs() - (boxes + targets)[:, 2:] / 2).amax(1)


def difference(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """How far a box is from its target: the largest difference of x, y, w, h, in units of the target's longer side."""
    return (boxes - targets).abs().amax(1) / targets[:, 2:].amax(1)


def xyxy(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn boxes from centre and sides (x, y, w, h) into corners (x1, y1, x2, y2)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def draw_uniform(n: int, source: torch.Generator, low: float, high: float, *shape: int) -> Float[Tensor, " n *shape"]:
    """Draw n numbers (or arrays of ``shape``) that are uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, *shape, generator=source, dtype=torch.float64)


def draw_log_uniform(
    n: int, source: torch.Generator, low: float, high: float, *shape: int
) -> Float[Tensor, " n *shape"]:
    """Draw n numbers (or arrays of ``shape``) whose logarithms are uniform in [log low, log high)."""
    return draw_uniform(n, source, math.log(low), math.log(high), *shape).exp()


def _draw_random(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions with sides up to four times larger or smaller, near the target.

    Centres are up to 1.5 times as far away as where the boxes touch.
    """
    sides = target[:, 2:] * draw_log_uniform(len(target), source, 1 / 4, 4, 2)
    reach = (sides + target[:, 2:]) / 2
    return _at(target, draw_uniform(len(target), source, -1.5, 1.5, 2) * reach, sides)


def _draw_apart(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions of sides as in ``_draw_random``, with a gap of up to three of the longer sides.

    The gap is along one axis or both.
    """
    return _with_gap(target, source, draw_uniform(len(target), source, 0.01, 3), across=1.5)


def _draw_touching(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions that touch their targets, along an edge or at a corner."""
    return _with_gap(target, source, torch.zeros(len(target), dtype=target.dtype), across=1.0)


def _draw_nested(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of which one box is inside the other, either the prediction or the target."""
    n = len(target)
    sides = target[:, 2:] * torch.where(draw_uniform(n, source, 0, 1, 1) < 0.5, 1, -1).expand(n, 2)
    factor = draw_log_uniform(n, source, 1.02, 6, 2)
    sides = torch.where(sides > 0, sides * factor, -sides / factor)
    return _at(target, draw_uniform(n, source, -1, 1, 2) * (sides - target[:, 2:]).abs() / 2, sides)


def _draw_concentric(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions at the target's centre, with sides up to four times larger or smaller."""
    sides = target[:, 2:] * draw_log_uniform(len(target), source, 1 / 4, 4, 2)
    return _at(target, torch.zeros_like(sides), sides)


def _draw_scaled(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions at the target's centre and of its aspect ratio, but of another size.

    They are larger or smaller by a thousandth up to a factor of 4.
    """
    n = len(target)
    change = draw_log_uniform(n, source, 1e-3, math.log(4), 1)
    sides = target[:, 2:] * torch.where(torch.rand(n, 1, generator=source) < 0.5, change, -change).exp()
    return _at(target, torch.zeros_like(sides), sides)


def _draw_equal_ratio(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions of the target's aspect ratio, up to four times larger or smaller.

    Centres are at 1.2 times the touching distance or less.
    """
    sides = target[:, 2:] * draw_log_uniform(len(target), source, 1 / 4, 4, 1)
    return _at(target, draw_uniform(len(target), source, -1.2, 1.2, 2) * (sides + target[:, 2:]) / 2, sides)


def _draw_equal_size(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions of the target's sides, up to two of them away."""
    return _at(target, draw_uniform(len(target), source, -2, 2, 2) * target[:, 2:], target[:, 2:])


def _draw_near_equal(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions whose x, y, w, h are all off by at most a thousandth to a tenth of the sides."""
    n = len(target)
    reach = draw_log_uniform(n, source, 1e-3, 0.1, 1) * target[:, 2:]
    offset, change = (draw_uniform(n, source, -1, 1, 2) * reach for _ in range(2))
    return _at(target, offset, target[:, 2:] + change)


def _draw_unlike(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions with sides up to a thousand times larger or smaller than the target's."""
    sides = target[:, 2:] * draw_log_uniform(len(target), source, 1e-3, 1e3, 2)
    return _at(target, draw_uniform(len(target), source, -1.5, 1.5, 2) * (sides + target[:, 2:]) / 2, sides)


def _with_gap(target: Tensor, source: torch.Generator, gaps: Tensor, across: float) -> tuple[Tensor, Tensor]:
    n = len(target)
    sides = target[:, 2:] * draw_log_uniform(n, source, 1 / 4, 4, 2)
    reach = (sides + target[:, 2:]) / 2
    offset = draw_uniform(n, source, -across, across, 2) * reach
    along = torch.rand(n, generator=source) < 0.5
    axis = torch.stack([along, ~along], 1)
    longer = torch.cat([sides, target[:, 2:]], 1).amax(1, keepdim=True)
    away = offset.sign() * (reach + gaps[:, None] * longer)
    return _at(target, torch.where(axis, away, offset), sides)


def _at(target: Tensor, offset: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([target[:, :2] + offset, sides], 1), target


FAMILIES: dict[str, Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]] = {
    "random": _draw_random,
    "apart": _draw_apart,
    "touching": _draw_touching,
    "nested": _draw_nested,
    "concentric": _draw_concentric,
    "scaled": _draw_scaled,
    "equal_ratio": _draw_equal_ratio,
    "equal_size": _draw_equal_size,
    "near_equal": _draw_near_equal,
    "unlike": _draw_unlike,
}

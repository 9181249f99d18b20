"""Pairs of boxes for the laboratory of box losses: what they look like, the loss on them, its gradient, its descent.

Boxes are (x, y, w, h), centre and sides, in float64: that is what a detector moves, and what gradients are taken by.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from bench.task import LossName, TaskParameters
from implementations.boxes.geometry import measure, overlap_ratio
from implementations.catalogue import LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]  # on boxes (x, y, w, h)

STATE = 0.5  # WIoU's mean of 1 - IoU where rows are to be independent of one another


class LossParameters(TaskParameters):
    """A box loss with options of its own."""

    loss: LossName
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_are_known(self) -> LossParameters:
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        try:
            LOSSES[self.loss](box, box, **self.options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options of {self.loss}: {error}") from None
        return self

    @property
    def batched(self) -> bool:
        """Whether a row's loss depends on its batch: WIoU v2 and v3, unless they are given a state."""
        return "state" in inspect.signature(LOSSES[self.loss].resolve()).parameters and "state" not in self.options

    def bound(self, *, rowwise: bool = False) -> Loss:
        """The loss on boxes (x, y, w, h).

        ``rowwise``: a loss with a running state (WIoU v2, v3) takes ``STATE`` for it in place of its batch's mean.
        """
        options = dict(self.options)
        if rowwise and self.batched:
            options["state"] = STATE
        loss = functools.partial(LOSSES[self.loss], **options)
        return lambda boxes, targets: loss(xyxy(boxes), xyxy(targets))


def gradient(loss: Loss, boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient with respect to the prediction's x, y, w, h."""
    boxes = boxes.detach().requires_grad_()
    value = loss(boxes, targets)
    if not value.requires_grad:  # a loss without any gradient
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
    """The boxes after each update of the DIoU paper's protocol, ``B += eta (2 - IoU) (-grad L)`` (1911.08287).

    ``targets`` has what the boxes are shown at each iteration. Eta is the rate, a tenth of it after 8/10 of the
    iterations and a hundredth after 9/10.
    """
    for i, shown in zip(range(iterations), targets, strict=False):
        decay = (1, 0.1, 0.01)[(10 * i >= 8 * iterations) + (10 * i >= 9 * iterations)]
        _, slopes = gradient(loss, boxes, shown)
        boxes = boxes - rate * decay * (2 - iou(boxes, shown))[:, None] * slopes
        yield boxes


def pairs(n: int, source: torch.Generator, *families: str) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Predictions and targets, as many of each family (of all of ``FAMILIES``, unless some are named).

    Targets have sides from about .5 to 50, ratios from 1/4 to 4, and lie about the origin.
    """
    families = families or tuple(FAMILIES)
    drawn = [
        FAMILIES[name](targets(n // len(families) + (i < n % len(families)), source), source)
        for i, name in enumerate(families)
    ]
    return tuple(torch.cat(boxes) for boxes in zip(*drawn, strict=True))


def unit_pairs(n: int, source: torch.Generator, *families: str) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """``pairs`` in units of the root of the target's area, as the simulations have them: a step has one length."""
    boxes, target = pairs(n, source, *families)
    unit = target[:, 2:].prod(1, keepdim=True).sqrt()
    return boxes / unit, target / unit


def targets(n: int, source: torch.Generator) -> Float[Tensor, "n 4"]:
    """Boxes of sides from about .5 to 50 and ratios from 1/4 to 4, about the origin."""
    size, half_ratio = log_uniform(n, source, 1, 25), log_uniform(n, source, 1 / 2, 2)
    sides = torch.stack([size * half_ratio, size / half_ratio], 1)
    return torch.cat([uniform(n, source, -1, 1, 2) * sides, sides], 1)


def iou(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """IoU of each pair."""
    return overlap_ratio(measure(xyxy(boxes), xyxy(targets)), 1e-7)


def gap(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Distance along the axis on which the boxes are further apart, negative where they overlap on both."""
    return ((boxes - targets)[:, :2].abs() - (boxes + targets)[:, 2:] / 2).amax(1)


def difference(boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Largest difference of x, y, w, h, in units of the target's longer side."""
    return (boxes - targets).abs().amax(1) / targets[:, 2:].amax(1)


def xyxy(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Corners of boxes given as centre and sides."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def uniform(n: int, source: torch.Generator, low: float, high: float, *shape: int) -> Float[Tensor, " n *shape"]:
    """Numbers of even density in [low, high)."""
    return low + (high - low) * torch.rand(n, *shape, generator=source, dtype=torch.float64)


def log_uniform(n: int, source: torch.Generator, low: float, high: float, *shape: int) -> Float[Tensor, " n *shape"]:
    """Numbers whose logarithms have an even density in [low, high)."""
    return uniform(n, source, math.log(low), math.log(high), *shape).exp()


def _random(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sides up to four times larger or smaller, on either side of touching."""
    sides = target[:, 2:] * log_uniform(len(target), source, 1 / 4, 4, 2)
    reach = (sides + target[:, 2:]) / 2
    return _at(target, uniform(len(target), source, -1.5, 1.5, 2) * reach, sides)


def _apart(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """As ``random``, with a gap of up to three of the longer sides along one axis or both."""
    return _with_gap(target, source, uniform(len(target), source, 0.01, 3), across=1.5)


def _touching(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """As ``apart``, along an edge or at a corner."""
    return _with_gap(target, source, torch.zeros(len(target), dtype=target.dtype), across=1.0)


def _nested(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """One in the other, either in either."""
    n = len(target)
    sides = target[:, 2:] * torch.where(uniform(n, source, 0, 1, 1) < 0.5, 1, -1).expand(n, 2)
    factor = log_uniform(n, source, 1.02, 6, 2)
    sides = torch.where(sides > 0, sides * factor, -sides / factor)
    return _at(target, uniform(n, source, -1, 1, 2) * (sides - target[:, 2:]).abs() / 2, sides)


def _concentric(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    sides = target[:, 2:] * log_uniform(len(target), source, 1 / 4, 4, 2)
    return _at(target, torch.zeros_like(sides), sides)


def _scaled(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Larger or smaller about the target's centre at one ratio, by a thousandth up to fourfold."""
    n = len(target)
    change = log_uniform(n, source, 1e-3, math.log(4), 1)
    sides = target[:, 2:] * torch.where(torch.rand(n, 1, generator=source) < 0.5, change, -change).exp()
    return _at(target, torch.zeros_like(sides), sides)


def _equal_ratio(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    sides = target[:, 2:] * log_uniform(len(target), source, 1 / 4, 4, 1)
    return _at(target, uniform(len(target), source, -1.2, 1.2, 2) * (sides + target[:, 2:]) / 2, sides)


def _equal_size(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return _at(target, uniform(len(target), source, -2, 2, 2) * target[:, 2:], target[:, 2:])


def _near_equal(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Within a thousandth to a tenth of the sides."""
    n = len(target)
    reach = log_uniform(n, source, 1e-3, 0.1, 1) * target[:, 2:]
    offset, change = (uniform(n, source, -1, 1, 2) * reach for _ in range(2))
    return _at(target, offset, target[:, 2:] + change)


def _unlike(target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sides up to a thousand times larger or smaller."""
    sides = target[:, 2:] * log_uniform(len(target), source, 1e-3, 1e3, 2)
    return _at(target, uniform(len(target), source, -1.5, 1.5, 2) * (sides + target[:, 2:]) / 2, sides)


def _with_gap(target: Tensor, source: torch.Generator, gaps: Tensor, across: float) -> tuple[Tensor, Tensor]:
    n = len(target)
    sides = target[:, 2:] * log_uniform(n, source, 1 / 4, 4, 2)
    reach = (sides + target[:, 2:]) / 2
    offset = uniform(n, source, -across, across, 2) * reach
    along = torch.rand(n, generator=source) < 0.5
    axis = torch.stack([along, ~along], 1)
    longer = torch.cat([sides, target[:, 2:]], 1).amax(1, keepdim=True)
    away = offset.sign() * (reach + gaps[:, None] * longer)
    return _at(target, torch.where(axis, away, offset), sides)


def _at(target: Tensor, offset: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([target[:, :2] + offset, sides], 1), target


FAMILIES: dict[str, Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]] = {
    "random": _random,
    "apart": _apart,
    "touching": _touching,
    "nested": _nested,
    "concentric": _concentric,
    "scaled": _scaled,
    "equal_ratio": _equal_ratio,
    "equal_size": _equal_size,
    "near_equal": _near_equal,
    "unlike": _unlike,
}

"""Gradient fields of a box loss around a target of side 1: over the position of a box, and over its sides.

In the field ``position``, a box of fixed sides is placed around the target, up to ``reach`` sides away. In the field
``size``, boxes at the target's centre have sides from a fifth to five times those of the target. Unless the grids have
an odd number of points, none of their points is the target or lies where edges meet. ``pairs`` is not a field but the
same number of random pairs that overlap, lie apart or lie inside one another.

What following the gradient does is measured by one small step of length ``STEP`` against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.pairs import Loss, gradient, iou, pairs

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import GradientParameters

STEP = 1e-5  # in units of the target's side
# A step along the true gradient is off by its square; changes below ten times that are not counted.
CURVATURE = 10 * STEP**2
STILL = 1e-12  # a gradient up to here counts as 0, up to rounding


SETS = ("position", "size", "pairs")


def iou_gradient(parameters: GradientParameters, context: Context) -> Measurements:
    """Gradients of a box loss over grids of positions and of sizes, and the effect of a small step against them."""
    loss = bind(parameters.loss, parameters.options, rowwise=True)
    n = parameters.points
    measured: dict[str, float | Value] = {}
    for name in SETS:
        if name == "pairs":
            boxes, target = _pairs(n * n, torch.Generator().manual_seed(context.seed))
        else:
            across, boxes = field_boxes(name, parameters)
            target = boxes.new_tensor([[0, 0, 1, 1]]).expand(len(boxes), 4)
        boxes, target = boxes.to(context.device), target.to(context.device)
        value, slopes = gradient(loss, boxes, target)
        if not bool(value.isfinite().all() and slopes.isfinite().all()):
            raise FloatingPointError(f"{parameters.loss}: the loss or its gradient is not finite in {name}")
        measured |= {f"{name}_{what}": Value(figure, n=n * n) for what, figure in assess(loss, boxes, target).items()}
        if name != "pairs":
            context.keep(f"{name}_axis", across)
            context.keep(f"{name}_loss", value.view(n, n))
            for what, column in zip(("gx", "gy", "gw", "gh"), slopes.unbind(1), strict=True):
                context.keep(f"{name}_{what}", column.reshape(n, n))
    return measured


def field_boxes(field: str, parameters: GradientParameters) -> tuple[Float[Tensor, " points"], Float[Tensor, "n 4"]]:
    """The boxes (x, y, w, h) of a gradient field, ``position`` or ``size``, and the coordinates along its grid's sides.

    Boxes are row by row (x or w varies fastest).
    """
    n = parameters.points
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1  # the middles of n equal cells of (-1, 1)
    across = parameters.reach * middle if field == "position" else 5**middle
    down, right = torch.meshgrid(across, across, indexing="ij")
    varied = torch.stack([right.flatten(), down.flatten()], 1)
    if field == "position":
        sides = varied.new_tensor([[parameters.width, parameters.height]])
        return across, torch.cat([varied, sides.expand(n * n, 2)], 1)
    return across, torch.cat([torch.zeros_like(varied), varied], 1)


def assess(loss: Loss, boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"]) -> dict[str, float]:
    """What following the gradient of a loss does to boxes: shares of them, and the spike of the gradient.

    The shares are of boxes without a gradient, and of those whose loss rises, that move away from their targets or
    whose IoU falls by a small step. A box that is its target is left out. The spike is the largest norm over the median
    norm.
    """
    away = (boxes != targets).any(1)
    boxes, targets = boxes[away], targets[away]
    value, slopes = gradient(loss, boxes, targets)
    norm = slopes.norm(dim=1, keepdim=True)
    moving = norm > STILL
    stepped = boxes - torch.where(moving, STEP * slopes / norm.clamp(min=STILL), 0)
    rises = loss(stepped, targets) - value
    parts = (stepped - targets).abs().sum(1) - (boxes - targets).abs().sum(1)
    falls = iou(boxes, targets) - iou(stepped, targets)
    median = norm[moving].median() if moving.any() else norm.new_tensor(1.0)
    return {
        "zero": float((~moving).double().mean()),
        "uphill": float((rises > CURVATURE).double().mean()),
        "away": float((parts > 1e-3 * STEP).double().mean()),  # less is the rounding of a step at constant distance
        "worse": float((falls > CURVATURE).double().mean()),
        "spike": float(norm.max() / median),
    }


def _pairs(n: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pairs, in units of the target's longer side, so that one step length suits them all."""
    boxes, target = pairs(n, source, "random", "apart", "nested")
    unit = target[:, 2:].amax(1, keepdim=True)
    return boxes / unit, target / unit

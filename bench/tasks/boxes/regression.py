"""The published regression simulations: boxes from all around their targets descend a box loss.

Anchors of 7 areas and 7 aspect ratios stand at every point of a disc, and each regresses on its own to each of 7
targets of equal area at its centre: 343 cases per point, 1,715,000 over 5,000 points.

- ``diou`` (1911.08287, sec. 3.1): disc of radius 3, targets of area 1, ``B += eta (2 - IoU) (-grad L)`` on (x, y, w, h)
  for 200 iterations, with eta .1 for the first 8/10 of them, .01 for the next 1/10 and .001 for the last.
- ``wiou`` and ``wiou_near`` (2301.10051, sec. IV, and its script): discs of radius .5 and .1 with more points towards
  the rim, 2e4 radius^2 of them, targets of area 1/32, Adam with rate .01 on the corners of the mean loss, 120
  iterations.
- ``piou`` (10.1016/j.neunet.2023.11.041): 5,000 points spread evenly around (1, 1), with the sides and the rule of
  WIoU, which the text of the paper leaves open.

The gradient is autograd's. The figure of the DIoU paper was made with hand-written gradients that are not those of the
losses; the options ``gradient="authors"`` and ``"authors_clamped"`` bring them back. The results hold for this
simulation, in which nothing is learnt; training a detector is another matter. A side that an update makes negative
stays negative: the loss sees a box without extent there, and the error counts the distance to the target's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.boxes.descent import Adam, Descent, Rule, regress
from implementations.catalogue import LOSSES

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import RegressionParameters

RATIOS = (1 / 4, 1 / 3, 1 / 2, 1.0, 2.0, 3.0, 4.0)  # width over height
CASES = 7 * 7 * 7  # per point


@dataclass(frozen=True)
class Simulation:
    """A published simulation of box regression: where anchors and targets lie, and how boxes move.

    Anchors and targets have 7 aspect ratios each; anchors stand at ``points`` points of a disc.
    """

    centre: tuple[float, float]
    radius: float
    points: int
    target_area: float
    areas: tuple[float, ...]  # of the anchors
    iterations: int
    adam: bool = False  # Adam on the corners instead of the DIoU paper's descent
    rim: bool = False  # more points towards the rim: r = R ln(1 + s (e^3 - 1)) / 3 instead of R sqrt(s), s in [0, 1]

    def rule(self, iterations: int) -> Rule:
        """The rule by which boxes move in this many iterations: Adam, or the DIoU paper's descent."""
        return Adam(self.points * CASES) if self.adam else Descent(rates(iterations))


_WIOU_AREAS = (1 / 32, 1 / 24, 3 / 64, 1 / 16, 1 / 12, 3 / 32, 1 / 8)
SIMULATIONS = {
    "diou": Simulation((10.0, 10.0), 3.0, 5000, 1.0, (0.5, 0.67, 0.75, 1.0, 1.33, 1.5, 2.0), 200),
    "wiou": Simulation((0.5, 0.5), 0.5, 5000, 1 / 32, _WIOU_AREAS, 120, adam=True, rim=True),
    "wiou_near": Simulation((0.5, 0.5), 0.1, 200, 1 / 32, _WIOU_AREAS, 120, adam=True, rim=True),
    "piou": Simulation((1.0, 1.0), 0.5, 5000, 1 / 32, _WIOU_AREAS, 120, adam=True),
}


def iou_regression(parameters: RegressionParameters, context: Context) -> Measurements:
    """Regress anchors to targets by one box loss and total the error, as in the papers' simulations.

    The error is the L1 distance of x, y, w, h, summed over all cases of the simulation.
    """
    protocol = SIMULATIONS[parameters.protocol]
    iterations = parameters.iterations or protocol.iterations
    positions = disc(parameters.points, parameters.protocol, seed=context.seed).to(context.device)
    found = regress(
        LOSSES[parameters.loss],
        *cases(positions, parameters.protocol),
        protocol.rule(iterations),
        iterations,
        options=parameters.options,
        engine=parameters.engine,
    )
    if lost := int((~found.error.isfinite()).sum()):
        raise FloatingPointError(f"{parameters.loss}: the error of {lost} of {len(found.error)} cases is not finite")
    curve = found.error_curve * (protocol.points / parameters.points)
    error = found.error.view(-1, len(RATIOS), len(protocol.areas), len(RATIOS))  # point, target, area, ratio
    context.keep("error_curve", curve)
    context.keep("iou_curve", found.iou_curve)
    context.keep("positions", positions)
    context.keep("error_surface", error.sum((1, 2, 3)))
    for name, axis in (("target_ratio", 1), ("area", 2), ("ratio", 3)):
        context.keep(f"error_by_{name}", error.mean([k for k in range(4) if k != axis]))
    context.keep("areas", torch.tensor(protocol.areas, dtype=torch.float64))
    context.keep("ratios", torch.tensor(RATIOS, dtype=torch.float64))
    n = len(found.error)
    return {
        "error_decay": Value(curve[8 * iterations // 10 - 1].item(), n=n),
        "error_final": Value(curve[-1].item(), n=n),
        "error_sum": Value(curve.sum().item(), n=n),
        "iou_final": Value(found.iou_curve[-1].item(), n=n),
        "seconds": Value(found.seconds, n=1),
    }


def rates(iterations: int) -> list[float]:
    """Learning rate of the DIoU paper's descent at each iteration: .1, then .01 after 8/10, and .001 after 9/10."""
    return [(0.1, 0.01, 0.001)[(10 * i >= 8 * iterations) + (10 * i >= 9 * iterations)] for i in range(iterations)]


def disc(n: int, protocol: str = "diou", *, seed: int = 0) -> Float[Tensor, "n 2"]:
    """Draw ``n`` points of anchors with a simulation's density on its disc: a low-discrepancy set with a random shift.

    The set is the additive recurrence of the plastic number, ``g^3 = g + 1``; a few hundred points represent 5,000
    well.
    """
    where = SIMULATIONS[protocol]
    g = 1.324717957244746  # the plastic number, whose sequence spreads most evenly in two dimensions
    shift = torch.rand(2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    u, turn = (shift + torch.arange(n)[:, None] * torch.tensor([1 / g, 1 / g**2], dtype=torch.float64)).frac().unbind(1)
    radius = where.radius * ((u * math.expm1(3)).log1p() / 3 if where.rim else u.sqrt())
    angle = 2 * math.pi * turn
    return torch.stack([where.centre[0] + radius * angle.cos(), where.centre[1] + radius * angle.sin()], 1)


def cases(points: Float[Tensor, "p 2"], protocol: str = "diou") -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """The anchors and targets (x, y, w, h) of a regression simulation: 343 cases at each of p points, n = 343 p.

    They are in the order of the points, and stored by column.
    """
    where = SIMULATIONS[protocol]
    anchors = points.new_tensor([_sides(area, ratio) for _ in RATIOS for area in where.areas for ratio in RATIOS])
    sides = [_sides(where.target_area, ratio) for ratio in RATIOS for _ in where.areas for _ in RATIOS]
    boxes, targets = points.new_empty(2, 4, len(points), CASES)
    boxes[:2], boxes[2:] = points.T[:, :, None], anchors.T[:, None]
    targets[:2], targets[2:] = points.new_tensor(where.centre)[:, None, None], points.new_tensor(sides).T[:, None]
    return boxes.flatten(1).T, targets.flatten(1).T


def _sides(area: float, ratio: float) -> tuple[float, float]:
    return math.sqrt(area * ratio), math.sqrt(area / ratio)

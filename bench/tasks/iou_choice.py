"""How far a box loss brings boxes in one situation, by the DIoU paper's protocol: what to choose a loss by.

Each situation is a kind of pairs of boxes, in units of the target's root area but for ``mixed``. Steepness is no
merit: the pairs descend every loss at each of ``RATES``, and the rate that ends at the highest mean IoU counts. All
figures are of that one: the IoU, and how many iterations the boxes need to come within .75 and .95 of their target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.box_pairs import LossParameters, descend, iou, log_uniform, unit_pairs


class Situation(NamedTuple):
    """Pairs of some families, of which those count whose IoU is in a range."""

    summary: str
    families: tuple[str, ...]
    lowest: float = 0.0
    highest: float = 1.0
    scales: float = 1.0  # boxes are up to so many times longer or shorter
    noise: float = 0.0  # standard deviation of x, y, w, h of what is shown as the target, in its sides

    def about(self, overlap: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        return (overlap >= self.lowest) & (overlap <= self.highest)


SITUATIONS = {
    "apart": Situation("no overlap, gaps of up to three sides", ("apart",)),
    "poor": Situation("IoU up to .2 at the start", ("random",), lowest=1e-3, highest=0.2),
    "nested": Situation("one box in the other", ("nested",)),
    "equal_ratio": Situation("the ratio is right and the size is not", ("equal_ratio",), lowest=1e-3),
    "fine": Situation("IoU from .75 to .94 at the start", ("near_equal", "random"), lowest=0.75, highest=0.94),
    "mixed": Situation("boxes up to four times longer or shorter, at one rate", ("random",), lowest=1e-3, scales=4),
    "noisy": Situation("the target shown moves by a tenth of its sides", ("random",), lowest=1e-3, noise=0.1),
}
SituationName = Literal["apart", "poor", "nested", "equal_ratio", "fine", "mixed", "noisy"]
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


class Parameters(LossParameters):
    """``pairs`` of the situation."""

    situation: SituationName
    pairs: int = Field(300, ge=20)
    iterations: int = Field(200, ge=10)


@task(
    entry="loss",
    catalogue="losses",
    measures=[
        Measure("iou_start", "mean IoU at the start", unit="1", direction="target", window=1e-6),
        # At a rate at which boxes hop about, rounding decides: another eps moves GIoU's mean IoU by .05.
        Measure("iou_final", "mean IoU in the end", unit="1", direction="higher", window=0.1),
        Measure("to_75", "mean iterations to IoU .75; all of them for a box that does not get there", window=0.2),
        Measure("to_95", "mean iterations to IoU .95, likewise", window=0.2),
        Measure("rate", "the best of the rates", direction="target", window=3),
    ],
)
def iou_choice(parameters: Parameters, context: Context) -> Measurements:
    """Regress boxes in one situation by one loss at several rates: where the best ends, and how soon it gets near."""
    situation, n = SITUATIONS[parameters.situation], parameters.pairs
    source = torch.Generator().manual_seed(context.seed)
    boxes, target = (each.to(context.device) for each in draw(situation, n, source))
    # Rates side by side in one batch, but for a loss whose rows depend on it.
    together = [(rate,) for rate in RATES] if parameters.batched else [RATES]
    curves = torch.cat([_curves(parameters, boxes, target, rates, source.initial_seed()) for rates in together], 1)
    if not bool(curves.isfinite().all()):
        raise FloatingPointError(f"{parameters.loss}: a box that followed the loss is not finite")
    best = int(curves[-1].mean(1).argmax())
    curve = curves[:, best]
    context.keep("iou_curves", curves.mean(2))
    context.keep("iou_final", curve[-1])
    return {
        "iou_start": curve[0].mean().item(),
        "iou_final": mean(curve[-1]),
        "to_75": mean(first(curve >= 0.75)),
        "to_95": mean(first(curve >= 0.95)),
        "rate": RATES[best],
    }


def _curves(
    parameters: Parameters, boxes: Tensor, target: Tensor, rates: tuple[float, ...], seed: int
) -> Float[Tensor, "iterations+1 rates n"]:
    """IoU of every pair at each of the rates, before and after each update; all rates see the same noise."""
    k = len(rates)
    start, goal = boxes.repeat(k, 1), target.repeat(k, 1)
    noisy = (
        each.repeat(k, 1)
        for each in shown(SITUATIONS[parameters.situation], target, torch.Generator().manual_seed(seed))
    )
    rate = boxes.new_tensor(rates).repeat_interleave(len(boxes))[:, None]
    overlap = [iou(start, goal)]
    overlap += [iou(moved, goal) for moved in descend(parameters.bound(), start, noisy, parameters.iterations, rate)]
    return torch.stack(overlap).view(len(overlap), k, len(boxes))


def draw(situation: Situation, n: int, source: torch.Generator) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """``n`` predictions and targets of the situation."""
    found: list[tuple[Tensor, Tensor]] = []
    while sum(len(boxes) for boxes, _ in found) < n:
        boxes, target = unit_pairs(8 * n, source, *situation.families)
        about = situation.about(iou(boxes, target))
        found.append((boxes[about], target[about]))
    boxes, target = (torch.cat(each) for each in zip(*found, strict=True))
    chosen = torch.randperm(len(boxes), generator=source)[:n]  # families stand in a row
    scale = log_uniform(n, source, 1 / situation.scales, situation.scales, 1)
    return boxes[chosen] * scale, target[chosen] * scale


def shown(situation: Situation, target: Float[Tensor, "n 4"], source: torch.Generator) -> Iterator[Tensor]:
    """The target, as it is shown at each iteration."""
    sides = target[:, 2:].repeat(1, 2)
    while True:
        noise = torch.randn(target.shape, generator=source, dtype=torch.float64).to(target)
        yield target + situation.noise * sides * noise


def first(reached: Bool[Tensor, "iterations+1 n"]) -> Float[Tensor, " n"]:
    """The iteration at which each box first is there, the last one if never."""
    last = len(reached) - 1
    return torch.where(reached.any(0), reached.double().argmax(0), last).double()


def mean(values: Float[Tensor, " n"]) -> Value:
    """The mean with its 95 % interval, of as many independent pairs."""
    reach = 1.96 * values.std().item() / math.sqrt(len(values))
    middle = values.mean().item()
    return Value(middle, (middle - reach, middle + reach), n=len(values))

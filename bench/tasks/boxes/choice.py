"""How far a box loss brings boxes in one situation, by the DIoU paper's protocol: what to choose a loss by.

Each situation is a kind of pairs of boxes, in units of the target's root area but for ``mixed``. Steepness is no merit:
some pairs descend the loss at each of several rates, and the lowest rate is chosen whose mean IoU in the end is within
a standard error of the best. Where fewer than ``BEYOND`` rates lie below or above, lower or higher ones are tried too.
All figures are of other pairs that descend at the chosen rate: the IoU, and how many iterations the boxes need to come
within .75 and .95 of their target. All losses meet the same pairs, so that they are compared pair by pair
(``bench.report.best``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.boxes.pairs import LossParameters, descend, iou, log_uniform, unit_pairs


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
STEPS = range(-7, 3)  # the rates tried at first: .0003, .001, .003, ..., 3, 10
BEYOND = 2
WIDEST = range(-12, 9)  # ... and at most: 1e-6 to 1e4
# Bits repeat on one machine. Where boxes hop about, a change of every start's last bit, as another instruction set
# makes it, moved these figures by up to .021 of themselves (tried: 14 losses in apart, mixed and poor).
WINDOW = 0.03
FIGURES = ("iou_final", "to_75", "to_95")


class Parameters(LossParameters):
    """``pairs`` of the situation to judge by, and half as many others to choose the rate by."""

    situation: SituationName
    pairs: int = Field(300, ge=20)
    iterations: int = Field(200, ge=10)


@task(
    entry="loss",
    catalogue="losses",
    measures=[
        Measure("iou_start", "mean IoU at the start", unit="1", direction="target", window=1e-6),
        Measure("iou_final", "mean IoU in the end", unit="1", direction="higher", window=WINDOW),
        Measure("to_75", "mean iterations to IoU .75; all of them for a box that does not get there", window=WINDOW),
        Measure("to_95", "mean iterations to IoU .95, likewise", window=WINDOW),
        Measure("rate", "the rate that the choosing pairs choose", direction="target", window=0),
        Measure("at_edge", "whether their best rate is at an end of the widest grid", "yes/no", "target", window=0),
    ],
)
def iou_choice(parameters: Parameters, context: Context) -> Measurements:
    """Regress boxes in one situation by one loss, at a rate that other boxes of that situation choose."""
    choosing = _Pairs(parameters, parameters.pairs // 2, 2 * context.seed, context.device)
    judging = _Pairs(parameters, parameters.pairs, 2 * context.seed + 1, context.device)
    step, at_edge, curves = _best_step(choosing)
    chosen, curve = curves[step], judging.curves([step])[step]
    context.keep("rates", torch.tensor([rate(k) for k in sorted(curves)], dtype=torch.float64))
    context.keep("iou_curves", torch.stack([curves[k].mean(1) for k in sorted(curves)], 1))
    measured: dict[str, float | Value] = {"iou_start": curve[0].mean().item()}
    for name, of_judging, of_choosing in zip(FIGURES, _figures(curve), _figures(chosen), strict=True):
        measured[name] = mean(of_judging)
        context.keep(name, of_judging)
        context.keep(f"{name}_choosing", of_choosing)
    return measured | {"rate": rate(step), "at_edge": float(at_edge)}


def rate(step: int) -> float:
    """1, 3, 10, 30, ... for 0, 1, 2, 3, ..., and .3, .1, ... below."""
    return float(f"{3 if step % 2 else 1}e{step // 2}")  # as it is written: 3 times .1 is not .3


class _Pairs:
    """Pairs of a situation, and how they fare."""

    def __init__(self, parameters: Parameters, n: int, seed: int, device: str):
        self.parameters, self.seed = parameters, seed
        self.situation = SITUATIONS[parameters.situation]
        source = torch.Generator().manual_seed(seed)
        self.boxes, self.target = (each.to(device) for each in draw(self.situation, n, source))

    def curves(self, steps: Sequence[int]) -> dict[int, Float[Tensor, "iterations+1 n"]]:
        """IoU of every pair before and after each update, at the rate of each step."""
        # Rates side by side in one batch, but for a loss whose rows depend on it.
        together = [[step] for step in steps] if self.parameters.batched else [steps]
        found: dict[int, Tensor] = {}
        for chosen in together:
            rates = tuple(rate(step) for step in chosen)
            curves = _curves(self.parameters, self.boxes, self.target, rates, self.seed)
            if not bool(curves.isfinite().all()):
                raise FloatingPointError(f"{self.parameters.loss}: a box that followed the loss is not finite")
            found |= dict(zip(chosen, curves.unbind(1), strict=True))
        return found


def _best_step(pairs: _Pairs) -> tuple[int, bool, dict[int, Tensor]]:
    """The lowest rate within a standard error of the best, whether that is at an end of ``WIDEST``, and all curves.

    At too high a rate boxes hop about, and which of several such rates ends best is decided by the last bits.
    """
    curves = pairs.curves(STEPS)
    while True:
        ends = {step: curves[step][-1] for step in sorted(curves)}
        best = max(ends, key=lambda step: float(ends[step].mean()))
        behind = {step: ends[best] - end for step, end in ends.items()}
        chosen = next(k for k, d in behind.items() if d.mean() <= d.std() / math.sqrt(len(d)))
        around = range(chosen - BEYOND, best + BEYOND + 1)
        wider = [step for step in around if step in WIDEST and step not in curves]
        if not wider or not torch.stack([*behind.values()]).any():  # no rate moves anything
            return chosen, best in (WIDEST[0], WIDEST[-1]), curves
        curves |= pairs.curves(wider)


def _figures(curve: Float[Tensor, "iterations+1 n"]) -> tuple[Tensor, Tensor, Tensor]:
    """``FIGURES`` of each pair."""
    return curve[-1], first(curve >= 0.75), first(curve >= 0.95)


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

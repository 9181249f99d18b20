"""Which box loss to choose in a situation: how close it brings boxes to their targets by the DIoU paper's protocol.

A situation is a distribution of pairs of boxes, in units of the square root of the target's area (except in ``mixed``).
Losses are not rewarded for steep gradients: a set of pairs descends the loss at several rates, and the lowest rate is
chosen whose final mean IoU is within a standard error of the best. If fewer than ``BEYOND`` rates were tried on either
side of it, the grid is extended. All figures are measured on other pairs at the chosen rate: the final IoU, and how
many iterations the boxes need to reach an IoU of .75 and of .95. All losses get the same pairs, so that they can be
compared pair by pair (``bench.report.best``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.boxes.calls import bind, depends_on_batch
from bench.tasks.boxes.pairs import descend, draw_log_uniform, iou, unit_pairs

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import ChoiceParameters


class Situation(NamedTuple):
    """A distribution of pairs of boxes in which losses are compared: some families of pairs, in a range of IoU.

    Pairs are scaled by up to the factor ``scales``, or its inverse; ``noise`` is that on the target's x, y, w, h, in
    units of its sides.
    """

    summary: str
    families: tuple[str, ...]
    lowest: float = 0.0
    highest: float = 1.0
    scales: float = 1.0  # pairs are scaled by up to this factor, or its inverse
    noise: float = 0.0  # standard deviation of the noise on the target's x, y, w, h, in units of its sides

    def covers(self, overlap: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Whether each IoU of a pair lies in the range of the situation."""
        return (overlap >= self.lowest) & (overlap <= self.highest)


SITUATIONS = {
    "apart": Situation("no overlap, gaps of up to three sides", ("apart",)),
    "poor": Situation("IoU up to .2 at the start", ("random",), lowest=1e-3, highest=0.2),
    "nested": Situation("one box inside the other", ("nested",)),
    "equal_ratio": Situation("right aspect ratio, wrong size", ("equal_ratio",), lowest=1e-3),
    "fine": Situation("IoU from .75 to .94 at the start", ("near_equal", "random"), lowest=0.75, highest=0.94),
    "mixed": Situation("pairs of boxes of very different scale, at one rate", ("random",), lowest=1e-3, scales=4),
    "noisy": Situation("noise of a tenth of its sides on the target", ("random",), lowest=1e-3, noise=0.1),
}
STEPS = range(-7, 3)  # the rates that are tried first: .0003, .001, .003, ..., 3, 10
BEYOND = 2  # rates that must have been tried below and above the chosen one
WIDEST = range(-12, 9)  # the widest grid of rates: 1e-6 to 1e4
# On one machine the figures repeat bit for bit. Where boxes overshoot, a change of the last bit of every start, as
# another instruction set may cause it, changed a figure by up to 2.1 % (14 losses were tried in apart, mixed and poor).
FIGURES = ("iou_final", "to_75", "to_95")


def iou_choice(parameters: ChoiceParameters, context: Context) -> Measurements:
    """Regress boxes in one situation by one loss, at a rate chosen on other boxes of that situation.

    It measures the final mean IoU, and how many iterations the boxes need to reach an IoU of .75 and of .95.
    """
    choosing = _Pairs(parameters, parameters.pairs // 2, 2 * context.seed, context.device)
    judging = _Pairs(parameters, parameters.pairs, 2 * context.seed + 1, context.device)
    step, at_edge, curves = _best_step(choosing)
    chosen, curve = curves[step], judging.curves([step])[step]
    context.keep("rates", torch.tensor([rate(k) for k in sorted(curves)], dtype=torch.float64))
    context.keep("iou_curves", torch.stack([curves[k].mean(1) for k in sorted(curves)], 1))
    measured: dict[str, float | Value] = {"iou_start": curve[0].mean().item()}
    for name, of_judging, of_choosing in zip(FIGURES, _figures(curve), _figures(chosen), strict=True):
        measured[name] = mean_with_interval(of_judging)
        context.keep(name, of_judging)
        context.keep(f"{name}_choosing", of_choosing)
    return measured | {"rate": rate(step), "at_edge": float(at_edge)}


def rate(step: int) -> float:
    """The learning rate at a step of its grid: 1, 3, 10, 30, ... for 0, 1, 2, 3, ..., and .3, .1, ... below 0."""
    return float(f"{3 if step % 2 else 1}e{step // 2}")  # from its digits, since 3 times .1 is not .3


class _Pairs:
    """Pairs of a situation, and their IoU during a descent."""

    def __init__(self, parameters: ChoiceParameters, n: int, seed: int, device: str):
        self.parameters, self.seed = parameters, seed
        self.situation = SITUATIONS[parameters.situation]
        source = torch.Generator().manual_seed(seed)
        self.boxes, self.target = (each.to(device) for each in draw_pairs(self.situation, n, source))

    def curves(self, steps: Sequence[int]) -> dict[int, Float[Tensor, "iterations+1 n"]]:
        """IoU of every pair before and after each update, for the rate of each step."""
        # All rates run side by side in one batch, except for a loss whose rows depend on their batch.
        together = (
            [[step] for step in steps] if depends_on_batch(self.parameters.loss, self.parameters.options) else [steps]
        )
        found: dict[int, Tensor] = {}
        for chosen in together:
            rates = tuple(rate(step) for step in chosen)
            curves = _curves(self.parameters, self.boxes, self.target, rates, self.seed)
            if not bool(curves.isfinite().all()):
                raise FloatingPointError(f"{self.parameters.loss}: a box that followed the loss is not finite")
            found |= dict(zip(chosen, curves.unbind(1), strict=True))
        return found


def _best_step(pairs: _Pairs) -> tuple[int, bool, dict[int, Tensor]]:
    """The lowest rate within a standard error of the best, whether the best is at an end of ``WIDEST``, and all curves.

    At a rate that is too high boxes overshoot, and which of several such rates ends best depends on the last bits.
    """
    curves = pairs.curves(STEPS)
    while True:
        ends = {step: curves[step][-1] for step in sorted(curves)}
        best = max(ends, key=lambda step: float(ends[step].mean()))
        behind = {step: ends[best] - end for step, end in ends.items()}
        chosen = next(k for k, d in behind.items() if d.mean() <= d.std() / math.sqrt(len(d)))
        around = range(chosen - BEYOND, best + BEYOND + 1)
        wider = [step for step in around if step in WIDEST and step not in curves]
        if not wider or not torch.stack([*behind.values()]).any():  # the latter: no rate moves any box
            return chosen, best in (WIDEST[0], WIDEST[-1]), curves
        curves |= pairs.curves(wider)


def _figures(curve: Float[Tensor, "iterations+1 n"]) -> tuple[Tensor, Tensor, Tensor]:
    """The ``FIGURES`` of each pair."""
    return curve[-1], first_iteration(curve >= 0.75), first_iteration(curve >= 0.95)


def _curves(
    parameters: ChoiceParameters, boxes: Tensor, target: Tensor, rates: tuple[float, ...], seed: int
) -> Float[Tensor, "iterations+1 rates n"]:
    """IoU of every pair before and after each update, at each of the rates; all rates get the same noise."""
    k = len(rates)
    start, goal = boxes.repeat(k, 1), target.repeat(k, 1)
    noisy = (
        each.repeat(k, 1)
        for each in show_target(SITUATIONS[parameters.situation], target, torch.Generator().manual_seed(seed))
    )
    rate = boxes.new_tensor(rates).repeat_interleave(len(boxes))[:, None]
    overlap = [iou(start, goal)]
    overlap += [
        iou(moved, goal)
        for moved in descend(bind(parameters.loss, parameters.options), start, noisy, parameters.iterations, rate)
    ]
    return torch.stack(overlap).view(len(overlap), k, len(boxes))


def draw_pairs(
    situation: Situation, n: int, source: torch.Generator
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Draw ``n`` predictions and targets (x, y, w, h) of a situation, in units of the root of the target's area.

    Pairs of the situation ``mixed`` are scaled besides.
    """
    found: list[tuple[Tensor, Tensor]] = []
    while sum(len(boxes) for boxes, _ in found) < n:
        boxes, target = unit_pairs(8 * n, source, *situation.families)
        inside = situation.covers(iou(boxes, target))
        found.append((boxes[inside], target[inside]))
    boxes, target = (torch.cat(each) for each in zip(*found, strict=True))
    chosen = torch.randperm(len(boxes), generator=source)[:n]  # shuffled, since they are sorted by family
    scale = draw_log_uniform(n, source, 1 / situation.scales, situation.scales, 1)
    return boxes[chosen] * scale, target[chosen] * scale


def show_target(situation: Situation, target: Float[Tensor, "n 4"], source: torch.Generator) -> Iterator[Tensor]:
    """The target that the descent sees at each iteration: with the situation's noise, drawn anew, if it has any."""
    sides = target[:, 2:].repeat(1, 2)
    while True:
        noise = torch.randn(target.shape, generator=source, dtype=torch.float64).to(target)
        yield target + situation.noise * sides * noise


def first_iteration(reached: Bool[Tensor, "iterations+1 n"]) -> Float[Tensor, " n"]:
    """The first iteration at which ``reached`` is true for each pair, or the last iteration if it never is."""
    last = len(reached) - 1
    return torch.where(reached.any(0), reached.double().argmax(0), last).double()


def mean_with_interval(values: Float[Tensor, " n"]) -> Value:
    """The mean over independent pairs of boxes, with its 95 % interval."""
    reach = 1.96 * values.std().item() / math.sqrt(len(values))
    middle = values.mean().item()
    return Value(middle, (middle - reach, middle + reach), n=len(values))

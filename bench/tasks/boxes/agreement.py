"""Does a box loss rank boxes as IoU does, and does its value at the start predict how a regression ends?

The task measures two rank correlations, Spearman's rho and Kendall's tau-b: of the loss with ``1 - IoU`` of the same
pair, and of the loss at the start with ``1 - IoU`` after a regression by that loss (the DIoU paper's protocol). Each is
taken over the pairs that overlap at the start, and over all pairs. Intervals are the central 95 % of bootstrap
resamples of the pairs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from bench.task import Context, Measurements, Value
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.pairs import descend, iou, unit_pairs
from bench.tasks.intervals import CORRELATIONS, correlate

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import AgreementParameters


WHEN = ("", "final_")  # before the names of correlations with the IoU of the start and of the end
WHERE = ("overlapping", "all")


def iou_agreement(parameters: AgreementParameters, context: Context) -> Measurements:
    """Rank correlation of a box loss with IoU, at the start and at the end of a regression by it.

    It measures Spearman's rho and Kendall's tau-b of the loss at the start with ``1 - IoU``, over random pairs of
    boxes.
    """
    source = torch.Generator().manual_seed(context.seed)
    boxes, target = (each.to(context.device) for each in unit_pairs(parameters.pairs, source, "random"))
    loss = bind(parameters.loss, parameters.options, rowwise=True)(boxes, target)
    *_, moved = descend(
        bind(parameters.loss, parameters.options), boxes, itertools.repeat(target), parameters.iterations
    )
    # Boxes that have arrived differ only by rounding, which must not be ranked.
    overlap, final = iou(boxes, target), iou(moved, target).mul(1e6).round().div(1e6)
    if not bool(loss.isfinite().all() and moved.isfinite().all()):
        raise FloatingPointError(f"{parameters.loss}: the loss or a box that followed it is not finite")
    for name, values in {"loss": loss, "iou": overlap, "final_iou": final, "boxes": boxes, "targets": target}.items():
        context.keep(name, values)
    measured: dict[str, float | Value] = {}
    for where, when in itertools.product(WHERE, WHEN):
        chosen = overlap > (0 if where == "overlapping" else -1)
        columns = [each[chosen].cpu().numpy() for each in (loss, 1 - (final if when else overlap))]
        for name in CORRELATIONS:
            value = correlate(name, *columns, resamples=parameters.resamples, seed=context.seed)
            if value is not None:
                measured[f"{when}{name}_{where}"] = value
    return measured

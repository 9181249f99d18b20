"""Properties of box losses, each decided by a search: "yes" means that no counter-example was found in n cases.

``claims`` defines the properties, ``counterexample`` searches. A loss is searched row by row; WIoU v2 and v3, whose
rows depend on their batch, get the constant mean of 1 - IoU ``STATE``. The record keeps the boxes that break a claim
and both sides of the inequality, and how many cases of each configuration were drawn, as pairs of a number
(``arrangements.configuration``) and a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.task import Context, Measurements, Value
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.claims import CLAIMS
from bench.tasks.boxes.counterexample import search

if TYPE_CHECKING:
    from bench.tasks.boxes.declarations import PropertiesParameters


def iou_properties(parameters: PropertiesParameters, context: Context) -> Measurements:
    """Search for a counter-example to each property of a box loss, and keep the worst.

    A property is a claim such as the triangle inequality; it holds if no counter-example is found.
    """
    loss = bind(parameters.loss, parameters.options, rowwise=True)
    measured: dict[str, Value] = {}
    for name, claim in CLAIMS.items():
        source = torch.Generator().manual_seed(context.seed)
        verdict = search(claim, loss, parameters.cases, source, context.device, starts=parameters.starts)
        measured[name] = Value(float(verdict.holds), n=verdict.cases)
        measured[f"{name}_violation"] = Value(verdict.violation, n=verdict.cases)
        context.keep(f"{name}_drawn", torch.tensor(list(verdict.drawn.items())))
        if verdict.boxes is not None and verdict.sides is not None:
            context.keep(f"{name}_boxes", verdict.boxes)
            context.keep(f"{name}_sides", verdict.sides)
    return measured

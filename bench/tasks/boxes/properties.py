"""Properties of box losses, each decided by a search for a counter-example: "yes" means that none was found in n cases.

The claims are in ``box_claims``, the search in ``counterexample``. Every row of a loss is searched on its own: WIoU v2
and v3, whose rows depend on their batch, are held at a mean of 1 - IoU of ``STATE``. What breaks a claim is kept beside
the record: the boxes, and both sides of the inequality; so is how many cases of each configuration were drawn, as pairs
of a number (``arrangements.configuration``) and a count.
"""

from __future__ import annotations

import torch
from pydantic import Field

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.boxes.claims import CLAIMS
from bench.tasks.boxes.counterexample import STARTS, search
from bench.tasks.boxes.pairs import LossParameters


class Parameters(LossParameters):
    """``cases``: how many are drawn for each property; ``starts``: from how many of them the search ascends."""

    cases: int = Field(20_000, ge=100)
    starts: int = Field(STARTS, ge=2)


@task(
    entry="loss",
    catalogue="losses",
    measures=[
        measure
        for name, claim in CLAIMS.items()
        for measure in (
            Measure(name, claim.summary, unit="yes/no", direction="target", window=0, floor=0),
            # Where the climb ends depends on the last bits of a machine's arithmetic.
            Measure(f"{name}_violation", "by how much the worst case breaks it", direction="target", window=0.1),
        )
    ],
)
def iou_properties(parameters: Parameters, context: Context) -> Measurements:
    """Search for a counter-example to each property of a box loss, and keep the worst."""
    loss = parameters.bound(rowwise=True)
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

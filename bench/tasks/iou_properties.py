"""Properties of box losses, each decided by a search for a counter-example: "yes" means that none was found.

The claims are in ``box_claims``, the search in ``counterexample``. Every row of a loss is searched on its own: WIoU v2
and v3, whose rows depend on their batch, are held at a mean of 1 - IoU of ``STATE``. What breaks a claim is kept
beside the record: the boxes, and both sides of the inequality.
"""

from __future__ import annotations

import torch
from pydantic import Field

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.box_claims import CLAIMS
from bench.tasks.box_pairs import LossParameters
from bench.tasks.counterexample import search


class Parameters(LossParameters):
    """``cases``: how many random ones each property starts from."""

    cases: int = Field(20_000, ge=100)


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
        verdict = search(claim, loss, parameters.cases, source, context.device)
        measured[name] = Value(float(verdict.holds), n=verdict.cases)
        measured[f"{name}_violation"] = Value(verdict.violation, n=verdict.cases)
        if verdict.boxes is not None and verdict.sides is not None:
            context.keep(f"{name}_boxes", verdict.boxes)
            context.keep(f"{name}_sides", verdict.sides)
    return measured

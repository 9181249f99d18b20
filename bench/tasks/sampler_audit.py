"""The certificate as measures: of each check whether it holds, and its figure; what is not applicable is left out."""

from __future__ import annotations

from typing import Any

from bench.audit import CHECKS, Finding, Subject, audit, subjects
from bench.task import Context, Measure, Measurements, SamplerName, TaskParameters, Value, task
from implementations.catalogue import SAMPLERS


class Parameters(TaskParameters):
    """A sampler with its options, or in all its ``variants``: each coordinate and order, and with noise."""

    sampler: SamplerName
    options: dict[str, Any] = {}
    variants: bool = False


@task(
    entry="sampler",
    catalogue="samplers",
    measures=[
        *(
            measure
            for name, check in CHECKS.items()
            for measure in (
                Measure(name, (check.__doc__ or "").partition("\n")[0], "yes/no", "target", window=0, floor=0),
                # a figure that holds is often the rounding of a machine
                Measure(f"{name}_figure", "what was measured, of variants the worst", "", "target", True, 0.1, 1e-4),
            )
        ),
        Measure("failures", "checks that fail", window=0, floor=0),
    ],
)
def sampler_audit(parameters: Parameters, context: Context) -> Measurements:
    """Every check of a sampler; of several variants a check holds where it holds for each."""
    own = Subject(SAMPLERS[parameters.sampler].loaded(), parameters.options)
    audited = list(subjects(parameters.sampler)) if parameters.variants else [own]
    found = [finding for subject in audited for finding in audit(subject)]
    measured: dict[str, float | Value] = {}
    for name in CHECKS:
        of_check = [one for one in found if one.check == name and one.verdict != "not applicable"]
        if of_check:
            measured[name] = Value(float(all(one.verdict == "pass" for one in of_check)), n=len(of_check))
        figures = [one for one in of_check if one.figure is not None and abs(one.figure) < float("inf")]
        if figures:
            measured[f"{name}_figure"] = Value(_worst(figures), n=len(figures))
    return measured | {"failures": float(sum(one.verdict == "fail" for one in found))}


def _worst(found: list[Finding]) -> float:
    """The figure of what fails, else the least order or the largest of any other."""
    shown = [one for one in found if one.verdict == "fail"] or found
    pick = min if shown[0].check == "order" else max
    return pick(one.figure for one in shown if one.figure is not None)

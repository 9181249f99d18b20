"""The audit as measures: whether each check holds, its figure, and how many verdicts there are of each kind.

A check that is not applicable has no measure; one in error does not hold.
"""

from __future__ import annotations

from typing import Any

from bench.audit import CHECKS, CheckVerdict, Finding, Subject, audit, subjects
from bench.task import Context, Measure, Measurements, SamplerName, TaskParameters, Value, task
from implementations.catalogue import SAMPLERS

COUNTED: dict[str, CheckVerdict] = {
    "passes": "pass",
    "failures": "fail",
    "errors": "error",
    "not_applicable": "not applicable",
}


class Parameters(TaskParameters):
    """A sampler under audit with its options, or all its ``variants``.

    These are each coordinate and order, with noise and without.
    """

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
                # The figure of a check that holds is often rounding, which differs between machines.
                Measure(f"{name}_figure", "its figure, the worst of all variants", "", "target", True, 0.1, 1e-4),
            )
        ),
        Measure("passes", "checks that hold", direction="target", window=0, floor=0),
        Measure("failures", "checks that fail", window=0, floor=0),
        Measure("errors", "checks in which the sampler raised, or that could not be measured", window=0, floor=0),
        Measure("not_applicable", "checks without a meaning for this method", direction="target",
                window=0, floor=0),
    ],
)  # fmt: skip
def sampler_audit(parameters: Parameters, context: Context) -> Measurements:
    """Run every check of a sampler; over several variants, a check holds where it holds for each."""
    own = Subject(SAMPLERS[parameters.sampler].load(), parameters.options)
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
    return measured | {name: float(sum(one.verdict == kind for one in found)) for name, kind in COUNTED.items()}


def _worst(found: list[Finding]) -> float:
    """The worst figure: of the variants that fail, if any; the least for a slope, the largest otherwise."""
    shown = [one for one in found if one.bad] or found
    pick = min if shown[0].check in ("order", "defect") else max
    return pick(one.figure for one in shown if one.figure is not None)

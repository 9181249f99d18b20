"""The audit as measures: whether each check holds, its figure, and how many verdicts there are of each kind.

A check that is not applicable has no measure; one in error does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.audit import CHECKS, CheckVerdict, Finding, Subject, audit, subjects
from bench.task import Context, Measurements, Value
from implementations.catalogue import SAMPLERS

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import AuditParameters

COUNTED: dict[str, CheckVerdict] = {
    "passes": "pass",
    "failures": "fail",
    "errors": "error",
    "not_applicable": "not applicable",
}


def sampler_audit(parameters: AuditParameters, context: Context) -> Measurements:
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

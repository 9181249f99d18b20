"""Two stores, one verdict a measure: better, same, worse, ambiguous, new, missing, incomparable.

Cells are matched by key (task, entry, parameters, seed). A deterministic measure gates by its two-sided window; a
timing, given with its interval, is advisory unless asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Literal

from bench.store import Measured, Record

Verdict = Literal["better", "same", "worse", "ambiguous", "new", "missing", "incomparable"]
FACTOR = 1.1  # a timing differs only beyond this ratio, its interval apart


@dataclass(frozen=True)
class Finding:
    """One line of a comparison; ``gates`` is True where it decides the exit code."""

    verdict: Verdict
    task: str
    entry: str
    cell: str
    measure: str
    baseline: float | str | None
    candidate: float | str | None
    why: str = ""
    gates: bool = True

    def line(self) -> str:
        """The finding as one line of text."""
        values = f"{_show(self.baseline)} -> {_show(self.candidate)}"
        note = f" ({self.why})" if self.why else ""
        return f"{self.verdict:<12} {self.task}/{self.entry} [{self.cell}] {self.measure}: {values}{note}"


@dataclass(frozen=True)
class Comparison:
    """All findings of two stores."""

    findings: list[Finding]

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each verdict."""
        return dict(Counter(finding.verdict for finding in self.findings))

    @property
    def exit_code(self) -> int:
        """1 where a gating finding is worse or missing, else 0; ambiguous never fails."""
        return int(any(f.gates and f.verdict in ("worse", "missing") for f in self.findings))

    def as_dict(self) -> dict[str, object]:
        """For machines."""
        findings = [{k: _strict(v) for k, v in asdict(finding).items()} for finding in self.findings]
        return {"exit_code": self.exit_code, "counts": self.counts, "findings": findings}


def compare(baseline: list[Record], candidate: list[Record], *, gate_timings: bool = False) -> Comparison:
    """Hold a candidate's records against a baseline's."""
    before, after = ({record.key: record for record in records} for records in (baseline, candidate))
    findings: list[Finding] = []
    for key, old in before.items():
        findings += _cell(old, after.get(key), gate_timings)
    for key, new in after.items():
        if key not in before:
            failed = new.status not in ("ok", "skipped")
            findings.append(_finding("worse" if failed else "new", new, "status", None, new.status, new.error or ""))
    return Comparison(findings)


def _cell(old: Record, new: Record | None, gate_timings: bool) -> list[Finding]:
    if new is None:
        return [_finding("missing", old, "cell", old.status, None, "the candidate has no such cell")]
    if new.status != old.status:
        verdict: Verdict = "worse" if old.status in ("ok", "skipped") and new.status != "ok" else "better"
        if old.status == "ok" and new.status == "skipped":
            verdict = "missing"
        if verdict == "better" and new.status != "ok":
            verdict = "ambiguous"  # it failed before, and fails otherwise now
        return [_finding(verdict, new, "status", old.status, new.status, new.error or "")]
    if old.status != "ok":
        return [_finding("same", new, "status", old.status, new.status)]
    if old.device != new.device:
        return [_finding("incomparable", new, "device", old.device, new.device, "device differs")]
    findings = []
    for measure in old.measures:
        found = new.measure(measure.name)
        if found is None:
            gates = measure.deterministic or gate_timings
            findings.append(_finding("missing", new, measure.name, measure.value, None, gates=gates))
            continue
        if not measure.deterministic and measure.unit and old.hardware != new.hardware:
            verdict, why = "incomparable", f"{old.hardware} and {new.hardware}"  # ratios remain
        else:
            verdict, why = _judge(measure, found)
        gates = measure.deterministic or found.deterministic or gate_timings
        findings.append(_finding(verdict, new, measure.name, measure.value, found.value, why, gates))
    known = {measure.name for measure in old.measures}
    findings += [_finding("new", new, m.name, None, m.value) for m in new.measures if m.name not in known]
    return findings


def _judge(old: Measured, new: Measured) -> tuple[Verdict, str]:
    for field in ("extractor", "reference"):
        if getattr(old, field) != getattr(new, field):
            return "incomparable", f"{field} differs: {getattr(old, field)} and {getattr(new, field)}"
    for field in ("unit", "direction", "deterministic"):  # a gate must not open because its declaration changed
        if getattr(old, field) != getattr(new, field):
            return "worse", f"{field} differs: {getattr(old, field)} and {getattr(new, field)}; make a new baseline"
    if not old.deterministic:
        return _judge_timing(old, new)
    if old.value == new.value or (math.isnan(old.value) and math.isnan(new.value)):
        return "same", ""
    if not math.isfinite(new.value):
        return "worse", "not finite"
    if not math.isfinite(old.value):
        return "better", "finite now"
    change = new.value - old.value
    allowed = max(old.window * abs(old.value), old.floor)
    if abs(change) <= allowed:
        return "same", ""
    why = f"outside its window of {allowed:.2g}"
    if old.direction == "target":
        return "worse", why
    return ("better" if (change < 0) == (old.direction == "lower") else "worse"), why


def _judge_timing(old: Measured, new: Measured) -> tuple[Verdict, str]:
    if not old.value > 0 or not math.isfinite(new.value):
        return "ambiguous", "a timing of 0 or without a value"
    ratio = new.value / old.value
    if 1 / FACTOR <= ratio <= FACTOR:
        return "same", ""
    if not old.interval or not new.interval:
        return "ambiguous", f"ratio {ratio:.2f}, no interval"
    (low, high), (new_low, new_high) = old.interval, new.interval
    if new_low <= high and low <= new_high:
        return "ambiguous", f"ratio {ratio:.2f}, the intervals overlap"
    return ("better" if (ratio < 1) == (old.direction == "lower") else "worse"), f"ratio {ratio:.2f}, advisory"


def _finding(
    verdict: Verdict, record: Record, measure: str, old: float | str | None, new: float | str | None, why: str = "",
    gates: bool = True,
) -> Finding:  # fmt: skip
    shown = record.parameters | {"seed": record.seed}
    cell = ", ".join(f"{k}={v}" for k, v in shown.items() if str(v) != record.entry)
    return Finding(verdict, record.task, record.entry, cell, measure, old, new, why, gates)


def _strict(value: object) -> object:
    """NaN and infinities as strings: JSON has none."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _show(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value) if value is not None else "-"

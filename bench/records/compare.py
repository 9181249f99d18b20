"""Two stores compared, with one verdict per measure: better, same, worse, ambiguous, new, missing, incomparable.

Cells are matched by their key (task, parameters, seed, device, threads). A deterministic measure decides by its
two-sided window. A timing is judged by the intervals of both sides, and is advisory unless timings are asked to decide
too. The comparison passes if everything in the baseline could be judged and nothing is worse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from bench.errors import UsageError
from bench.files import digest
from bench.records.choice import EVERYTHING, Choice
from bench.records.record import Measurement, Record
from bench.records.store import Contents

Verdict = Literal["better", "same", "worse", "ambiguous", "new", "missing", "incomparable"]
FAILS: tuple[Verdict, ...] = ("worse", "missing", "incomparable")
JUDGED: tuple[Verdict, ...] = ("better", "same", "worse", "ambiguous")
FACTOR = 1.1  # a timing is the same up to this ratio, whatever its interval


@dataclass(frozen=True)
class Judgement:
    """The verdict on one measure, or on the status of a whole cell, of a candidate against its baseline."""

    verdict: Verdict
    task: str
    entry: str
    cell: str
    measure: str
    baseline: float | str | None
    candidate: float | str | None
    why: str = ""
    gates: bool = True  # whether it counts for the exit code
    measured: bool = False  # whether it compares two values of a measure, and not the status of two cells

    @property
    def fails(self) -> bool:
        """Whether the judgement makes the comparison fail."""
        return self.gates and self.verdict in FAILS

    def line(self) -> str:
        """The judgement as one line of text: verdict, cell, measure, both values and the reason."""
        values = f"{show(self.baseline)} -> {show(self.candidate)}"
        note = f" ({self.why})" if self.why else ""
        return f"{self.verdict:<12} {self.task}/{self.entry} [{self.cell}] {self.measure}: {values}{note}"


@dataclass(frozen=True)
class Comparison:
    """The comparison of two stores: all judgements, and the code and machines that each side's records are from."""

    judgements: list[Judgement]
    baseline: list[str]
    candidate: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """The number of judgements of the comparison by verdict."""
        return dict(Counter(one.verdict for one in self.judgements))

    @property
    def judged(self) -> int:
        """The number of measures that count for the exit code and that both sides have in a comparable form."""
        return sum(one.gates and one.measured and one.verdict in JUDGED for one in self.judgements)

    @property
    def failures(self) -> list[str]:
        """The reasons why the comparison fails, empty where it passes. An ambiguous measure never fails it."""
        gating = Counter(one.verdict for one in self.judgements if one.gates)
        reasons = [f"{gating[verdict]} {verdict}" for verdict in FAILS if gating[verdict]]
        if not self.judged:
            timings = any(not one.gates for one in self.judgements)
            new = not timings and bool(self.judgements) and all(one.verdict == "new" for one in self.judgements)
            why = ": these are timings, see --timings" if timings else ": the baseline has none of them" if new else ""
            reasons.append("no measure was judged" + why)
        return reasons

    @property
    def conclusion(self) -> str:
        """Whether the comparison passes, in words: why it fails, or how many measures were judged."""
        return f"fails: {'; '.join(self.failures)}" if self.failures else f"passes: {self.judged} measures judged"

    @property
    def exit_code(self) -> int:
        """The exit code of ``fidmap compare``: 1 where the comparison fails, else 0."""
        return int(bool(self.failures))

    def as_dict(self) -> dict[str, object]:
        """The comparison as values for JSON; NaN and infinities are strings, since strict JSON has none."""
        return {
            "exit_code": self.exit_code, "failures": self.failures, "judged": self.judged, "counts": self.counts,
            "baseline": self.baseline, "candidate": self.candidate,
            "findings": [{k: _strict(v) for k, v in asdict(one).items()} for one in self.judgements],
        }  # fmt: skip


def compare(
    baseline: Contents, candidate: Contents, *, gate_timings: bool = False, choice: Choice = EVERYTHING
) -> Comparison:
    """Compare the records of a candidate with those of a baseline, cell by cell and measure by measure.

    With ``gate_timings``, timings count for the exit code too. What ``choice`` leaves out is neither judged nor
    missing. Raises UsageError where a side has two records of a key, and where ``choice`` leaves nothing.
    """
    baseline, candidate = choice.select(baseline, candidate)
    before, after = _by_key(baseline, "baseline"), _by_key(candidate, "candidate")
    elsewhere = {_what(record): record for key, record in after.items() if key not in before}
    judgements = _judge_damaged(baseline, candidate)
    for key, old in before.items():
        if key in after:
            judgements += judge_cell(old, after[key], gate_timings, choice)
        elif moved := elsewhere.pop(_what(old), None):
            judgements.append(_judgement("incomparable", old, "cell", _where(old), _where(moved), "measured elsewhere"))
        else:
            judgements.append(_judgement("missing", old, "cell", old.status, None, "the candidate has no such cell"))
    for new in elsewhere.values():
        failed = new.status not in ("ok", "skipped")
        verdict: Verdict = "worse" if failed else "new"
        judgements.append(_judgement(verdict, new, "status", None, new.status, new.error or ""))
    return Comparison(judgements, origin(baseline.records), origin(candidate.records))


def origin(records: Iterable[Record]) -> list[str]:
    """The versions, commits and machines that made the records, one line each, those of most records first."""

    def line(record: Record) -> str:
        return f"{record.made_by}, {record.cell.device} {record.cell.hardware or 'of unknown model'}"

    return [f"{count} cells of {one}" for one, count in Counter(map(line, records)).most_common()]


def _by_key(side: Contents, name: str) -> dict[tuple[str, str, int], Record]:
    """The records of one side by what they are matched by; raises UsageError where two of them share it."""
    found: dict[tuple[str, str, int], Record] = {}
    for record in side.records:
        cell = record.cell
        if (twin := found.setdefault(cell.matched_by, record)) is not record:
            raise UsageError(
                f"the {name} has two records of {cell.task}/{cell.entry} [{_parameters(record)}]: {twin.cell.hash} of "
                f"{twin.started_at} and {cell.hash} of {record.started_at}; one of a cell is accepted"
            )
    return found


def _what(record: Record) -> str:
    """A digest of what a cell measures, which does not depend on device and threads."""
    return digest([record.cell.task, record.cell.parameters, record.cell.seed])


def _where(record: Record) -> str:
    return f"{record.cell.device}, threads={record.cell.threads}"


def _judge_damaged(baseline: Contents, candidate: Contents) -> list[Judgement]:
    """A judgement ``incomparable`` for each record that cannot be read on one side or both."""
    judgements = []
    known = {record.cell.hash: record for side in (baseline, candidate) for record in side.records}
    for name in dict.fromkeys([*baseline.damaged, *candidate.damaged]):
        twin, old, new = known.get(name), baseline.damaged.get(name), candidate.damaged.get(name)
        shown = ("damaged" if old else None, "damaged" if new else None)
        why = old or new or ""
        if twin:
            judgements.append(_judgement("incomparable", twin, "record", *shown, why))
        else:
            judgements.append(Judgement("incomparable", "?", "?", name, "record", *shown, why))
    return judgements


def judge_cell(old: Record, new: Record, gate_timings: bool, choice: Choice = EVERYTHING) -> list[Judgement]:
    """Judge a cell that both sides have: its status, unless it is ok on both, and its measures that are chosen."""
    judgements = []
    if (old.status, new.status) != ("ok", "ok"):
        verdict, why = _judge_status(old, new)
        judgements.append(_judgement(verdict, new, "status", old.status, new.status, why))
    if not new.measures and new.status != old.status:
        return judgements  # the status says it all
    for before in filter(choice.takes, old.measures):
        after = new.measure(before.name, before.entry)
        gates = before.deterministic or gate_timings or (after is not None and after.deterministic)
        if after is None:
            judgements.append(_judgement("missing", new, before, before.value, None, gates=gates))
            continue
        verdict, why = _judge(before, after, old.cell.hardware, new.cell.hardware)
        judgements.append(_judgement(verdict, new, before, before.value, after.value, why, gates, measured=True))
    if old.measures:
        known = {(measure.name, measure.entry) for measure in old.measures}
        judgements += [
            _judgement("new", new, m, None, m.value)
            for m in filter(choice.takes, new.measures)
            if (m.name, m.entry) not in known
        ]
    return judgements


def _judge_status(old: Record, new: Record) -> tuple[Verdict, str]:
    """The verdict on the statuses of a cell, with the reason; one that was ok or skipped must not fail now."""
    why = new.error or ""
    if new.status == old.status:
        return "same", why
    if new.status == "ok":
        return ("new" if old.status == "skipped" else "better"), why
    if new.status == "skipped":
        return ("missing" if old.measures else "ambiguous"), why
    if old.status in ("ok", "skipped"):
        return "worse", why
    if old.measures and not new.measures:
        return "missing", f"its measures: {why}"
    return "ambiguous", why  # it failed before, and fails otherwise now


def _judge(old: Measurement, new: Measurement, hardware: str, now: str) -> tuple[Verdict, str]:
    for field in ("extractor", "reference"):  # from another network or other data, a value means something else
        if getattr(old, field) != getattr(new, field):
            return "incomparable", f"{field} differs: {getattr(old, field)} and {getattr(new, field)}"
    for field in ("unit", "direction", "deterministic"):  # a changed declaration must not let a regression pass
        if getattr(old, field) != getattr(new, field):
            return "worse", f"{field} differs: {getattr(old, field)} and {getattr(new, field)}; make a new baseline"
    if not old.deterministic:
        if old.unit and (hardware != now or not hardware):  # ratios, which have no unit, can still be compared
            return "incomparable", f"hardware differs: {hardware or 'unknown'} and {now or 'unknown'}"
        return _judge_timing(old, new)
    if old.value == new.value or (math.isnan(old.value) and math.isnan(new.value)):
        return "same", ""
    if not math.isfinite(new.value):
        return "worse", "not finite"
    if not math.isfinite(old.value):
        return "better", "finite now"
    change = new.value - old.value
    # The narrower of the two declarations: a widened window must not let a regression pass.
    allowed = max(min(old.window, new.window) * abs(old.value), min(old.floor, new.floor))
    if abs(change) <= allowed:
        return "same", ""
    why = f"outside its window of {allowed:.2g}"
    if old.direction == "target":
        return "worse", why
    return ("better" if (change < 0) == (old.direction == "lower") else "worse"), why


def _judge_timing(old: Measurement, new: Measurement) -> tuple[Verdict, str]:
    if not (old.value > 0 and math.isfinite(old.value)):
        return "incomparable", "the baseline's is no positive number"
    if not (new.value >= 0 and math.isfinite(new.value)):
        return "worse", "no positive number"
    ratio = new.value / old.value
    if 1 / FACTOR <= ratio <= FACTOR:
        return "same", ""
    if not (_has_interval(old) and _has_interval(new)):
        return "incomparable", f"ratio {ratio:.3g}, and no interval to tell whether that is noise"
    (low, high), (new_low, new_high) = old.interval or (0, 0), new.interval or (0, 0)
    if new_low <= high and low <= new_high:
        return "ambiguous", f"ratio {ratio:.3g}, the intervals overlap"
    better = old.direction != "target" and (ratio < 1) == (old.direction == "lower")
    return ("better" if better else "worse"), f"ratio {ratio:.3g}"


def _has_interval(measure: Measurement) -> bool:
    return measure.interval is not None and all(map(math.isfinite, measure.interval))


def _judgement(
    verdict: Verdict, record: Record, of: Measurement | str, old: float | str | None, new: float | str | None,
    why: str = "", gates: bool = True, measured: bool = False,
) -> Judgement:  # fmt: skip
    """Make a judgement about a measure of a record, or about what the text ``of`` names, such as its status."""
    name, entry = (of.name, of.entry) if isinstance(of, Measurement) else (of, None)
    return Judgement(
        verdict, record.cell.task, entry or record.cell.entry, _parameters(record), name, old, new, why, gates, measured
    )


def _parameters(record: Record) -> str:
    shown = record.cell.parameters | {"seed": record.cell.seed}
    return ", ".join(f"{k}={v}" for k, v in shown.items() if str(v) != record.cell.entry)


def _strict(value: object) -> object:
    """NaN and infinities as strings: JSON has none."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def show(value: float | str | None) -> str:
    """The value of one side of a judgement as text, with six significant digits; a dash where the side has none."""
    return f"{value:.6g}" if isinstance(value, float) else str(value) if value is not None else "-"

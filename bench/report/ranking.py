"""Rankings: the entries of a family ranked by one measure, as a short table for the terminal with the best marked.

A ranking may name a parameter on which figures must not depend, as those of a sampler that integrates in the log-SNR do
not depend on the path. An entry then has one row, and a note says that its figures agree over that parameter. An entry
whose figures differ has a row per value, and the note names it.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from statistics import fmean

from bench.errors import UsageError
from bench.plan.spec import RankingColumn, RankingSpec
from bench.plan.suite import SuiteRun
from bench.records.record import Record
from bench.report.select import label, select, show, split_all
from bench.report.tables import APART, APART_NOTE, Table
from bench.task import Direction
from metrics.floors import Floor, tell_from_floor

EQUAL = 1e-9  # the relative difference that rounding may leave between figures that must agree
BEST = "*"

Key = tuple[str, str]  # (entry, value of the parameter on which figures must not depend)


@dataclass(frozen=True)
class Figures:
    """One column of a ranking: its numbers by row, the floor that exact draws reach, and which direction is better."""

    values: dict[Key, float]
    status: dict[Key, str]  # of records that failed
    floor: Floor | None
    direction: Direction
    title: str

    def best(self) -> float | None:
        """The best finite number of the column; None where there is none, or no direction is better."""
        finite = [value for value in self.values.values() if math.isfinite(value)]
        if not finite or self.direction == "target":
            return None
        return min(finite) if self.direction == "lower" else max(finite)


def build_rankings(records: list[Record], runs: list[SuiteRun]) -> list[Table]:
    """The rankings that the suites of ``runs`` ask for, as tables.

    One whose first column has no number is left out; one that cannot be made is named on stderr and left out.
    """
    parts = split_all(records)
    rankings = []
    for suite, cells in runs:
        own = [part for part in parts if part.cell.hash in set(cells)]
        for spec in suite.ranking:
            try:
                ranking = rank(spec, own)
            except UsageError as error:
                print(f"fidmap: {error}; left out", file=sys.stderr)
                continue
            rankings += [ranking] if ranking else []
    return rankings


def summarize(records: list[Record], runs: list[SuiteRun]) -> str:
    """The rankings of the suites of ``runs`` as one markdown text for the terminal; empty where there are none."""
    return "\n".join(ranking.render() for ranking in build_rankings(records, runs))


def rank(spec: RankingSpec, records: list[Record]) -> Table | None:
    """Rank the entries of ``records`` by the first column of ``spec``, as a table.

    Entries with equal numbers share a rank. Returns None where the first column has no number.
    """
    columns = [_read(column, spec, records) for column in spec.column]
    if columns[0].best() is None:
        return None
    keys = list(dict.fromkeys(key for column in columns for key in (*column.values, *column.status)))
    rows, apart = _merge(keys, columns)
    first = columns[0]
    sign = -1 if first.direction == "higher" else 1

    def order(row: list[Key]) -> tuple[bool, float]:
        value = _value(first, row)
        return (True, 0.0) if value is None else (False, sign * value)

    rows.sort(key=order)
    text, places, before = [], 0, None
    for place, row in enumerate(rows, 1):
        value = _value(first, row)
        places = places if value is not None and before is not None and _agree([value, before]) else place
        before = value
        name = row[0][0] if len(row) > 1 or row[0][0] not in apart else f"{row[0][0]} ({row[0][1]})"
        text.append(["-" if value is None else str(places), name, *(_cell(column, row) for column in columns)])
    if any(column.floor is not None for column in columns):
        floors = ["-" if column.floor is None else show(column.floor.mean) for column in columns]
        text.append(["", "exact draws", *floors])
    notes = [_sentence(text, columns[0], [_value(first, row) for row in rows])]
    notes += _equality(spec, keys, apart) + ([spec.note] if spec.note else [])
    if any(f"({APART})" in cell for row in text for cell in row):
        notes.append(APART_NOTE)
    header = ["", "", *(column.title for column in columns)]
    return Table(spec.name, f"{spec.title} ({BEST}: the best)", header, text, notes)


def _read(column: RankingColumn, spec: RankingSpec, records: list[Record]) -> Figures:
    """Read a column off the records: each number is the mean over the seeds.

    Raises UsageError where a row has two records of one seed.
    """
    chosen = select(records, column.task, column.where)
    found: dict[Key, dict[int, float]] = {}  # by seed
    status: dict[Key, str] = {}
    floors: list[Floor] = []
    direction: Direction = "target"
    for record in chosen:
        over = record.cell.parameters.get(spec.equal_over) if spec.equal_over else None
        key = (record.cell.entry, "" if over is None else label(over))
        measure = record.measure(column.measure)
        if record.status != "ok" or measure is None:
            if record.status not in ("ok", "skipped"):
                status[key] = record.status
            continue
        direction = measure.direction
        if record.cell.seed in found.setdefault(key, {}):
            raise UsageError(f"ranking {spec.name}: {column.title} has two records of {key[0]}: narrow `where`")
        found[key][record.cell.seed] = measure.value
        if column.floor and (exact := record.measure(column.floor)) is not None:
            floors.append(Floor(exact.value, *(exact.interval or (math.nan, math.nan))))
    values = {key: fmean(each.values()) for key, each in found.items()}
    floor = Floor(*map(fmean, zip(*floors, strict=True))) if floors else None
    return Figures(values, status, floor, direction, column.title)


def _merge(keys: list[Key], columns: list[Figures]) -> tuple[list[list[Key]], list[str]]:
    """The keys of each row, and the entries that have a row per value, since their figures depend on the parameter."""
    rows: list[list[Key]] = []
    apart = []
    for entry in dict.fromkeys(entry for entry, _ in keys):
        own = [key for key in keys if key[0] == entry]
        figures = [[column.values[key] for key in own if key in column.values] for column in columns]
        if all(map(_agree, figures)):
            rows.append(own)
        else:
            apart.append(entry)
            rows += [[key] for key in own]
    return rows, apart


def _agree(values: list[float]) -> bool:
    if not values or any(map(math.isnan, values)):
        return all(map(math.isnan, values))
    low, high = min(values), max(values)
    return low == high or high - low <= EQUAL * max(abs(low), abs(high))


def _value(column: Figures, row: list[Key]) -> float | None:
    return next((column.values[key] for key in row if math.isfinite(column.values.get(key, math.nan))), None)


def _cell(column: Figures, row: list[Key]) -> str:
    value, best = _value(column, row), column.best()
    if value is None:
        return next((column.status[key] for key in row if key in column.status), "-")
    text = f"{show(value)} {BEST}" if best is not None and _agree([value, best]) else show(value)
    known = column.floor is not None and math.isfinite(column.floor.high)
    told = tell_from_floor(value, column.floor) if column.floor and known else ""
    return f"{text} ({told})" if told in (APART, "below the floor") else text


def _sentence(rows: list[list[str]], first: Figures, values: list[float | None]) -> str:
    """The ranking in one sentence: which entries are first, which is next, and which is last, with their figures."""
    ranked = [(row[0], row[1], value) for row, value in zip(rows, values, strict=False) if value is not None]
    leaders = [name for place, name, _ in ranked if place == "1"]
    followers = [(name, value) for place, name, value in ranked if place != "1"]
    extreme = "lowest" if first.direction == "lower" else "highest"
    verb = "has" if len(leaders) == 1 else "have"
    text = f"{_join(leaders)} {verb} the {extreme} {first.title}, {show(ranked[0][2])}"
    if followers:
        text += f"; {followers[0][0]} follows with {show(followers[0][1])}"
    if len(followers) > 1:
        text += f", and {followers[-1][0]} is last with {show(followers[-1][1])}"
    return f"{text}."


def _equality(spec: RankingSpec, keys: list[Key], apart: list[str]) -> list[str]:
    """A note that figures agree over the values of the parameter, as they must, or on the entries whose do not."""
    over = [value for value in dict.fromkeys(value for _, value in keys) if value]
    if len(over) < 2:
        return []
    if apart:
        return [f"Figures of {_join(apart)} differ over {spec.equal_over} ({_join(over)}), which they must not."]
    return [f"Figures are equal on {_join(over)}, as they must be."]


def _join(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

"""Standings: records ranked by one measure at one setting, with what stands beside it, as leaderboards.

An entry has a row per set of options. Where the records have several settings (budgets, schedules, data), the table is
of one of them and says which: of those asked for, or of the one that most entries have. A figure of another task, such
as a latency, stands in the row of its entry, at the same setting where there is one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.catalogue import TASKS
from bench.errors import UsageError
from bench.records.record import Measurement, Record
from bench.report import sentences
from bench.report.beside import read_beside
from bench.report.families import FAMILIES, Family, family_of
from bench.report.figure import Figure, describe_test, rank
from bench.report.leaderboard import Column, Leaderboard
from bench.report.readings import OPTIONS, Key, Reading, Settled, choose, common, figures, key_of, settle, take
from bench.report.select import label, show
from bench.report.sources import Sources
from bench.report.tables import YES_NO
from metrics.floors import Floor, tell_from_floor

SCREEN = 20  # rows that fit one screen
ANY = Family(tasks=(), measures=(), columns=())  # of tasks of one's own
HOW = (
    "Entries share a rank (=) that nothing tells from the first of it at 5 %: {}. Bold: the best of a column, with "
    "those that are not told from it."
)
FLOOR = "_floor"  # behind the name of a measure: its floor


@dataclass(frozen=True)
class Question:
    """What is asked of a leaderboard: the measure that ranks, which records, and what is shown in which order."""

    measure: str = ""  # the family's own without one
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    sort: str = ""
    top: int | None = None


def build(name: str, records: list[Record], question: Question) -> Leaderboard:
    """The leaderboard of the records of a family, or of all records where ``name`` is of no family.

    Raises UsageError on a measure, parameter or column that the records do not have.
    """
    family = FAMILIES.get(name, ANY)
    records = _of_tasks(records, question.where)
    task, measure = _find_measure(records, family, question.measure)
    rows = question.rows or tuple(row for row in family.rows if _has_parameter(records, task, row))
    where = {key: values for key, values in question.where.items() if key != "task"}
    every = take([record for record in records if record.cell.task == task], measure)
    unknown = [row for row in rows if not any(row in reading.setting for reading in every)]
    if unknown:
        known = dict.fromkeys(key for reading in every for key in reading.setting if key != OPTIONS)
        raise UsageError(f"--rows {unknown[0]}: no such parameter of {task}; there are {', '.join(known)}")
    asked = choose(every, where)
    settled = settle(asked, rows, dict(family.setting))
    first, ended = _column(settled.readings, rows, measure)
    if not first.ranks:
        raise UsageError(f"--rank {measure}: no record at this setting has a finite figure")
    names = question.columns if question.columns is not None else _beside(records, family, task, measure)
    columns, notes = [first], []
    shared = common(settled.readings)
    for column in names:
        found, said = _more(column, records, family, asked, settled.readings, rows, where, shared, task, measure)
        columns += [one for one in found if one.figures]
        notes += said
    order = _sort(columns, first, question.sort, ended)
    shown = order[: question.top or SCREEN]
    labels = ["entry", *([OPTIONS] if any(key[1] != "-" for key in order) else []), *rows]
    parameters = _parameters(settled.readings, rows)
    beside = read_beside(family.kind, task, measure, {key: parameters[key] for key in shown if key in parameters})
    head = [*_explain(task, measure), *_describe(settled, shared, where)]
    if len(shown) < len(order):
        head.append(f"{len(shown)} of {len(order)} rows; --top shows more.")
    title = f"{family.title or task} by {measure} ({first.direction} is better)"
    return Leaderboard(
        name or task, title, _conclude(first, columns, ended, labels), labels, columns, shown, ended,
        _tell_floors(settled.readings, rows, measure, first), beside,
        [*head, HOW.format(describe_test(first.figures.values())), *notes], settled.chosen, len(order),
    )  # fmt: skip


def build_all(sources: Sources, question: Question) -> tuple[list[Leaderboard], list[str]]:
    """The leaderboards of the families that were named, and what other families there are where none was.

    Then it is of the first family whose records have the measure.
    """
    if sources.families:
        own = {name: [r for r in sources.records if r.cell.task in FAMILIES[name].tasks] for name in sources.families}
        return [build(name, records, question) for name, records in own.items() if records], []
    families = families_of(sources.records)
    by_family = {name: [r for r in sources.records if (family_of(r.cell.task) or "") == name] for name in families}
    tasks = question.where.get("task", ())

    def has(records: list[Record]) -> bool:
        return any(
            (not tasks or record.cell.task in tasks)
            and (
                not question.measure or any(one.name == question.measure and _is_ranked(one) for one in record.measures)
            )
            for record in records
        )

    name = next((name for name, records in by_family.items() if has(records)), None)
    if name is None:  # for the error, which names all that there are
        return [build("", sources.records, question)], []
    return [build(name, by_family[name], question)], [other for other in families if other not in ("", name)]


def families_of(records: list[Record]) -> list[str]:
    """The families that records are of, in the order of ``FAMILIES``; an empty name for tasks of one's own."""
    found = {family_of(task) or "" for task in {record.cell.task for record in records}}
    return [name for name in (*FAMILIES, "") if name in found]


def _of_tasks(records: list[Record], where: Mapping[str, Sequence[str]]) -> list[Record]:
    wanted = where.get("task")
    if wanted is None:
        return records
    kept = [record for record in records if record.cell.task in wanted]
    if not kept:
        tasks = dict.fromkeys(record.cell.task for record in records)
        raise UsageError(f"--where task={wanted[0]} matches nothing; there are {', '.join(tasks)}")
    return kept


def _measures(records: list[Record]) -> dict[str, dict[str, Measurement]]:
    """By task the measures of its records, each with one of its measurements."""
    found: dict[str, dict[str, Measurement]] = {}
    for record in records:
        own = found.setdefault(record.cell.task, {})
        for measure in record.measures:
            if measure.name not in own:
                own[measure.name] = measure
    return found


def _find_measure(records: list[Record], family: Family, asked: str) -> tuple[str, str]:
    """The task and the measure to rank by; raises UsageError where there is none of that name, or none is better."""
    found = _measures(records)
    tasks = [*(task for task in family.tasks if task in found), *(task for task in found if task not in family.tasks)]
    ranked = {task: [n for n, m in found[task].items() if _is_ranked(m)] for task in tasks}
    for name in [asked] if asked else family.measures:
        for task in tasks:
            if name in ranked[task]:
                return task, name
    known = list(dict.fromkeys(name for task in tasks for name in ranked[task]))
    if not asked and known:
        return next((task, names[0]) for task, names in ranked.items() if names)
    if not known:
        raise UsageError("--rank: no record has a measure of which more or less is better")
    listed = f"accepted are {', '.join(known)}"
    if any(asked in found[task] for task in tasks):
        raise UsageError(f"--rank {asked}: neither more nor less of it is better; {listed}")
    near = difflib.get_close_matches(asked, known, n=1)
    raise UsageError(f"--rank {asked}: no such measure{f'; did you mean {near[0]}?' if near else ''}; {listed}")


def _is_ranked(measure: Measurement) -> bool:
    return measure.direction != "target"


def _has_parameter(records: list[Record], task: str, name: str) -> bool:
    return any(name in record.cell.parameters for record in records if record.cell.task == task)


def _beside(records: list[Record], family: Family, task: str, measure: str) -> tuple[str, ...]:
    """The measures that stand beside the ranked one where none are asked for: the family's, or those of the task."""
    found = _measures(records)
    if family.columns:
        return tuple(name for name in family.columns if name != measure and any(name in own for own in found.values()))
    return tuple(name for name, one in found[task].items() if name != measure and _is_ranked(one))[:5]


def _column(readings: list[Reading], rows: Sequence[str], name: str, title: str = "") -> tuple[Column, dict[Key, str]]:
    found, ended = figures(readings, rows)
    about = next((one.measure for one in readings if one.measure is not None), None)
    if about is None:
        return Column(name, title or name, "", "target", False, {}, {}), ended
    unit = about.unit if about.unit not in ("", "1", YES_NO) else ""
    ranks = rank(found, about.direction) if about.direction != "target" else {}
    if title == "" and unit:
        title = f"{name} ({unit})"
    timing = not about.deterministic
    column = Column(name, title or name, unit, about.direction, timing, found, ranks, about.unit == YES_NO)
    return column, ended


def _more(
    name: str, records: list[Record], family: Family, asked: list[Reading], ranked: list[Reading],
    rows: Sequence[str], where: Mapping[str, Sequence[str]], shared: Mapping[str, Any], task: str, measure: str,
) -> tuple[list[Column], list[str]]:  # fmt: skip
    """The columns that a name stands for, of a measure one and of a parameter one per value, with notes on them."""
    found = _measures(records)
    order = [task, *(other for other in (*family.tasks, *found) if other != task)]
    of = next((other for other in order if name in found.get(other, {})), None)
    if of is None:
        if any(name in reading.setting for reading in asked):
            return _over(name, asked, rows, shared, measure), []
        measures = dict.fromkeys(one for own in found.values() for one in own)
        parameters = dict.fromkeys(key for reading in asked for key in reading.setting)
        raise UsageError(
            f"--columns {name}: no such measure or parameter; there are {', '.join([*measures, *parameters])}"
        )
    readings = take([record for record in records if record.cell.task == of], name)
    known = {key for reading in readings for key in reading.setting}
    usable = {key: values for key, values in where.items() if key in known and of == task}
    settled = settle(choose(readings, usable), rows, shared)
    column, _ = _column(settled.readings, rows, name)
    if of == task or not column.figures:
        return [column], []
    here = common(settled.readings)
    apart = [f"{key} {label(here[key])}" for key in here if key in shared and here[key] != shared[key]]
    apart += [f"{key} {value}" for key, value in settled.chosen.items() if key not in shared]
    return [column], [f"{name} is of {of}{' at ' + ', '.join(apart) if apart else ''}."]


def _over(
    name: str, asked: list[Reading], rows: Sequence[str], shared: Mapping[str, Any], measure: str
) -> list[Column]:
    """The ranked measure at each value of a parameter, the rest of the setting as it is."""
    prefer = {key: value for key, value in shared.items() if key != name}
    readings = settle(asked, [*rows, name], prefer).readings
    values: dict[str, list[Reading]] = {}
    for reading in readings:
        values.setdefault(label(reading.setting.get(name)), []).append(reading)
    ordered = sorted(values, key=lambda value: _number(values[value][0].setting.get(name)))
    return [_column(values[value], rows, measure, f"{name} {value}")[0] for value in ordered]


def _number(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _sort(columns: list[Column], first: Column, asked: str, ended: Mapping[Key, str]) -> list[Key]:
    """The rows in the order of their ranks, or of the column asked for; those without a figure there come last."""
    rows = [*first.ranks, *sorted(key for key in ended if key not in first.ranks)]
    if not asked:
        return rows
    if asked == "entry":
        return sorted(rows)
    column = next((one for one in columns if asked in (one.name, one.title)), None)
    if column is None:
        raise UsageError(
            f"--sort {asked}: no such column; there are {', '.join(['entry', *(one.title for one in columns)])}"
        )
    sign = -1 if column.direction == "higher" else 1
    return sorted(rows, key=lambda key: (key not in column.figures, _signed(column, key, sign)))


def _signed(column: Column, key: Key, sign: int) -> float:
    return sign * column.figures[key].value if key in column.figures else 0.0


def _name(key: Key) -> str:
    """A row's name in a sentence."""
    return " ".join([*key[2:], key[0], *([f"({key[1]})"] if key[1] != "-" else [])])


def _conclude(first: Column, columns: list[Column], ended: Mapping[Key, str], labels: list[str]) -> str:
    """The sentence of conclusion: the best or the tied, the next, the fastest, and what has no figure."""
    named = {_name(key): one for key, one in first.figures.items()}
    if first.name == "ratio":
        clauses = sentences.compare_times(_by_row(first))
    else:
        clauses = [sentences.conclude(first.name, named, first.direction, first.unit)]
    time = next((one for one in columns[1:] if one.timing and one.direction == "lower"), None)
    shared = [key for key in first.ranks if time is not None and key in time.figures]
    if time is not None and first.name != "ratio" and len(shared) > 1:
        quick = [key for key, place in rank({key: time.figures[key] for key in shared}, "lower").items() if place == 1]
        least = min(quick, key=lambda key: time.figures[key].value)
        verb = "have" if len(quick) > 1 else "has"
        same = " too" if {first.ranks[key] for key in quick} == {1} else ""
        clauses.append(f"{sentences.count([_name(key) for key in quick])} {verb} the lowest {time.name}{same}, "
                       f"{show(time.figures[least].value)} {time.unit}".rstrip())  # fmt: skip
    if ended:
        clauses.append(f"no figure for {sentences.count([_name(key) for key in sorted(ended)])}")
    text = "; ".join(clauses)
    return f"{text}." if text else ""


def _by_row(column: Column) -> dict[str, dict[str, Figure]]:
    """The figures of a column of ratios by the contest that they are of."""
    found: dict[str, dict[str, Figure]] = {}
    for key in sorted(column.figures):
        found.setdefault(" ".join(key[2:]), {})[key[0]] = column.figures[key]
    return found


def _explain(task: str, measure: str) -> list[str]:
    """The note on what the ranked measure is, as its task declares it."""
    declared = TASKS[task].resolve().measures.get(measure) if task in TASKS else None
    return [f"{measure} is of {task}: {declared.summary}."] if declared and declared.summary else []


def _describe(settled: Settled, shared: Mapping[str, Any], where: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes on the setting: what it is, and what else there is."""
    own = dict(settled.chosen)
    own |= {key: label(shared[key]) for key in where if key in shared and key not in own}
    lines = [f"At {', '.join(f'{key} {value}' for key, value in sorted(own.items()))}."] if own else []
    if settled.others:
        rest = "; ".join(f"{key}={_shorten(values)}" for key, values in sorted(settled.others.items()))
        lines.append(f"Others, for --where: {rest}.")
    return lines


def _shorten(values: list[str]) -> str:
    """Values with commas, of many the first few and the last."""
    return ", ".join(values) if len(values) <= 12 else f"{', '.join(values[:5])}, ..., {values[-1]}"


def _parameters(readings: list[Reading], rows: Sequence[str]) -> dict[Key, Mapping[str, Any]]:
    return {key_of(reading, rows): reading.record.cell.parameters for reading in readings}


def _tell_floors(readings: list[Reading], rows: Sequence[str], measure: str, first: Column) -> dict[Key, str]:
    """The ranked figures against their floors, in words, where the records have floors."""
    found: dict[Key, list[Measurement]] = {}
    for reading in readings:
        floor = reading.record.measure(f"{measure}{FLOOR}")
        if floor is not None and floor.interval is not None and reading.record.status == "ok":
            found.setdefault(key_of(reading, rows), []).append(floor)
    told = {}
    for key, floors in found.items():
        if key in first.figures:
            ends = [one.interval for one in floors if one.interval]
            low, high = (sum(each) / len(each) for each in zip(*ends, strict=True))
            one = first.figures[key]
            mean = sum(each.value for each in floors) / len(floors)
            told[key] = tell_from_floor(
                one.value, Floor(mean, low, high), one.interval if len(one.by_seed) == 1 else None
            )
    return told

"""What a table of records says beyond its cells: their order, which are best, and sentences computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.plan.spec import TableSpec
from bench.records.record import Record
from bench.report import sentences
from bench.report.figure import Figure, figure_of, is_ratio, rank
from bench.report.select import label, lookup
from bench.task import Direction

OPTIONS = "options"
YES_NO = "yes/no"  # the unit of a measure that is 1 or 0
Groups = dict[tuple[str, ...], list[Record]]  # the records of each row, by its names


class Column(NamedTuple):
    """A column of a table: its header, its measure, and whether a record belongs to it."""

    title: str
    measure: str
    keep: Callable[[Record], bool]


class About(NamedTuple):
    """What a task declares of a measure, as a record has it."""

    unit: str
    direction: Direction
    ratio: bool  # of times


def about(records: Sequence[Record], name: str) -> About | None:
    """What is declared of a measure, None where no record has it."""
    found = next((m for record in records if (m := record.measure(name))), None)
    return About(found.unit, found.direction, is_ratio(found)) if found else None


def name_entries(names: Sequence[str], records: Sequence[Record]) -> list[int]:
    """Which of the parameters that name rows name the entry or its options; none where no parameter is the entry."""
    named = [i for i, name in enumerate(names) if all(label(lookup(r, name)) == r.cell.entry for r in records)]
    return sorted([*named, *(i for i, name in enumerate(names) if name == OPTIONS)]) if named else []


def arrange(
    spec: TableSpec, names: Sequence[str], entries: Sequence[int], groups: Groups, columns: list[Column]
) -> Groups:
    """The rows in the order that the table asks for, and of each group as many as it asks for.

    A group has the same names in all columns before the one that names the entry.
    """
    before = entries[0] if entries else 0
    order = {prefix: i for i, prefix in enumerate(dict.fromkeys(key[:before] for key in groups))}
    keys = list(groups)
    if spec.sort in names:
        at = names.index(spec.sort)
        keys.sort(key=lambda key: (order[key[:before]], _natural(lookup(groups[key][0], names[at]))))
    elif spec.sort is not None:
        column = next((one for one in columns if spec.sort in (one.measure, one.title)), None)
        found = {key: column and figure_of([r for r in groups[key] if column.keep(r)], column.measure) for key in keys}
        declared = column and about([r for own in groups.values() for r in own], column.measure)
        sign = -1 if declared and declared.direction == "higher" else 1

        def place(key: tuple[str, ...]) -> tuple[int, bool, float]:
            one = found[key]
            return order[key[:before]], one is None, sign * one.value if one else 0.0

        keys.sort(key=place)
    if spec.top is not None:
        kept: dict[tuple[str, ...], int] = {}
        for key in list(keys):
            kept[key[:before]] = kept.get(key[:before], 0) + 1
            if kept[key[:before]] > spec.top:
                keys.remove(key)
    return {key: groups[key] for key in keys}


def _natural(value: object) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if isinstance(value, int | float) else 0.0, label(value)


def find_best(
    names: Sequence[str], entries: Sequence[int], groups: Groups, columns: list[Column]
) -> set[tuple[int, int]]:
    """The cells, as (row, column), that are the best of their column or not told from it, among rows of one setting."""
    records = [record for own in groups.values() for record in own]
    found: set[tuple[int, int]] = set()
    for x, column in enumerate(columns):
        declared = about(records, column.measure)
        if declared is None or declared.direction == "target" or declared.unit == YES_NO:
            continue
        for figures in _by_setting(entries, groups, column).values():
            ranks = rank(figures, declared.direction)
            if max(ranks.values()) > 1:
                found |= {(y, len(names) + x) for y, place in ranks.items() if place == 1}
    return found


def _by_setting(entries: Sequence[int], groups: Groups, column: Column) -> dict[tuple[str, ...], dict[int, Figure]]:
    """The figures of a column by row number, apart for each setting: the names of a row but for the entry's."""
    found: dict[tuple[str, ...], dict[int, Figure]] = {}
    for y, (key, own) in enumerate(groups.items()):
        figure = figure_of([record for record in own if column.keep(record)], column.measure)
        if figure is not None:
            setting = tuple(part for i, part in enumerate(key) if i not in entries)
            found.setdefault(setting, {})[y] = figure
    return found


def say(measures: Sequence[str], names: Sequence[str], entries: Sequence[int], groups: Groups,
        columns: list[Column]) -> list[str]:  # fmt: skip
    """A sentence or more on each of the measures, as its unit and direction ask for; none on one without figures."""
    records = [record for own in groups.values() for record in own]
    said = []
    for name in measures:
        declared = about(records, name)
        if declared is None:
            continue
        found: dict[str, dict[str, Figure]] = {}  # by setting, by entry
        for column in columns:
            for key, own in groups.items() if column.measure == name else ():
                figure = figure_of([record for record in own if column.keep(record)], name)
                if figure is None:
                    continue
                entry = " ".join(_part(key[i], names[i]) for i in entries if key[i] != "-")
                setting = [f"{names[i]} {part}" for i, part in enumerate(key) if i not in entries and part != "-"]
                spread = [column.title.split(", ")[-1]] if column.title.split(" (")[0] != name else []
                found.setdefault(", ".join([*setting, *spread]), {})[entry] = figure
        said += [f"{clause}." for clause in _clauses(name, found, declared) if found]
    return said


def _part(text: str, name: str) -> str:
    return f"({text})" if name == OPTIONS else text


def _clauses(name: str, found: dict[str, dict[str, Figure]], declared: About) -> list[str]:
    if declared.ratio:
        return sentences.compare_times(found)
    rows = {
        " at ".join(filter(None, [entry, setting])) if entry else setting: figure
        for setting, figures in found.items()
        for entry, figure in figures.items()
    }
    if declared.unit == YES_NO:
        return [sentences.answer(name, rows)]
    if declared.direction == "target":
        return [sentences.spread(name, rows, declared.unit)]
    return [sentences.conclude_groups(name, found, declared.direction, declared.unit)]

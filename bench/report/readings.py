"""Readings: the numbers of one measure off many records, brought down to one setting, as figures by entry."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.records.record import Measurement, Record
from bench.report.figure import Figure, read_figure
from bench.report.select import label

Key = tuple[str, ...]  # the entry, its options, and the values of the parameters that make rows of their own
PLACES = ("device", "threads", "hardware")
OPTIONS = "options"


class Reading(NamedTuple):
    """What one record says of one entry: its measurement, or None where its cell ended otherwise or has none."""

    entry: str
    setting: dict[str, Any]  # the parameters but for the entry, and the places
    measure: Measurement | None
    record: Record


def take(records: Iterable[Record], name: str) -> list[Reading]:
    """Read the measure ``name`` off records, of a contest once per entry; skipped cells are left out."""
    found = []
    for record in records:
        if record.status == "skipped":
            continue
        cell = record.cell
        setting = cell.setting | {place: getattr(cell, place) for place in PLACES}
        if cell.kind != "contest":
            measure = record.measure(name) if record.status == "ok" else None
            if measure is not None or record.status != "ok":
                found.append(Reading(cell.entry, setting, measure, record))
            continue
        setting.pop(OPTIONS, None)  # those of a contest are by entry
        for entry in cell.entries:
            measure = record.measure(name, entry) if record.status == "ok" else None
            if measure is not None or record.status != "ok":
                found.append(Reading(entry, setting, measure, record))
    return found


def choose(readings: list[Reading], where: Mapping[str, Sequence[str]]) -> list[Reading]:
    """The readings whose parameters have the values asked for; of several values of one parameter, any.

    A value is as reports print it, or a glob. Raises UsageError on an unknown parameter, and where nothing matches.
    """
    for name, wanted in where.items():
        if not any(name in _facts(reading) for reading in readings):
            known = dict.fromkeys(key for reading in readings for key in _facts(reading))
            raise UsageError(f"--where {name}: no such parameter; there are {', '.join(known)}")
        kept = [reading for reading in readings if _matches(_facts(reading).get(name), wanted)]
        if not kept:
            values = dict.fromkeys(label(_facts(reading).get(name)) for reading in readings)
            raise UsageError(f"--where {name}={wanted[0]} matches nothing; there are {', '.join(values)}")
        readings = kept
    return readings


def _facts(reading: Reading) -> dict[str, Any]:
    options = reading.setting.get(OPTIONS)
    inner = options if isinstance(options, dict) else {}
    cell = reading.record.cell
    return {**inner, **reading.setting, "entry": reading.entry, "seed": cell.seed, "suite": cell.suite}


def _matches(value: Any, wanted: Sequence[str]) -> bool:
    text = label(value)
    return any(text == one or fnmatch.fnmatchcase(text, one) or _same_number(value, one) for one in wanted)


def _same_number(value: Any, text: str) -> bool:
    try:
        return isinstance(value, int | float) and float(text) == value
    except ValueError:
        return False


class Settled(NamedTuple):
    """Readings at one setting; which of its values were chosen among several, and which others there are."""

    readings: list[Reading]
    chosen: dict[str, str]
    others: dict[str, list[str]]


def settle(readings: list[Reading], rows: Sequence[str], prefer: Mapping[str, Any]) -> Settled:
    """Bring readings down to one setting: of each parameter that is not a row, one value.

    It is the value of ``prefer`` where it is there, else that of most entries, then of most readings, then the middle
    one of numbers and the first of names.
    """
    chosen, others = {}, {}
    names = dict.fromkeys(name for reading in readings for name in reading.setting)
    for name in names:
        if name == OPTIONS or name in rows:
            continue
        by_value: dict[Any, list[Reading]] = {}
        for reading in readings:
            by_value.setdefault(_hashed(reading.setting.get(name)), []).append(reading)
        if len(by_value) == 1:
            continue
        wanted = _hashed(prefer.get(name)) if name in prefer else None
        value = wanted if name in prefer and wanted in by_value else _most(by_value)
        readings = by_value[value]
        chosen[name] = label(readings[0].setting.get(name))
        ordered = sorted(by_value, key=_order)
        others[name] = [label(by_value[one][0].setting.get(name)) for one in ordered if one != value]
    return Settled(readings, chosen, others)


def _most(by_value: Mapping[Any, list[Reading]]) -> Any:
    def weight(value: Any) -> tuple[int, int]:
        own = by_value[value]
        return len({reading.entry for reading in own if reading.measure is not None}), len(own)

    most = max(map(weight, by_value))
    best = sorted((value for value in by_value if weight(value) == most), key=_order)
    number = all(isinstance(value, int | float) for value in best)
    return best[(len(best) - 1) // 2 if number else 0]


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _hashed(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else label(value)


def common(readings: Iterable[Reading]) -> dict[str, Any]:
    """The parameters that have one value in all readings."""
    values: dict[str, dict[Any, Any]] = {}
    for reading in readings:
        for name, value in reading.setting.items():
            values.setdefault(name, {})[_hashed(value)] = value
    return {name: next(iter(found.values())) for name, found in values.items() if len(found) == 1}


def key_of(reading: Reading, rows: Sequence[str]) -> Key:
    """The row that a reading belongs to."""
    options = label(reading.setting.get(OPTIONS) or {})
    return (reading.entry, options, *(label(reading.setting.get(name)) for name in rows))


def figures(readings: Iterable[Reading], rows: Sequence[str]) -> tuple[dict[Key, Figure], dict[Key, str]]:
    """The figure of each row, and of rows without one how their cells ended.

    Of two readings of a row and seed, as of two contests that have an entry in common, the newer counts.
    """
    newest: dict[Key, dict[int, Reading]] = {}
    for reading in readings:
        own, seed = newest.setdefault(key_of(reading, rows), {}), reading.record.cell.seed
        if seed not in own or own[seed].record.started_at < reading.record.started_at:
            own[seed] = reading
    found: dict[Key, Figure] = {}
    ended: dict[Key, str] = {}
    for key, by_seed in newest.items():
        measured = {
            seed: one.measure
            for seed, one in sorted(by_seed.items())
            if one.measure is not None and math.isfinite(one.measure.value)
        }
        if measured:
            found[key] = read_figure(measured, len(by_seed))
        else:
            last = by_seed[max(by_seed)].record
            ended[key] = last.status if last.status != "ok" else "not finite"
    return found, ended

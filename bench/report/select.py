"""Selection of records for reports, look-up of their values, and the form in which values are printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.files import digest
from bench.records.record import Record


def select(records: Iterable[Record], task: str, where: dict[str, Any]) -> list[Record]:
    """The records of the task ``task`` whose parameters have the values in ``where``; of a list, any value of it."""
    return [
        record
        for record in records
        if record.cell.task == task
        and all(lookup(record, k) in (v if isinstance(v, list) else [v]) for k, v in where.items())
    ]


def split(record: Record) -> list[Record]:
    """Split the record of a contest into one record per entry, with the entry's measures; others stay as they are."""
    if record.cell.kind != "contest" or not record.measures:
        return [record]
    return [
        record.model_copy(
            update={
                "cell": record.cell.model_copy(update={"entries": [entry]}),
                "measures": [m.model_copy(update={"entry": None}) for m in record.measures if m.entry == entry],
            }
        )
        for entry in dict.fromkeys(m.entry for m in record.measures)
    ]


def split_all(records: Iterable[Record]) -> list[Record]:
    """The parts of all records, as ``split`` gives them; of one entry in several contests, those of the newest.

    Two contests that differ in their entries alone are those of a run with a guest and of a later one without it: the
    later one shows its own entries, the earlier one the guest.
    """
    parts = [part for record in records for part in split(record)]
    newest: dict[str, Record] = {}
    for part in parts:
        own = _contest(part)
        if own and (own not in newest or newest[own].started_at < part.started_at):
            newest[own] = part
    return [part for part in parts if newest.get(_contest(part), part) is part]


def _contest(part: Record) -> str:
    """A digest of what a part of a contest measures, whatever else takes part in it; empty for a plain record."""
    cell = part.cell
    if cell.kind != "contest":
        return ""
    setting = {
        name: value
        for name, value in cell.parameters.items()
        if not (isinstance(value, list) and set(cell.entries) <= set(map(str, value)))
    }
    return digest([cell.task, cell.entries, setting, cell.seed, cell.device, cell.threads])


def lookup(record: Record, name: str) -> Any:
    """What ``name`` names in a record: a parameter, its entry, seed, device, ..., or the value of a measure.

    None where the record has nothing of that name.
    """
    if name in record.cell.parameters:
        return record.cell.parameters[name]
    if name in ("entry", "seed", "device", "threads", "hardware", "hash"):
        return getattr(record.cell, name)
    return record.status if name == "status" else record.value(name)


def show(value: Any) -> str:
    """A value as tables print it: numbers with four significant digits, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}={show(v)}" for k, v in value.items()) or "-"
    return ", ".join(map(show, value)) if isinstance(value, list) else str(value)


def label(value: Any) -> str:
    """A value as the name of a row or a column: short, with as many digits as keep different values apart."""
    if isinstance(value, float):
        return short if float(short := show(value)) == value else repr(value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={label(v)}" for k, v in value.items()) or "-"
    return ", ".join(map(label, value)) if isinstance(value, list) else show(value)

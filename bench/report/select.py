"""Selection of records for reports, look-up of their values, and the form in which values are printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.files import digest
from bench.records.record import Record
from implementations.catalogue.names import names_code


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
    """The parts of all records, as ``split`` gives them; where two contests differ in guests alone, one of each entry.

    They are those of a run with a guest (``MODULE:FUNCTION``) and of another without it. The newer one shows the
    entries that both have, the older one its guest.
    """
    records = list(records)
    newest: dict[tuple[str, str], Record] = {}
    for record in records:
        for entry in record.cell.entries:
            twin = newest.setdefault((_contest(record), entry), record)
            if twin.started_at < record.started_at:
                newest[_contest(record), entry] = record
    return [
        part
        for record in records
        for part in split(record)
        if part is record or newest[_contest(record), part.cell.entry] is record
    ]


def _contest(record: Record) -> str:
    """A digest of what a contest measures but for its guests."""
    cell = record.cell
    own = [entry for entry in cell.entries if not names_code(entry)]
    return digest([cell.task, own, cell.setting, cell.seed, cell.device, cell.threads])


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

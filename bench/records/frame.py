"""Records as one table of pandas, for a CSV file and for whoever analyses a store in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.records.record import Record

if TYPE_CHECKING:
    import pandas

FIELDS = {"value", "unit", "n", "interval", "extractor", "reference"}  # those of a measurement that are columns


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """Lay records out with one row per measure; a record without measures has one row.

    ``entry`` is the one whose measure it is, in a contest too. A parameter whose name is that of another column is the
    column ``parameter_NAME``.
    """
    import pandas

    rows: list[dict[str, Any]] = []
    for record in records:
        cell = record.cell
        identity = {
            "suite": cell.suite, "task": cell.task, "entry": cell.entry, "seed": cell.seed,
            "status": record.status, "error": record.error, "device": cell.device, "hardware": cell.hardware,
            "threads": cell.threads, "environment": record.environment, "commit": record.commit,
            "key": cell.key, "hash": cell.hash,
        }  # fmt: skip
        taken = {*identity, *FIELDS, "measure"}
        identity |= {f"parameter_{k}" if k in taken else k: value for k, value in cell.parameters.items()}
        measures = [
            m.model_dump(include=FIELDS) | {"measure": m.name, "entry": m.entry or cell.entry} for m in record.measures
        ]
        rows += [identity | measure for measure in measures or [{}]]
    return pandas.DataFrame(rows)

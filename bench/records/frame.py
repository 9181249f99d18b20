"""Records as one pandas table, for CSV files and for analysis in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.records.record import Record

if TYPE_CHECKING:
    import pandas

FIELDS = {"value", "unit", "n", "interval", "extractor", "reference"}  # those of a measurement that are columns


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """Make a table of records with one row per measure; a record without measures has one row.

    The columns identify the cell, give its status, parameters and provenance, and hold the measure with its value,
    unit, sample size, interval, extractor and reference data. ``entry`` is the entry that the measure belongs to, in a
    contest too. A parameter that has the name of another column is called ``parameter_NAME``.
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

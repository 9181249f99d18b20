"""Rows of earlier guests: a run without ``--sampler MODULE:FUNCTION`` goes on showing what an earlier one measured."""

from __future__ import annotations

from collections.abc import Sequence

from bench.files import digest
from bench.plan.cell import Cell, Identity
from bench.records.record import Record
from bench.records.store import Store
from implementations.catalogue.names import names_code


def find_earlier(store: Store, suite: str, cells: Sequence[Cell]) -> list[Record]:
    """The records of guests that the last run of a suite listed and ``cells``, those of a new run, do not.

    A guest's cell is among them where the new run has a cell that differs from it in its entries alone: of the same
    task, parameters, seed, device and threads. Others, as of another device, are not shown, as before. The cells of a
    task that was a guest are among them where the new run is on the same device.
    """
    before = store.suites().get(suite)
    here = {cell.identity.hash for cell in cells}
    keys = {cell.identity.key for cell in cells}
    siblings = {_without_entries(cell.identity) for cell in cells}
    now = {name for cell in cells for name in (cell.identity.task, *cell.identity.entries)}
    devices = {cell.identity.device for cell in cells}
    found = []
    for name in before.cells if before else []:
        record = None if name in here else store.get(name)
        if record is None or record.cell.key in keys or not _guests(record) - now:
            continue
        own_task = names_code(record.cell.task) and record.cell.task not in now
        if _without_entries(record.cell) in siblings or (own_task and record.cell.device in devices):
            found.append(record)
    return found


def _guests(record: Record) -> set[str]:
    """The entries and the task of a record that came by an option, as MODULE:NAME."""
    return {name for name in (record.cell.task, *record.cell.entries) if names_code(name)}


def describe(records: Sequence[Record]) -> list[str]:
    """A line per earlier guest: how many of its cells are still shown, and what code measured them."""
    lines = []
    for guest in dict.fromkeys(name for record in records for name in sorted(_guests(record))):
        own = [record for record in records if guest in (record.cell.task, *record.cell.entries)]
        made_by = ", ".join(sorted({record.made_by for record in own}))
        lines.append(f"{guest}: {len(own)} cells of an earlier run are still shown, measured by {made_by}")
    return lines


def _without_entries(cell: Identity) -> str:
    return digest([cell.task, cell.setting, cell.seed, cell.device, cell.threads])

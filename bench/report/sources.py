"""Where a leaderboard's records come from: the stores and bundles that are named, or those of a family."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import UsageError
from bench.records.bundle import load
from bench.records.record import Record
from bench.records.store import Store
from bench.report.families import FAMILIES

BASELINES = Path("results/baselines")


class Sources(NamedTuple):
    """The records of all sources, of two of one cell the newer, and the families that were named."""

    records: list[Record]
    families: list[str]


def gather(names: Sequence[str]) -> Sources:
    """Read the records of stores, bundles and families; a family's are those under runs/ and in results/baselines.

    Raises UsageError on a name that is none of them, and where there are no records.
    """
    families = [name for name in names if name in FAMILIES and not _is_source(Path(name))]
    paths = [Path(name) for name in names if name not in families]
    for path in paths:
        if not path.exists():
            near = difflib.get_close_matches(str(path), FAMILIES, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"there is no {path}: a folder of records, a file of `fidmap table --format json`, or a family "
                f"({', '.join(FAMILIES)}) is accepted{hint}"
            )
    found = paths or [path for path in _find_sources() if _is_of(path, families)]
    records = merge([record for path in found for record in load(path).records])
    tasks = {task for name in families for task in FAMILIES[name].tasks}
    if families and not any(record.cell.task in tasks for record in records):
        places = ", ".join(map(str, paths)) or f"runs/ and {BASELINES}"
        raise UsageError(f"there are no records of {', '.join(families)} in {places}; see fidmap list suites")
    return Sources(records, families)


def merge(records: Iterable[Record]) -> list[Record]:
    """The records without older ones of the same cell, in their order."""
    newest: dict[tuple[str, str, int], Record] = {}
    for record in records:
        twin = newest.get(record.cell.matched_by)
        if twin is None or twin.started_at < record.started_at:
            newest[record.cell.matched_by] = record
    return list(newest.values())


def _is_source(path: Path) -> bool:
    return path.is_file() or (path / "records").is_dir()


def _find_sources() -> list[Path]:
    return [*sorted(folder.parent for folder in Path("runs").glob("*/records")), *sorted(BASELINES.glob("*.json"))]


def _is_of(path: Path, families: Sequence[str]) -> bool:
    """Whether a source may hold records of the families: a store says what its suites run, others have to be read."""
    if path.is_file():
        return True
    if not any((path / "records").glob("*.json")):
        return False
    tasks = {task for name in families for task in FAMILIES[name].tasks}
    suites = [stored.suite for stored in Store(path).suites().values()]
    blocks = [block.get("task") for suite in suites if suite is not None for block in suite.get("block", [])]
    return None in suites or not suites or bool(tasks & set(blocks))

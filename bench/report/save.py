"""A store's tables and pictures, written into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UsageError
from bench.files import write_atomic
from bench.plan.suite import Suite, SuiteRun
from bench.records.store import Store
from bench.report import plots, ranking, tables
from bench.report.provenance import provenance
from bench.report.select import split


def find_runs(store: Store) -> list[SuiteRun]:
    """The suites whose cells a store holds, as they were when last run."""
    found = []
    for name, stored in store.suites().items():
        if stored.suite is None:  # imported records: no suite lays them out
            continue
        try:
            found.append(SuiteRun(Suite.model_validate(stored.suite), stored.cells))
        except ValidationError:
            print(f"fidmap: {store.folder}/suites/{name}.json is not a suite of this fidmap; left out", file=sys.stderr)
    return found


def save(store: Store, folder: Path) -> list[Path]:
    """Write ``tables.md``, ``measures.csv``, one PNG per plot, and the rankings, if there are any, as ``ranking.md``.

    Returns the files, the tables first.
    """
    runs = find_runs(store)
    files = {"tables.md": tables.render(store, runs, "md").encode()}
    files["measures.csv"] = tables.render(store, runs, "csv").encode()
    records = store.records()
    if summary := ranking.summarize(records, runs):
        origin = provenance(records, store.environments())
        files["ranking.md"] = "\n".join([summary, *origin, ""]).encode()
    for suite, cells in runs:
        own = [part for record in records if record.cell.hash in set(cells) for part in split(record)]
        for spec in suite.plot:
            try:
                picture = plots.draw(spec, store, own)
            except UsageError as error:
                print(f"fidmap: plot {spec.name} is left out: {error}", file=sys.stderr)
                continue
            except Exception as error:  # arrays of a guest's may break any part of a drawer; the rest is still wanted
                print(f"fidmap: plot {spec.name} is left out: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            name = spec.name if len(runs) == 1 else f"{suite.name}-{spec.name}"
            if picture:
                files[f"{name}.png"] = picture
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]

"""A store's tables and pictures, written into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UsageError
from bench.files import write_atomic
from bench.plan.suite import Plan, Suite
from bench.records.store import Store
from bench.report import plots, tables


def plans(store: Store) -> list[Plan]:
    """The suites whose cells a store holds, as they were when last run."""
    found = []
    for name, stored in store.suites().items():
        if stored.suite is None:  # imported records: no suite lays them out
            continue
        try:
            found.append(Plan(Suite.model_validate(stored.suite), stored.cells))
        except ValidationError:
            print(f"fidmap: {store.folder}/suites/{name}.json is not a suite of this fidmap; left out", file=sys.stderr)
    return found


def save(store: Store, folder: Path) -> list[Path]:
    """Write ``tables.md``, ``measures.csv`` and one PNG a plot of the suites; returns the files, the tables first."""
    laid_out = plans(store)
    files = {"tables.md": tables.render(store, laid_out, "md").encode()}
    files["measures.csv"] = tables.render(store, laid_out, "csv").encode()
    records = store.records()
    for suite, cells in laid_out:
        own = [part for record in records if record.cell.hash in set(cells) for part in tables.split(record)]
        for spec in suite.plot:
            try:
                picture = plots.draw(spec, store, own)
            except UsageError as error:
                print(f"fidmap: plot {spec.name} is left out: {error}", file=sys.stderr)
                continue
            except Exception as error:  # arrays of a guest's may break any part of a drawer; the rest is still wanted
                print(f"fidmap: plot {spec.name} is left out: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            name = spec.name if len(laid_out) == 1 else f"{suite.name}-{spec.name}"
            if picture:
                files[f"{name}.png"] = picture
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]

"""The tables, rankings and plots of a store, written into a folder."""

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
from bench.report.select import split_all


def find_runs(store: Store) -> list[SuiteRun]:
    """The suites that were run into a store, each with the cells of its last run.

    A suite of another version of fidmap that cannot be read is named on stderr and left out.
    """
    found = []
    for name, stored in store.suites().items():
        if stored.suite is None:  # imported records, which no suite presents
            continue
        try:
            found.append(SuiteRun(Suite.model_validate(stored.suite), stored.cells))
        except ValidationError:
            print(f"fidmap: {store.folder}/suites/{name}.json is not a suite of this fidmap; left out", file=sys.stderr)
    return found


def save(store: Store, folder: Path) -> list[Path]:
    """Write the reports on a store into ``folder``: tables, measures, plots and rankings.

    The files are ``tables.md``, ``measures.csv``, one PNG per plot, and ``ranking.md`` if there are rankings; they are
    returned in this order. A plot that cannot be drawn is named on stderr and left out.
    """
    runs = find_runs(store)
    files = {"tables.md": tables.render(store, runs, "md").encode()}
    files["measures.csv"] = tables.render(store, runs, "csv").encode()
    records = store.records()
    if summary := ranking.summarize(records, runs):
        origin = provenance(records, store.environments())
        files["ranking.md"] = "\n".join([summary, *origin, ""]).encode()
    for suite, cells in runs:
        own = split_all(record for record in records if record.cell.hash in set(cells))
        for spec in suite.plot:
            try:
                picture = plots.draw(spec, store, own)
            except UsageError as error:
                print(f"fidmap: plot {spec.name} is left out: {error}", file=sys.stderr)
                continue
            except Exception as error:  # a guest's arrays may break any drawing; the rest is still wanted
                print(f"fidmap: plot {spec.name} is left out: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            name = spec.name if len(runs) == 1 else f"{suite.name}-{spec.name}"
            if picture:
                files[f"{name}.png"] = picture
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]

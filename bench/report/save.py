"""The tables, rankings and plots of a store, written into a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import ValidationError

from bench.catalogue import kinds
from bench.errors import UsageError
from bench.files import write_atomic
from bench.plan.suite import Suite, SuiteRun, find, read
from bench.records.store import Store
from bench.report import plots, ranking, tables
from bench.report.pages import write_pages
from bench.report.provenance import facts, omissions, provenance
from bench.report.select import split_all

PROVENANCE = "provenance.json"


def find_runs(store: Store) -> list[SuiteRun]:
    """The suites that were run into a store, each with the cells of its last run.

    A suite that comes with fidmap is laid out as this version has it. Any other of another version that cannot be read
    is named on stderr and left out.
    """
    found = []
    for name, stored in store.suites().items():
        if stored.suite is None:  # imported records, which no suite presents
            continue
        try:
            found.append(SuiteRun(_lay_out_anew(Suite.model_validate(stored.suite)), stored.cells))
        except ValidationError:
            if name in kinds()["suites"]:
                found.append(SuiteRun(read(find(name)), stored.cells))
                continue
            print(f"fidmap: {store.folder}/suites/{name}.json is not a suite of this fidmap; left out", file=sys.stderr)
    return found


def _lay_out_anew(suite: Suite) -> Suite:
    """A suite that comes with fidmap with today's rankings, tables and plots, and those of its own of other tasks."""
    if suite.name not in kinds()["suites"]:
        return suite
    today = read(find(suite.name))
    tasks = {block.task for block in today.block}
    return suite.model_copy(
        update={
            "ranking": today.ranking,
            "table": [*today.table, *(spec for spec in suite.table if spec.task not in tasks)],
            "plot": [*today.plot, *(spec for spec in suite.plot if spec.task not in tasks)],
        }
    )


def save(store: Store, folder: Path) -> list[Path]:
    """Write the reports on a store into ``folder``: tables, measures, plots, rankings, and where the numbers come from.

    The files are ``tables.md``, ``tables/NAME.md`` for each long table, ``measures.csv``, ``provenance.json``, one PNG
    per plot, and ``ranking.md`` if there are rankings; they are returned. A plot that cannot be drawn is named on
    stderr and left out.
    """
    runs = find_runs(store)
    contents, environments = store.contents(), store.environments()
    records = contents.records
    built = tables.build(records, runs, store.arrays)
    hashes = f"commits and hashes of extractor and data are in [{PROVENANCE}]({PROVENANCE})"
    title = ", ".join(suite.title or suite.name for suite, _ in runs) or "Records"
    foot = [*provenance(records, environments, hashes), *omissions(contents)]
    files = {name: text.encode() for name, text in write_pages(title, contents, built, foot).items()}
    files["measures.csv"] = tables.render(store, runs, "csv").encode()
    files[PROVENANCE] = (json.dumps(facts(records, environments), indent=1, ensure_ascii=False) + "\n").encode()
    if summary := ranking.summarize(records, runs):
        files["ranking.md"] = "\n".join([summary, *provenance(records, environments, hashes), ""]).encode()
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

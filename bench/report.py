"""A store's tables and pictures, written into a folder."""

from __future__ import annotations

from pathlib import Path

from bench import plots, tables
from bench.store import Store, write_atomic
from bench.suite import Suite, read


def suites(store: Store) -> list[Suite]:
    """The suites whose cells a store holds, as they were when last run."""
    return [read(file) for file in sorted((store.folder / "suites").glob("*.toml"))]


def save(store: Store, folder: Path) -> list[Path]:
    """Write ``tables.md``, ``measures.csv`` and one PNG a plot of the store's suites; returns the files."""
    laid_out = suites(store)
    files = {"tables.md": tables.render(store, laid_out, "md").encode()}
    files["measures.csv"] = tables.render(store, laid_out, "csv").encode()
    records = store.records()
    for suite in laid_out:
        own = [part for record in records if record.suite == suite.name for part in tables.split(record)]
        for spec in suite.plot:
            picture = plots.draw(spec, store, own)
            if picture:
                files[f"{spec.name}.png"] = picture
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]

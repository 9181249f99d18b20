"""``fidmap table``, ``compare`` and ``import``: folders of records, and their JSON files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from bench.cli.shared import (
    Out,
    open_store,
    pick_format,
    split_names,
    split_pair,
    tell,
)
from bench.errors import UsageError


class RankCommand(typer.core.TyperCommand):
    """A command whose option ``--rank`` may stand without its measure."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare ``--rank`` an empty measure."""
        from bench.report.families import FAMILIES

        following = [*args[1:], "-"]
        bare = ["--rank=" if one == "--rank" and (after.startswith("-") or after in FAMILIES) else one
                for one, after in zip(args, following, strict=True)]  # fmt: skip
        return super().parse_args(ctx, bare)


def table(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE|FAMILY]...",
            help="Folders of records or their JSON files; or samplers, losses, "
            "nms, metrics, detections, images: those under runs/ and in results/baselines.",
        ),
    ] = None,
    out: Out = None,
    rank: Annotated[
        str | None, typer.Option(metavar="[MEASURE]", help="Print one ranked table, by this measure or the family's.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of --rank: only records with this; a glob is taken.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Of --rank: parameters that make rows, with commas.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Of --rank: measures beside it, or a parameter with a column per value.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Of --rank: order by this column, or by entry.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Of --rank: this many rows  [default: 20]")] = None,
    format: Annotated[str, typer.Option(help="md, csv, json, latex or html.")] = "md",
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md[#NAME]",
            help="Of --rank: write it between <!-- fidmap NAME --> and "
            "<!-- /fidmap NAME --> of a file; NAME is the family's without one.",
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write tables and pictures into this folder too.")] = None,
) -> None:
    """Print the tables of a folder of records; with --rank, one ranked table of its entries."""
    from bench.report import tables
    from bench.report.provenance import omissions
    from bench.report.save import find_runs
    from bench.report.save import save as save_report

    if format not in tables.FORMATS:
        raise UsageError(f"--format {format!r}: expected {', '.join(tables.FORMATS)}")
    names = [*(sources or ()), *([str(out)] if out else [])]
    asked = {"--where": where, "--rows": rows, "--columns": columns, "--sort": sort, "--top": top, "--into": into}
    if rank is not None:
        if save:
            raise UsageError("--save writes the tables of a folder, without --rank; --into writes a ranked one")
        _print_ranking(names or [str(open_store(None).folder)], rank, asked, format)
        return
    if given := [name for name, value in asked.items() if value is not None]:
        raise UsageError(f"{given[0]} goes with --rank")
    if len(names) > 1:
        raise UsageError(f"{len(names)} sources: without --rank, one folder of records is accepted")
    store = open_store(Path(names[0]) if names else None)
    print(tables.render(store, find_runs(store), format), end="")
    for line in omissions(store.contents()) if format in ("csv", "json") else ():  # the others have it below
        tell(line)
    if save:
        for file in save_report(store, save):
            tell(f"wrote {file}")


def _print_ranking(names: list[str], measure: str, asked: dict[str, Any], format: str) -> None:
    from bench.files import without_collection
    from bench.report.into import write_into
    from bench.report.leaderboard import render
    from bench.report.sources import gather
    from bench.report.standings import Question, build_all

    into, title = asked["--into"], None
    if into is not None:
        file, _, title = str(into).partition("#")
        if format not in ("md", "html"):
            raise UsageError(f"--into with --format {format}: md or html is accepted, which a file of markdown holds")
    columns = None if asked["--columns"] is None else split_names(asked["--columns"])
    found: dict[str, list[str]] = {}
    for key, value in (split_pair("--where", one, "KEY=VALUE") for one in asked["--where"] or ()):
        found.setdefault(key, []).append(value)
    question = Question(
        measure, found, split_names(asked["--rows"] or ""), columns, asked["--sort"] or "", asked["--top"]
    )  # fmt: skip
    with without_collection():
        boards, others = build_all(gather(names), question)
    if others:
        tell(f"there are records of {', '.join(others)} too; name a family to have its table")
    if into is None:
        print(render(boards, format), end="")
        return
    if title and len(boards) > 1:
        raise UsageError(f"--into {into}: one table has a name of its own, given {len(boards)} families")
    write_into(Path(file), {title or board.name: render([board], format) for board in boards})
    tell(f"wrote {', '.join(title or board.name for board in boards)} into {file}")


def compare(
    baseline: Annotated[Path, typer.Argument(help="A folder of records, or a file of `fidmap table --format json`.")],
    candidate: Annotated[Path, typer.Argument(help="What is compared with it, in either form.")],
    format: Annotated[str | None, typer.Option(help="text, json, junit, github or md  [default: text]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    only: Annotated[
        str | None, typer.Option(help="Only cells whose name, TASK/ENTRY/KEY=VALUE,..., has a match of this glob.")
    ] = None,
    measure: Annotated[list[str] | None, typer.Option(help="Only this measure; may be repeated.")] = None,
    timings: Annotated[bool, typer.Option("--timings", help="Let timings decide the exit code too.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Show what changes, then write it into BASELINE.")] = False,
) -> int:
    """Compare a candidate's records with a baseline's.

    Exit code 1 where something is worse, missing or not comparable, or where nothing was judged. What --only and
    --measure leave out is neither judged nor missing.

    With --update, the baseline then has the candidate's cells: what only the baseline had is removed, but for what
    --only leaves out, and a cell that is the same keeps its record. A file of a new name, NAME.json, is made. The exit
    code is 0 where the baseline is written.
    """
    from bench.records import update as updating
    from bench.records.bundle import load
    from bench.records.choice import Choice
    from bench.records.compare import compare as compare_stores
    from bench.report import comparison

    format = pick_format(format, as_json, tuple(comparison.FORMATS))
    if update and measure:
        raise UsageError("--update writes whole records: it goes with --only, not with --measure")
    choice = Choice(only, tuple(measure or ()))
    old, new = updating.load_baseline(baseline) if update else load(baseline), load(candidate)
    result = compare_stores(old, new, gate_timings=timings, choice=choice)
    change = updating.prepare(baseline, old, candidate, new, choice) if update else None
    sides = str(baseline), str(candidate)
    print(comparison.FORMATS[format](result, *sides))
    if format == "github" and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        comparison.append_summary(Path(summary), comparison.markdown(result, *sides))
    if change:
        tell(change.write())
        return 0
    return result.exit_code


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|STORE...",
            help="Folders of records, files of `fidmap table --format json` or of `pytest --benchmark-json`.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the records  [default, of benchmarks: runs/microbench]")
    ] = None,
) -> int:
    """Merge records into one folder: of stores, of their JSON files, and of pytest-benchmark.

    Of two records of one cell hash, the one that ended well is kept, then the one with its arrays, then the newer. Exit
    code 1 where a record was damaged and left out, or two of one hash differ in a deterministic measure.
    """
    from bench.records import microbench, source
    from bench.records.merge import merge
    from bench.records.store import Store

    read = [source.read(path) for path in sources]
    if out is None and not all(set(one.plans) == {microbench.SUITE} for one in read):
        raise UsageError("--out is missing: the folder that the records of all sources go into")
    store = Store(out or Path("runs/microbench"))
    merged = merge(read, store)
    for line in merged.damaged:
        tell(f"left out: {line}")
    for line in merged.conflicts:
        tell(f"conflict: {line}")
    tell(f"{store.folder}: {merged.line()}")
    return int(bool(merged.damaged or merged.contradicted))

"""The commands of ``fidmap``: they parse, call and print; what is slow to import is imported inside them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from bench.errors import UsageError
from bench.evaluate.cli import app as evaluate

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(evaluate, name="evaluate")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"fidmap {version('fidmap')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Judge generative samplers and object detectors by numbers that can be re-derived."""


def _own(what: str, metavar: str = "MODULE:FUNCTION") -> Any:
    return typer.Option(metavar=metavar, help=f"A {what} of yours to run too.")


Out = Annotated[Path | None, typer.Option("--out", help="Folder of the records  [default: the newest in runs/]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file of your own.")],
    only: Annotated[str | None, typer.Option(help="Only cells whose name matches this glob.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the records  [default: runs/SUITE]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at a time  [default: the number of cores]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="First seed, in place of the suite's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    sampler: Annotated[list[str] | None, _own("sampler")] = None,
    scheduler: Annotated[list[str] | None, _own("scheduler", "MODULE:NAME")] = None,
    loss: Annotated[list[str] | None, _own("box loss")] = None,
    nms: Annotated[list[str] | None, _own("suppression")] = None,
    metric: Annotated[list[str] | None, _own("metric of images")] = None,
    task: Annotated[list[str] | None, _own("task", "MODULE:NAME")] = None,
    settings: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of --task, as in TOML; a list is an axis.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="SPEC", help="A model of yours, on which the samplers run too.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Of --model, as fidmap evaluate model takes it.")] = None,
    condition: Annotated[str | None, typer.Option(metavar="MODULE:FUNCTION", help="Of --model.")] = None,
    range: Annotated[str | None, typer.Option(help="Of the images of --model  [default: -1,1]")] = None,
    extractor: Annotated[str | None, typer.Option(help="Of the features of --model  [default: fmnist]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run cells again that are stored.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and stop.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many cells.")] = None,
    keep: Annotated[str | None, typer.Option(metavar="samples", help="Store generated samples too (uint8).")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Part K of N, for N machines; fidmap import puts them together.")
    ] = None,
) -> int:
    """Run a suite; cells that are stored already are not run again."""
    from bench.environment import check_device
    from bench.plan import cells as expansion
    from bench.plan import suite as suites
    from bench.plan.own_task import join_task
    from bench.plan.shard import Shard
    from bench.records import guests as earlier_guests
    from bench.records.store import Store
    from bench.report import ranking, tables
    from bench.report.provenance import omissions
    from bench.report.save import find_runs
    from bench.report.save import save as save_report
    from bench.run.reporter import Reporter
    from bench.run.session import run as execute
    from bench.run.session import select_missing

    if keep not in (None, "samples"):
        raise UsageError(f"--keep takes samples, given {keep!r}")
    part = None if shard is None else Shard.parse(shard)
    check_device(device)
    options = {
        "samplers": ("--sampler", sampler), "losses": ("--loss", loss), "nms": ("--nms", nms),
        "metrics": ("--metric", metric), "tasks": ("--task", task),
    }  # fmt: skip
    guests = {kind: [_check_own(kind, option, n) for n in names or ()] for kind, (option, names) in options.items()}
    guests["samplers"] += [_check_scheduler(name) for name in scheduler or ()]
    _check_returns(guests)
    file = suites.find(suite)
    plan = suites.read(file, granted={name for names in guests.values() for name in names})
    if settings and len(guests["tasks"]) != 1:
        raise UsageError("--settings goes with one --task")
    tasks = guests.pop("tasks")
    for name in tasks:
        plan = join_task(plan, name, settings or ())
    own = {"data": data, "condition": condition, "range": range, "extractor": extractor}
    if model is not None:
        from bench.evaluate.models.command import join_by_options

        plan = join_by_options(plan, model, own, device)
    elif given := [name for name, value in own.items() if value is not None]:
        raise UsageError(f"--{given[0]} goes with --model")
    store = Store(out or Path("runs") / plan.name, repair=not dry_run)
    stream = expansion.stream(plan, seed=seed, device=device, guests=guests, where=str(file.name))
    # With a limit, no more cells are made than needed; a shard is one of all cells.
    everything = list(stream) if part or not limit else None
    chosen = expansion.select(stream if everything is None else everything, only, None if part else limit)
    cells = part.take(chosen, everything or chosen)[:limit] if part else chosen
    if dry_run:
        to_run = select_missing(cells, store, force=force, keep_samples=keep is not None)
        waiting = {cell.identity.hash for cell in to_run}
        for cell in cells:
            state = "skip" if cell.skip else "run" if cell.identity.hash in waiting else "stored"
            print(f"{state:<7} {cell.name}")
        _tell(f"{len(cells)} cells, {len(waiting)} to run")
        return 0
    store.create()
    shown = {cell.identity.hash: cell.identity.key for cell in everything or cells}
    earlier = earlier_guests.find_earlier(store, plan.name, everything or [])
    shown |= {record.cell.hash: record.cell.key for record in earlier}
    hashes, keys = list(shown), list(shown.values())
    store.write_suite(plan.name, plan.model_dump(mode="json"), hashes, keys, part=everything is None)
    waiting_cells = select_missing(cells, store, force=force, keep_samples=keep is not None)
    jobs = jobs or (1 if device != "cpu" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    _tell(
        f"{plan.name}: {len(cells)} cells, {len(cells) - len(waiting_cells)} stored, "
        f"{len(waiting_cells)} to run into {store.folder}"
    )
    reporter = Reporter(waiting_cells, jobs)
    try:
        counts = execute(waiting_cells, store, jobs=jobs, keep_samples=keep == "samples", progress=reporter)
    except KeyboardInterrupt:
        _tell("interrupted; what had finished is stored, the same command goes on from there")
        return 130
    finally:
        reporter.close()
    written, *_ = save_report(store, store.folder / "report")
    contents, runs = store.contents(), find_runs(store)
    if summary := ranking.summarize(contents.records, runs):
        print("\n".join([summary, *omissions(contents)]))
    else:
        print(tables.render(store, runs))  # another run may have written the file meanwhile
    _tell(f"tables, pictures, and where the numbers come from, are in {written.parent}")
    _tell(f"{plan.name}: {sum(n for status, n in counts.items() if status != 'skipped')} cells run, "
          f"{sum(cell.skip is not None for cell in cells)} skipped")  # fmt: skip
    for line in earlier_guests.describe(earlier):
        _tell(line)
    idle = False
    for name in (*(name for names in guests.values() for name in names), *tasks):
        took_part, line = expansion.participation(chosen, name)
        idle |= not took_part
        _tell(line)
    bad = {status: n for status, n in counts.items() if status not in ("ok", "skipped")}
    if bad:
        _tell("ended otherwise: " + ", ".join(f"{n} {status}" for status, n in sorted(bad.items())))
    return int(idle or bool(set(bad) - {"diverged"}))


@app.command()
def audit(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Samplers; all of fidmap's own without any.")
    ] = None,
    sampler: Annotated[list[str] | None, _own("sampler")] = None,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:NAME", help="A scheduler of yours, with set_timesteps and step as in diffusers."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="All of diffusers or of k_diffusion, as solvers and as shipped.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In place of the checks: the first step that is not as in this sampler."),
    ] = None,
    check: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Print failures and errors alone.")] = False,
    as_json: AsJson = False,
) -> int:
    """Certify samplers by measurement, each failure with a script that shows it; exit code 1 on failures and errors.

    With --like NAME, they are held against a named sampler step by step, at the same levels and with the same noise;
    exit code 1 where one parts from it.
    """
    from bench.audit import CHECKS, report
    from bench.audit.peers import LIBRARIES
    from bench.progress import Steps
    from implementations.catalogue import SAMPLERS

    if unknown := set(peer or ()) - set(LIBRARIES):
        raise UsageError(f"--peer {min(unknown)!r}: expected {' or '.join(LIBRARIES)}")
    if unknown := set(check or ()) - set(CHECKS):
        raise UsageError(f"--check {min(unknown)!r}: expected {', '.join(CHECKS)}")
    guests = [_check_own("samplers", "--sampler", name) for name in sampler or ()]
    guests += [_check_scheduler(name) for name in scheduler or ()]
    if like is not None:
        if given := [
            option for option, value in (("--peer", peer), ("--check", check), ("--failures", failures)) if value
        ]:
            raise UsageError(f"--like and {given[0]}: one of them is accepted")
        return _hold_against(like, [*(names or ()), *guests], as_json)
    try:
        for name in names or ():
            SAMPLERS[name].resolve()
        subjects = report.choose_subjects([*(names or ()), *guests], peer or ())
    except (LookupError, ImportError) as error:
        raise UsageError(str(error)) from None
    if not subjects:
        raise UsageError(f"there are no entries of {', '.join(peer or ())} in the catalogue")
    found = []
    with Steps("audit", len(subjects)) as steps:
        for of_one in report.findings(subjects, check or CHECKS):
            found.append(of_one)
            steps.advance()
            if not as_json and (not failures or any(one.bad for one in of_one)):
                print(report.text(of_one, failures), flush=True)
    if as_json:
        print(json.dumps([one.as_dict() for of_one in found for one in of_one], indent=1))
    for line in report.summary(found, name_right=bool(peer)):
        _tell(line)
    return int(any(one.bad for of_one in found for one in of_one))


def _hold_against(like: str, names: list[str], as_json: bool) -> int:
    """Hold samplers against a named one and print where they part; exit code 1 where one does."""
    from bench.audit.likeness import compare
    from bench.audit.subject import find_subject

    if not names:
        raise UsageError("--like NAME needs what is held against it: --sampler, --scheduler or a name")
    try:
        other = find_subject(like)
        found = [compare(find_subject(name), other) for name in names]
    except (LookupError, ImportError, ValueError) as error:
        raise UsageError(str(error)) from None
    if as_json:
        print(json.dumps([one.as_dict() for one in found], indent=1))
    else:
        print("\n".join(one.text() for one in found))
    return int(any(one.verdict != "same" for one in found))


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="samplers, losses, tasks, suites, ...; all of them without.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="What another program calls them: comfyui, automatic1111 (a1111, forge), diffusers or k_diffusion.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=GLOB", help="Only those, such as family=exponential or order=2.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List samplers, losses, metrics, tasks, suites and all else that has a name, by family."""
    from dataclasses import asdict

    from bench import listing

    fields = dict(_pair("--where", one) for one in where or ())
    if names is not None:
        if fields:
            raise UsageError("--names and --where: one of them is accepted")
        found = listing.names(kind, names)
        rows: Any = {one: [{"name": n} | asdict(m) for n, m in table.items()] for one, table in found.items()}
        lines = listing.names_text(found, names)
    else:
        chosen = listing.choose(kind, fields)
        rows = {one: [asdict(entry) for entry in entries] for one, entries in chosen.items()}
        lines = listing.text(chosen, _columns())
    print(json.dumps(rows, indent=1) if as_json else "\n".join(lines))


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Of a task, sampler, schedule, path, loss, NMS, metric, suite, ...")],
    as_json: AsJson = False,
) -> None:
    """Say what a name stands for, what it takes, what it measures, and how to use it."""
    from dataclasses import asdict

    from bench.describe import describe as describe_name

    found, width = describe_name(name), _columns()
    print(
        json.dumps([asdict(one) for one in found], indent=1)
        if as_json
        else "\n\n".join(one.text(width) for one in found)
    )


class RankCommand(typer.core.TyperCommand):
    """A command whose option ``--rank`` may stand without its measure."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare ``--rank`` an empty measure."""
        from bench.report.families import FAMILIES

        following = [*args[1:], "-"]
        bare = ["--rank=" if one == "--rank" and (after.startswith("-") or after in FAMILIES) else one
                for one, after in zip(args, following, strict=True)]  # fmt: skip
        return super().parse_args(ctx, bare)


@app.command(cls=RankCommand)
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
        _print_ranking(names or [str(_open(None).folder)], rank, asked, format)
        return
    if given := [name for name, value in asked.items() if value is not None]:
        raise UsageError(f"{given[0]} goes with --rank")
    if len(names) > 1:
        raise UsageError(f"{len(names)} sources: without --rank, one folder of records is accepted")
    store = _open(Path(names[0]) if names else None)
    print(tables.render(store, find_runs(store), format), end="")
    for line in omissions(store.contents()) if format in ("csv", "json") else ():  # the others have it below
        _tell(line)
    if save:
        for file in save_report(store, save):
            _tell(f"wrote {file}")


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
    columns = None if asked["--columns"] is None else _names(asked["--columns"])
    found: dict[str, list[str]] = {}
    for key, value in (_pair("--where", one, "KEY=VALUE") for one in asked["--where"] or ()):
        found.setdefault(key, []).append(value)
    question = Question(
        measure, found, _names(asked["--rows"] or ""), columns, asked["--sort"] or "", asked["--top"]
    )  # fmt: skip
    with without_collection():
        boards, others = build_all(gather(names), question)
    if others:
        _tell(f"there are records of {', '.join(others)} too; name a family to have its table")
    if into is None:
        print(render(boards, format), end="")
        return
    if title and len(boards) > 1:
        raise UsageError(f"--into {into}: one table has a name of its own, given {len(boards)} families")
    write_into(Path(file), {title or board.name: render([board], format) for board in boards})
    _tell(f"wrote {', '.join(title or board.name for board in boards)} into {file}")


@app.command()
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

    format = _format(format, as_json, tuple(comparison.FORMATS))
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
        _tell(change.write())
        return 0
    return result.exit_code


@app.command("import")
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
        _tell(f"left out: {line}")
    for line in merged.conflicts:
        _tell(f"conflict: {line}")
    _tell(f"{store.folder}: {merged.line()}")
    return int(bool(merged.damaged or merged.contradicted))


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Say what this machine has, what is missing, and how to get it."""
    from dataclasses import asdict

    from bench.doctor import examine

    requirements = examine()
    if as_json:
        print(json.dumps([asdict(one) for one in requirements], indent=1))
    else:
        for one in requirements:
            remedy = "" if one.found else f"  ->  {one.remedy}"
            state = "ok" if one.found else "MISSING" if one.needed else "absent"
            print(f"{state:<8}{one.name:<28}{one.detail}{remedy}")
    return int(any(one.needed and not one.found for one in requirements))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file of your own.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and weights.")] = Path("runs/train"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, in place of the recipe's.")] = None,
) -> None:
    """Train a shipped model again from its recipe."""
    from bench.train import train as train_recipe

    for name, value in train_recipe(recipe, out, steps=steps).items():
        print(f"{name}: {value}")


def _columns() -> int:
    """The width of the terminal, at most 120; 100 where there is none."""
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def _pair(option: str, text: str, form: str = "FIELD=GLOB") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option} {text!r}: expected {form}")
    return name, value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _check_scheduler(name: str) -> str:
    """Check a scheduler of the user's, and give the name by which it is a sampler of the catalogue."""
    from implementations.catalogue.own_scheduler import OWN_SCHEDULER

    return _check_own("samplers", "--scheduler", name, OWN_SCHEDULER)


def _check_own(kind: str, option: str, name: str, prefix: str = "") -> str:
    from bench.catalogue import kinds
    from bench.environment import import_from_here

    module, _, function = name.partition(":")
    if not module or not function:
        form = "MODULE:NAME" if option in ("--scheduler", "--task") else "MODULE:FUNCTION"
        raise UsageError(f"{option} {name!r}: expected {form}")
    import_from_here()
    try:
        found: Any = kinds()[kind][prefix + name].resolve()
    except ImportError as error:
        raise UsageError(f"{option} {error}") from None
    if kind == "samplers" and hasattr(found, "set_timesteps"):
        raise UsageError(f"{option} {name!r} has set_timesteps and is no function: --scheduler takes it")
    if not callable(found) and kind != "tasks":
        raise UsageError(f"{option} {name!r} is no function")
    return prefix + name


def _check_returns(guests: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where a trial call of an entry of the user's returns what its kind may not."""
    for kind, names in guests.items():
        for name in names:
            from bench.tasks.trial import find_wrong_return  # late: it needs torch

            if wrong := find_wrong_return(kind, name):
                raise UsageError(wrong)


def _format(name: str | None, as_json: bool, known: tuple[str, ...]) -> str:
    """The format that ``--format`` and ``--json`` ask for, the first of those ``known`` without either."""
    if as_json and name not in (None, "json"):
        raise UsageError(f"--json and --format {name}: one of them is accepted")
    name = "json" if as_json else name or known[0]
    if name not in known:
        raise UsageError(f"--format {name!r}: expected {', '.join(known)}")
    return name


def _open(out: Path | None) -> Any:
    """Open the store in the folder ``out``, or without it the store under runs/ that was written last."""
    from bench.records.store import Store

    if out is None:
        stores = sorted(Path("runs").glob("*/records"), key=lambda folder: folder.stat().st_mtime)
        if not stores:
            raise UsageError("there are no records under runs/; make some with: fidmap run quick")
        out = stores[-1].parent
        _tell(f"the records of {out}")
    store = Store(out)
    if not store.records_folder.is_dir():
        raise UsageError(f"{out} holds no records; make some with: fidmap run SUITE --out {out}")
    return store


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

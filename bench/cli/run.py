"""``fidmap run``: a suite, with what the user adds to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from bench.cli.shared import (
    check_own,
    check_returns,
    check_scheduler,
    own_option,
    tell,
)
from bench.errors import UsageError
from bench.output import prints_aside


def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file of your own.")],
    only: Annotated[str | None, typer.Option(help="Only cells whose name matches this glob.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the records  [default: runs/SUITE]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at a time  [default: the number of cores]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="First seed, in place of the suite's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    sampler: Annotated[list[str] | None, own_option("sampler")] = None,
    scheduler: Annotated[list[str] | None, own_option("scheduler", "MODULE:NAME")] = None,
    loss: Annotated[list[str] | None, own_option("box loss")] = None,
    nms: Annotated[list[str] | None, own_option("suppression")] = None,
    metric: Annotated[list[str] | None, own_option("metric of images")] = None,
    task: Annotated[list[str] | None, own_option("task", "MODULE:NAME")] = None,
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
    guests = {kind: [check_own(kind, option, n) for n in names or ()] for kind, (option, names) in options.items()}
    guests["samplers"] += [check_scheduler(name) for name in scheduler or ()]
    check_returns(guests)
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
    with prints_aside():
        stream = expansion.stream(plan, seed=seed, device=device, guests=guests, where=str(file.name))
        # With a limit, no more cells are made than needed; a shard is one of all cells.
        everything = list(stream) if part or not limit else None
        chosen = expansion.select(stream if everything is None else everything, only, None if part else limit)
    cells = part.take(chosen, everything or chosen)[:limit] if part else chosen
    if dry_run:
        to_run = select_missing(cells, store, force=force, keep_samples=keep is not None)
        waiting = {cell.identity.hash for cell in to_run if cell.skip is None}
        for cell in cells:
            state = "skip" if cell.skip else "run" if cell.identity.hash in waiting else "stored"
            print(f"{state:<7} {cell.name}")
        skipped = sum(cell.skip is not None for cell in cells)
        tell(f"{len(cells)} cells, {len(waiting)} to run" + (f", {skipped} skipped" if skipped else ""))
        return 0
    if cells and part is None and all(cell.skip and not cell.left_out for cell in cells):
        reasons = dict.fromkeys(str(cell.skip) for cell in cells)
        raise UsageError(f"{plan.name}: nothing can be run: {'; '.join(reasons)}")
    store.create()
    shown = {cell.identity.hash: cell.identity.key for cell in everything or cells}
    earlier = earlier_guests.find_earlier(store, plan.name, everything or [])
    shown |= {record.cell.hash: record.cell.key for record in earlier}
    hashes, keys = list(shown), list(shown.values())
    store.write_suite(plan.name, plan.model_dump(mode="json"), hashes, keys, part=everything is None)
    waiting_cells = select_missing(cells, store, force=force, keep_samples=keep is not None)
    jobs = jobs or (1 if device != "cpu" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    tell(
        f"{plan.name}: {len(cells)} cells, {len(cells) - len(waiting_cells)} stored, "
        f"{len(waiting_cells)} to run into {store.folder}"
    )
    reporter = Reporter(waiting_cells, jobs)
    try:
        counts = execute(waiting_cells, store, jobs=jobs, keep_samples=keep == "samples", progress=reporter)
    except KeyboardInterrupt:
        tell("interrupted; what had finished is stored, the same command goes on from there")
        return 130
    finally:
        reporter.close()
    written, *_ = save_report(store, store.folder / "report")
    contents, runs = store.contents(), find_runs(store)
    if summary := ranking.summarize(contents.records, runs):
        print("\n".join([summary, *omissions(contents)]))
    else:
        print(tables.render(store, runs))  # another run may have written the file meanwhile
    tell(f"tables, pictures, and where the numbers come from, are in {written.parent}")
    tell(f"{plan.name}: {sum(n for status, n in counts.items() if status != 'skipped')} cells run, "
          f"{sum(cell.skip is not None for cell in cells)} skipped")  # fmt: skip
    for line in earlier_guests.describe(earlier):
        tell(line)
    idle = False
    for name in (*(name for names in guests.values() for name in names), *tasks):
        took_part, line = expansion.participation(chosen, name)
        idle |= not took_part
        tell(line)
    bad = {status: n for status, n in counts.items() if status not in ("ok", "skipped")}
    if bad:
        tell("ended otherwise: " + ", ".join(f"{n} {status}" for status, n in sorted(bad.items())))
    return int(idle or bool(set(bad) - {"diverged"}))

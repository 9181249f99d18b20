"""The cells of a suite, block after block: names are checked, and a cell that several blocks list appears once."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pydantic import ValidationError

from bench.catalogue import TASKS
from bench.errors import UsageError
from bench.plan.blocks import BlockCells, Guests
from bench.plan.cell import Cell
from bench.plan.suite import Block, Suite
from bench.task import Task
from bench.toml import explain
from implementations.catalogue.entry import UnknownName

__all__ = ["Cell", "Guests", "expand", "find_task", "participation", "select", "stream"]

SEEDS = 2**32  # NumPy takes seeds below this


def expand(
    suite: Suite, *, seed: int | None = None, device: str = "cpu", guests: Guests | None = None, where: str = ""
) -> list[Cell]:
    """The cells of a suite in file order, as a list; parameters and errors are those of ``stream``."""
    return list(stream(suite, seed=seed, device=device, guests=guests, where=where))


def stream(
    suite: Suite, *, seed: int | None = None, device: str = "cpu", guests: Guests | None = None, where: str = ""
) -> Iterator[Cell]:
    """The cells of a suite in file order, each made when it is asked for: a suite may have millions.

    ``seed`` shifts the suite's seeds to begin there; ``guests`` join every axis of entries of their catalogue, except
    in cells whose parameters they do not accept; ``where`` names the suite in errors. Raises UsageError on names and
    values that the tasks do not know: those in tables, plots and the first cell of each block at once, those in other
    cells when these are made.
    """
    where, guests, blocks = where or suite.name, guests or {}, []
    for index, block in enumerate(suite.block):
        with _named_block(where, index, block):
            one = BlockCells(suite, index, find_task(block.task), device, guests, _seeds(suite, block, seed))
            next(iter(one))
            blocks.append(one)
    for kind, names in guests.items():
        if names and not any(one.takes_guests(kind) for one in blocks):
            raise UsageError(f"{names[0]}: {where} has no axis of {kind} for it to join")
    tasks = {block.task for block in suite.block}
    for spec in suite.table:
        names = [*filter(None, (*spec.rows, *spec.values, spec.columns, spec.floor)), *spec.where]
        _require_names(spec.task, names, tasks, f"{where}: table {spec.name}")
    for plot in suite.plot:
        names = [name for name in plot.references() if name != "index" and not name.startswith("@")]
        _require_names(plot.task, names, tasks, f"{where}: plot {plot.name}")
    for ranking in suite.ranking:
        for column in ranking.column:
            names = [*filter(None, (column.measure, column.floor)), *column.where]
            _require_names(column.task, names, tasks, f"{where}: ranking {ranking.name}")
    return _merge(blocks, where)


def select(cells: Iterable[Cell], only: str | None, limit: int | None) -> list[Cell]:
    """The first ``limit`` cells whose name contains a match of the glob ``only``; later ones are not made.

    Raises UsageError where there is none.
    """
    total, first = 0, ""

    def match_names() -> Iterator[Cell]:
        nonlocal total, first
        for cell in cells:
            total, first = total + 1, first or cell.name
            if only is None or fnmatch.fnmatchcase(cell.name, f"*{only}*"):
                yield cell

    chosen = list(itertools.islice(match_names(), limit))
    if not chosen:
        raise UsageError(f"--only {only!r} matches none of {total} cells; the first is {first}")
    return chosen


def participation(cells: Iterable[Cell], guest: str) -> tuple[int, str]:
    """The number of cells in which a guest takes part, and a line that says so, with the reasons for the others.

    A guest is an entry, or a task.
    """
    took_part, reasons = 0, Counter[str]()
    for cell in cells:
        reasons.update(reason for name, reason in cell.left_out if name == guest)
        took_part += cell.skip is None and guest in (cell.identity.task, *cell.identity.entries)
    line = f"{guest}: in {took_part} cells"
    if reasons:
        whys = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common())
        line += f", left out of {reasons.total()}: {whys}"
    return took_part, line


def _merge(blocks: list[BlockCells], where: str) -> Iterator[Cell]:
    """The cells of all blocks, each once; raises UsageError where blocks disagree on whether one is skipped."""
    seen: dict[str, tuple[str, str | None]] = {}
    for index, one in enumerate(blocks):
        with _named_block(where, index, one.block):
            for cell in one:
                key, state = cell.identity.key, (cell.identity.hash, cell.skip)
                if key not in seen:
                    seen[key] = state
                    yield cell
                elif seen[key] != state:
                    earlier = seen[key][1]
                    there = f"left out ({earlier})" if earlier else "run"
                    raise ValueError(f"{cell.name} is also in an earlier block, where it is {there}")


@contextmanager
def _named_block(where: str, index: int, block: Block) -> Iterator[None]:
    """A context in which errors become UsageErrors that name the suite and the block."""
    try:
        yield
    except ValidationError as error:
        raise UsageError(
            f"{where}: block {index} ({block.task}): {explain(error, find_task(block.task).parameters)}"
        ) from None
    except (UnknownName, ImportError, ValueError) as error:
        raise UsageError(f"{where}: block {index} ({block.task}): {error}") from None


def _seeds(suite: Suite, block: Block, first: int | None) -> list[int]:
    """A block's seeds, shifted to start at ``first``; raises ValueError where that takes one beyond its range."""
    seeds = block.seeds or suite.seeds
    if first is None:
        return seeds
    shifted = [first + seed - seeds[0] for seed in seeds]
    if not all(0 <= seed < SEEDS for seed in shifted):
        raise ValueError(f"--seed {first}: seeds {min(shifted)} to {max(shifted)}, accepted are 0 to {SEEDS - 1}")
    return shifted


def find_task(name: str) -> Task:
    """The task of a name of the catalogue or of the user's, ``module:name``, under that name.

    Raises UnknownName, ImportError where it cannot be loaded, and ValueError where it is no task.
    """
    task = TASKS[name].resolve()
    if not isinstance(task, Task):
        raise ValueError(f"{TASKS[name].target} is {type(task).__name__}; a task made with bench.task.task is accepted")
    return task if task.name == name else replace(task, name=name)


def _require_names(task: str, names: list[str], tasks: set[str], here: str) -> None:
    """Raise UsageError where a table, plot or ranking refers to a parameter or measure that its task does not have."""
    if task not in tasks:
        raise UsageError(f"{here}: no block has the task {task!r}; there are {', '.join(sorted(tasks))}")
    found = find_task(task)
    known = {*found.parameters.model_fields, *found.measures, "entry", "seed", "device", "status", "threads"}
    for name in names:
        if name not in known:
            raise UsageError(f"{here}: {task} has no {name!r}; there are {', '.join(sorted(known))}")

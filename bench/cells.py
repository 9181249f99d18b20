"""A suite's cells: axes crossed, entries chosen, names checked, and a hash over all that may move a number."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bench import environment
from bench.catalogue import TASKS, kinds
from bench.errors import UsageError, explain
from bench.store import key_of
from bench.suite import Block, PlotSpec, Suite, TableSpec
from bench.task import Task
from implementations.catalogue import CATALOGUES
from implementations.entry import Entry, UnknownName

# Whatever runs inside a worker: a change in any of it makes a record untrue.
MODULES = ("implementations", "metrics", "bench.data", "bench.tasks", "bench.task", "bench.timing", "bench.run")
# Variables that choose other arithmetic on the same machine.
VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "NVIDIA_TF32_OVERRIDE")

Guests = Mapping[str, Sequence[str]]  # by catalogue, entries of the user's: module:function


@dataclass(frozen=True)
class Cell:
    """One thing to measure; ``key`` says what it is, ``hash`` also all that may move its numbers."""

    suite: str
    task: str
    kind: str
    timing: bool  # it runs alone
    entry: str
    parameters: dict[str, Any]
    seed: int
    device: str
    hardware: str
    threads: int
    timeout_s: float
    memory_gib: float
    name: str
    key: str
    hash: str
    modules: tuple[str, ...]
    source: str  # hash of the modules
    samples: bool  # its task generates samples, which can be kept
    skip: str | None = None


def expand(
    suite: Suite, *, seed: int | None = None, device: str = "cpu", guests: Guests | None = None, where: str = ""
) -> list[Cell]:
    """The cells of a suite in file order.

    ``seed`` shifts its seeds to start there; ``guests`` join every axis of entries of their catalogue. Raises
    UsageError on names and values that the tasks do not know, in blocks, tables and plots.
    """
    cells: dict[str, Cell] = {}
    for index, block in enumerate(suite.block):
        try:
            seeds = block.seeds or suite.seeds
            seeds = seeds if seed is None else [seed + s - seeds[0] for s in seeds]
            for cell in _expand_block(suite, block, _task(block.task), seeds, device, guests or {}):
                twin = cells.setdefault(cell.key, cell)
                if twin.hash != cell.hash:
                    raise ValueError(f"{cell.name} is also in an earlier block, where it is {_state(twin)}")
        except ValidationError as error:
            raise UsageError(f"{where or suite.name}: block {index} ({block.task}): {explain(error)}") from None
        except (UnknownName, ImportError, ValueError) as error:
            raise UsageError(f"{where or suite.name}: block {index} ({block.task}): {error}") from None
    entries = {name for cell in cells.values() for name in cell.entry.split(",")}
    for kind, names in (guests or {}).items():
        if left := [name for name in names if name not in entries]:
            raise UsageError(f"{left[0]}: {where or suite.name} has no axis of {kind} for it to join")
    specs: list[TableSpec | PlotSpec] = [*suite.table, *suite.plot]
    for spec in specs:
        _check_spec(spec, {block.task for block in suite.block}, where or suite.name)
    return list(cells.values())


def select(cells: list[Cell], only: str | None, limit: int | None) -> list[Cell]:
    """Cells whose name matches the glob (anywhere in it), the first ``limit`` of them."""
    if only is not None:
        chosen = [cell for cell in cells if fnmatch.fnmatchcase(cell.name, f"*{only}*")]
        if not chosen:
            raise UsageError(f"--only {only!r} matches none of {len(cells)} cells; the first is {cells[0].name}")
        cells = chosen
    return cells[:limit]


def _task(name: str) -> Task:
    task = TASKS[name].resolve()
    if not isinstance(task, Task):
        raise ValueError(f"{TASKS[name].target} is {type(task).__name__}, not a task made with bench.task.task")
    return task


def _expand_block(
    suite: Suite, block: Block, task: Task, seeds: list[int], device: str, guests: Guests
) -> Iterator[Cell]:
    axes, settings = _axes(block, task, guests)
    zipped = [dict(zip(block.zip, values, strict=True)) for values in zip(*block.zip.values(), strict=True)] or [{}]
    package = task.run.__module__.partition(".")[0]
    modules = MODULES if package == "bench" else (*MODULES, package)  # an outside task's whole package
    source, hardware = environment.source_hash(modules), environment.device_identity(device)
    common = {
        "source": source,
        "python": environment.python(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "device": device,
        "hardware": hardware,
        "threads": block.threads,
    }
    for point, together, seed in itertools.product(_product(axes), zipped, seeds):
        given = settings | point | together
        parameters = task.parameters.model_validate(given).model_dump(mode="json")
        entries = parameters[task.entry]
        entry = ",".join(entries) if isinstance(entries, list) else str(entries)
        reason = next((e.reason for e in block.exclude if all(_matches(given[k], v) for k, v in e.match.items())), None)
        peers = _peers(parameters)
        found = environment.versions(tuple(dict.fromkeys((*environment.BASE, *task.packages, *peers))))
        if absent := [name for name in peers if name not in found]:
            reason = reason or f"not installed: {', '.join(absent)}"
        identity = {"task": task.name, "parameters": parameters, "seed": seed}
        key = key_of(task.name, parameters, seed, device, block.threads)
        hashed = identity | common | {"packages": found, "outside": _outside(parameters), "skip": reason}
        shown = {k: v for k, v in given.items() if k != task.entry} | ({"seed": seed} if len(seeds) > 1 else {})
        name = "/".join([task.name, entry, ",".join(f"{k}={_plain(v)}" for k, v in sorted(shown.items()))]).rstrip("/")
        yield Cell(
            suite.name, task.name, task.kind, task.timing, entry, parameters, seed, device, hardware,
            block.threads, suite.timeout_s, suite.memory_gib, name, key,
            environment.digest(hashed), modules, source, task.samples, reason,
        )  # fmt: skip


def _axes(block: Block, task: Task, guests: Guests) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """A block's axes as lists and its settings, entries chosen; raises ValueError where they contradict each other."""
    places = {"settings": set(block.settings), "axes": set(block.axes), "zip": set(block.zip)}
    for (one, left), (other, right) in itertools.combinations(places.items(), 2):
        if twice := left & right:
            raise ValueError(f"{', '.join(sorted(twice))} is in {one} and in {other}; one of them is accepted")
    lengths = {name: len(values) for name, values in block.zip.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zip: lists of one length are accepted, given {lengths}")
    known = set().union(*places.values())
    for exclusion in block.exclude:
        if unknown := set(exclusion.match) - known:
            names = ", ".join(sorted(known))
            raise ValueError(f"exclude: no axis or setting {', '.join(sorted(unknown))}; there are {names}")
    settings, contest = dict(block.settings), task.kind == "contest"
    if contest and task.entry in settings:
        settings[task.entry] = _choose(task, task.entry, settings[task.entry], guests)
    axes = {}
    for name, values in block.axes.items():
        if contest and name == task.entry:  # an axis of contests: each value is a list of entries
            axes[name] = [_choose(task, name, each, guests) for each in values]
        else:
            axes[name] = _choose(task, name, values, guests)
    return axes, settings


def _choose(task: Task, name: str, values: Any, guests: Guests) -> list[Any]:
    """An axis as a list: a selector over the entry's catalogue is resolved, the user's own join."""
    if isinstance(values, dict):
        if name != task.entry or not task.catalogue:
            raise ValueError(f"{name}: a list is accepted; a selector only for an entry that comes from a catalogue")
        values = _selected(task.catalogue, name, values)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name}: a list of at least one value is accepted, given {values!r}")
    if name == task.entry:
        values = [*values, *(guest for guest in guests.get(task.catalogue, ()) if guest not in values)]
    return values


def _selected(kind: str, name: str, fields: dict[str, Any]) -> list[str]:
    catalogue = kinds()[kind]

    def matches(entry: Entry) -> bool:
        return all(fnmatch.fnmatchcase(str(getattr(entry, field)), str(glob)) for field, glob in fields.items())

    try:
        chosen = [entry for entry, what in catalogue.items() if matches(what)]
    except AttributeError as error:
        raise ValueError(f"{name}: no such field to select by: {error}") from None
    if not chosen:
        raise ValueError(f"{name}: no entry of {kind} matches {fields}")
    return chosen


def _named(parameters: dict[str, Any]) -> Iterator[Entry]:
    """Every entry that a parameter names."""
    for name in (n for value in parameters.values() for n in (value if isinstance(value, list) else [value])):
        for catalogue in CATALOGUES.values():
            if isinstance(name, str) and (name in catalogue or ":" in name):
                yield catalogue[name]


def _peers(parameters: dict[str, Any]) -> list[str]:
    """Distributions that the named entries call."""
    return sorted({entry.package for entry in _named(parameters) if entry.package})


def _outside(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Target and source hash of every entry that a parameter names and that comes from outside fidmap.

    The whole package of the target is hashed, or the one file of a module that is in none.
    """
    targets = {entry.target for entry in _named(parameters) if entry.source != "fidmap"}
    return sorted((t, environment.tree_hash(t.partition(":")[0].partition(".")[0])) for t in targets)


def _check_spec(spec: TableSpec | PlotSpec, tasks: set[str], where: str) -> None:
    """Raise UsageError where a table or plot names what its task does not have."""
    kind = "table" if isinstance(spec, TableSpec) else "plot"
    here = f"{where}: {kind} {spec.name}"
    if spec.task not in tasks:
        raise UsageError(f"{here}: no block has the task {spec.task!r}; there are {', '.join(sorted(tasks))}")
    task = _task(spec.task)
    known = {*task.parameters.model_fields, *task.measures, "entry", "seed", "device", "status", "threads"}
    if isinstance(spec, TableSpec):
        names = [*spec.rows, *spec.values, spec.columns, spec.floor, *spec.where]
    else:
        names = [spec.x, spec.y, spec.z, spec.u, spec.v, spec.series, spec.facet, spec.floor, *spec.where]
    for name in names:
        if name and name not in known and not (kind == "plot" and (name == "index" or name.startswith("@"))):
            raise UsageError(f"{here}: {spec.task} has no {name!r}; there are {', '.join(sorted(known))}")


def _state(cell: Cell) -> str:
    return f"left out ({cell.skip})" if cell.skip else "run"


def _product(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _matches(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, list):
        return any(_matches(value, one) for one in pattern)
    if isinstance(pattern, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value, pattern)
    return json.dumps(value, sort_keys=True) == json.dumps(pattern, sort_keys=True)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ";".join(f"{k}={_plain(v)}" for k, v in sorted(value.items()))
    return ".".join(map(str, value)) if isinstance(value, list) else str(value)

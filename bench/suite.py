"""A suite: a TOML file read, validated, and expanded into cells with content hashes.

name = "quick"                            # letters, digits, - and _
title = "..."
seeds = [0]                               # every cell once a seed
timeout_s = 120                           # of one cell
memory_gib = 8.0                          # of one cell's worker

[[block]]                                 # task x axes x seeds
task = "sampler_error"
settings = { oracle = "gaussian" }        # the same in every cell
axes.sampler = { family = "runge_kutta" } # or a list of names; name = "dpm*" is a glob
axes.nfe = [5, 10]                        # axes are crossed
zip = { a = [1, 2], b = [3, 4] }          # zipped axes vary together
exclude = [{ match = { sampler = "ddpm" }, reason = "has no deterministic flow" }]

[[table]] and [[plot]]                    # what is shown: bench.tables.TableSpec, bench.plots.PlotSpec
"""

from __future__ import annotations

import fnmatch
import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import environment
from bench.catalogue import SUITES_FOLDER, TASKS, kinds
from bench.errors import UsageError
from bench.task import Task
from implementations.catalogue import UnknownName


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Exclusion(_Strict):
    """Cells that are not run, and why: they are recorded as skipped."""

    match: dict[str, Any]
    reason: Annotated[str, Field(min_length=1)]


class Block(_Strict):
    """One task over its axes."""

    task: str
    settings: dict[str, Any] = {}
    axes: dict[str, list[Any] | dict[str, Any]] = {}
    zip: dict[str, list[Any]] = {}
    exclude: list[Exclusion] = []
    threads: Annotated[int, Field(ge=1)] = 1


class TableSpec(_Strict):
    """Records of one task as rows; ``columns`` spreads one measure over a parameter's values."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    title: str
    task: str
    where: dict[str, Any] = {}
    rows: list[str]
    columns: str | None = None
    values: Annotated[list[str], Field(min_length=1)]
    floor: str | None = None  # a measure printed as a row of its own under each group of rows
    note: str = ""


class PlotSpec(_Strict):
    """Records of one task as curves or bars; ``x`` and ``y`` name a parameter, a measure, or (@) an array kept."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    title: str
    task: str
    where: dict[str, Any] = {}
    kind: Literal["line", "bar"] = "line"
    x: str
    y: str
    series: str | None = None
    facet: str | None = None
    log: Literal["", "x", "y", "xy"] = ""
    floor: str | None = None
    slopes: list[int] = []  # guides of these orders on a log-log picture
    xlabel: str = ""
    ylabel: str = ""


class Suite(_Strict):
    """What a suite file holds."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    title: str = ""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    memory_gib: Annotated[float, Field(gt=0)] = 8.0
    block: Annotated[list[Block], Field(min_length=1)]
    table: list[TableSpec] = []
    plot: list[PlotSpec] = []


@dataclass(frozen=True)
class Cell:
    """One thing to measure; ``key`` says what it is, ``hash`` also all that may move its numbers."""

    suite: str
    task: str
    kind: str
    timing: bool
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
    skip: str | None = None
    position: int = 0  # in its suite


def find(name: str) -> Path:
    """The file of a suite: a path that ends in .toml, or the name of a suite that comes with fidmap."""
    if name.endswith(".toml"):
        return Path(name)
    try:
        kinds()["suites"][name]
    except UnknownName as error:
        raise UsageError(f"{error}; or give a path to a .toml file") from None
    return SUITES_FOLDER / f"{name}.toml"


def read(file: Path) -> Suite:
    """Read and validate a suite file; raises UsageError naming file, line or key, and what is accepted."""
    try:
        text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("end of document", f"end of document, line {len(text.splitlines())}")
        raise UsageError(f"{file}: not TOML: {reason}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the suite {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{file}: {explain(error)}") from None
    for index, block in enumerate(suite.block):
        named = _code_name([block.task, block.settings, block.axes, block.zip])
        if named:
            raise UsageError(f"{file}: block {index}: {named!r} names code, which a file may not; see --sampler")
    return suite


def expand(
    suite: Suite, *, seed: int | None = None, device: str = "cpu", samplers: tuple[str, ...] = (), where: str = ""
) -> list[Cell]:
    """The cells of a suite in file order.

    ``seed`` shifts its seeds to start there, ``samplers`` joins every sampler axis.
    """
    seeds = suite.seeds if seed is None else [seed + s - suite.seeds[0] for s in suite.seeds]
    cells: dict[str, Cell] = {}
    for index, block in enumerate(suite.block):
        try:
            task: Task = TASKS[block.task].resolve()
            for cell in _expand_block(suite, block, task, seeds, device, samplers):
                cells.setdefault(cell.key, cell)
        except ValidationError as error:
            raise UsageError(f"{where or suite.name}: block {index} ({block.task}): {explain(error)}") from None
        except (UnknownName, ImportError, ValueError) as error:
            raise UsageError(f"{where or suite.name}: block {index} ({block.task}): {error}") from None
    return [replace(cell, position=position) for position, cell in enumerate(cells.values())]


def select(cells: list[Cell], only: str | None, limit: int | None) -> list[Cell]:
    """Cells whose name matches the glob (anywhere in it), the first ``limit`` of them."""
    if only is not None:
        chosen = [cell for cell in cells if fnmatch.fnmatchcase(cell.name, f"*{only}*")]
        if not chosen:
            raise UsageError(f"--only {only!r} matches none of {len(cells)} cells; the first is {cells[0].name}")
        cells = chosen
    return cells[:limit]


def explain(error: ValidationError) -> str:
    """A pydantic error as one line: the key, what was given, what is accepted."""
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("list[", "dict[")))
        given = "" if item["type"] in ("missing", "extra_forbidden") else f" (given {item['input']!r:.80})"
        problems.append(f"{key}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(dict.fromkeys(problems))


def _expand_block(
    suite: Suite, block: Block, task: Task, seeds: list[int], device: str, samplers: tuple[str, ...]
) -> Iterator[Cell]:
    axes = {name: _choose(task, name, values, samplers) for name, values in block.axes.items()}
    settings = dict(block.settings)
    if task.kind == "contest" and task.entry in settings:
        settings[task.entry] = _choose(task, task.entry, settings[task.entry], samplers)
    if len({len(values) for values in block.zip.values()}) > 1:
        raise ValueError("zip: lists of one length are needed, given " + str({k: len(v) for k, v in block.zip.items()}))
    zipped = [dict(zip(block.zip, values, strict=True)) for values in zip(*block.zip.values(), strict=True)] or [{}]
    known = set(axes) | set(block.zip) | set(settings)
    for exclusion in block.exclude:
        if unknown := set(exclusion.match) - known:
            raise ValueError(
                f"exclude: no axis or setting {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
            )
    source = environment.source_hash(("implementations", "metrics", "bench.data", "bench.timing", task.run.__module__))
    packages = environment.versions(tuple(dict.fromkeys((*environment.BASE, *task.packages))))
    hardware = environment.device_identity(device)
    for point, together, seed in itertools.product(_product(axes), zipped, seeds):
        given = settings | point | together
        parameters = task.parameters.model_validate(given).model_dump(mode="json")
        entries = parameters[task.entry]
        entry = ",".join(entries) if isinstance(entries, list) else str(entries)
        reason = next((e.reason for e in block.exclude if all(_matches(given[k], v) for k, v in e.match.items())), None)
        identity = {"task": task.name, "parameters": parameters, "seed": seed}
        code = [environment.tree_hash(e.partition(":")[0].partition(".")[0]) for e in _external(task, entries)]
        full = identity | {
            "source": source, "external": code, "packages": packages, "device": device, "hardware": hardware,
            "threads": block.threads, "skip": reason,
        }  # fmt: skip
        shown = {k: v for k, v in given.items() if k != task.entry} | ({"seed": seed} if len(seeds) > 1 else {})
        name = "/".join([task.name, entry, ",".join(f"{k}={_plain(v)}" for k, v in sorted(shown.items()))]).rstrip("/")
        yield Cell(
            suite.name, task.name, task.kind, task.timing, entry, parameters, seed, device, hardware, block.threads,
            suite.timeout_s, suite.memory_gib, name, environment.digest(identity), environment.digest(full), reason,
        )  # fmt: skip


def _choose(task: Task, name: str, values: Any, samplers: tuple[str, ...]) -> list[Any]:
    """An axis as a list: a selector over the entry's catalogue is resolved, the user's samplers join."""
    if isinstance(values, dict):
        if name != task.entry:
            raise ValueError(f"{name}: only the entry {task.entry!r} takes a selector; give a list")
        catalogue = kinds()[task.catalogue]
        fields = values.items()
        try:
            chosen = [
                n
                for n in catalogue
                if all(fnmatch.fnmatchcase(str(getattr(catalogue[n], k)), str(v)) for k, v in fields)
            ]
        except AttributeError as error:
            raise ValueError(f"{name}: no such field to select by: {error}") from None
        if not chosen:
            raise ValueError(f"{name}: no entry of {task.catalogue} matches {values}")
        values = chosen
    if name == task.entry and task.catalogue == "samplers":
        values = list(dict.fromkeys([*values, *samplers]))
    if not values:
        raise ValueError(f"{name}: an empty list")
    return values


def _external(task: Task, entries: Any) -> list[str]:
    """Targets of entries that come from outside fidmap: their source belongs to the hash."""
    if not task.catalogue:
        return []
    catalogue = kinds()[task.catalogue]
    names = entries if isinstance(entries, list) else [entries]
    return [catalogue[name].target for name in names if catalogue[name].source != "fidmap"]


def _product(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _matches(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, list):
        return any(_matches(value, one) for one in pattern)
    return (
        fnmatch.fnmatchcase(value, pattern) if isinstance(pattern, str) and isinstance(value, str) else value == pattern
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ";".join(f"{k}={_plain(v)}" for k, v in sorted(value.items()))
    return ".".join(map(str, value)) if isinstance(value, list) else str(value)


def _code_name(value: Any) -> str | None:
    """The first string that would name code (module:function), anywhere inside."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for item in value if (found := _code_name(item))), None)
    return value if isinstance(value, str) and ":" in value else None

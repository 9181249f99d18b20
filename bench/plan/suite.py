"""A suite: a TOML file that says what is measured and how it is shown, read and validated.

name = "quick"                            # letters, digits, - and _
title = "..."
seeds = [0]                               # every cell runs once per seed
timeout_s = 120                           # of one cell
memory_gib = 8.0                          # of one cell's worker

[[block]]                                 # task x axes x seeds, expanded by bench.plan.cells
task = "sampler_error"
settings = { oracle = "gaussian" }        # the same in every cell
axes.sampler = { family = "runge_kutta" } # or a list of names; name = "dpm*" is a glob
axes.nfe = [5, 10]                        # axes are crossed
zip = { a = [1, 2], b = [3, 4] }          # zipped axes vary together
exclude = [{ match = { sampler = "ddpm" }, reason = "has no deterministic flow" }]
seeds = [0, 1, 2]                         # of this block, in place of the suite's

[[ranking]], [[table]] and [[plot]]       # what is shown: bench.plan.spec and bench.plan.plot
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import Field, ValidationError

from bench.catalogue import SUITES_FOLDER, kinds
from bench.errors import UsageError
from bench.plan.plot import PlotSpec
from bench.plan.spec import RankingSpec, TableSpec
from bench.toml import Strict, explain
from implementations.catalogue.entry import Entry, UnknownName
from implementations.catalogue.names import names_code

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]


class Exclusion(Strict):
    """Cells of a block (points of its crossed axes) that are recorded as skipped, with the reason.

    They are those whose settings match ``match``: a value, a glob, or a list of these per setting.
    """

    match: dict[str, Any]
    reason: Annotated[str, Field(min_length=1)]


class Block(Strict):
    """A block of a suite: a task, run for all values of its crossed and zipped axes and for each seed.

    ``settings`` are parameters that are the same in every cell, ``exclude`` the cells that are skipped, ``threads`` the
    threads of a cell.
    """

    task: str
    settings: dict[str, Any] = {}
    axes: dict[str, list[Any] | dict[str, Any]] = {}
    zip: dict[str, list[Any]] = {}
    exclude: list[Exclusion] = []
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    threads: Annotated[int, Field(ge=1)] = 1


class Suite(Strict):
    """A suite: blocks of cells to run, limits for each cell, and the rankings, tables and plots that show them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    title: str = ""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    memory_gib: Annotated[float, Field(gt=0)] = 8.0
    block: Annotated[list[Block], Field(min_length=1)]
    ranking: list[RankingSpec] = []
    table: list[TableSpec] = []
    plot: list[PlotSpec] = []


class SuiteRun(NamedTuple):
    """A suite as it was last run: its definition, and the hash of each of its cells (one entry, setting and seed).

    Reports show the records that have these hashes, in this order.
    """

    suite: Suite
    cells: list[str]


def find(name: str) -> Path:
    """The file of a suite, given its path (which ends in .toml) or its name: of fidmap, or of an outside package.

    Raises UsageError on an unknown name.
    """
    if name.endswith(".toml"):
        return Path(name)
    try:
        entry = kinds()["suites"][name]
    except UnknownName as error:
        raise UsageError(f"{error}; or give a path to a .toml file") from None
    return SUITES_FOLDER / f"{name}.toml" if entry.source == "fidmap" else _find_installed(entry)


def _find_installed(entry: Entry) -> Path:
    """The file of a suite of an outside package, ``package:file.toml``; raises UsageError where it is not there."""
    module, _, name = entry.target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    places: Iterable[str] = (spec.submodule_search_locations or [str(Path(spec.origin or "").parent)]) if spec else []
    found = next((file for place in places if name and (file := Path(place, name)).is_file()), None)
    if found is None:
        raise UsageError(
            f"suite {entry.name!r} of {entry.source}: {entry.target!r} is not there; PACKAGE:FILE.toml is accepted"
        )
    return found


def read(file: Path, granted: Collection[str] = ()) -> Suite:
    """Read and validate a suite file; raises UsageError naming file, line or key, and what is accepted.

    Of code (MODULE:NAME), a file may name only what is ``granted``: what the command line names too.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("end of document", f"end of document, line {len(text.splitlines())}")
        raise UsageError(f"{file}: not TOML: {reason}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the suite {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        suite = Suite.model_validate(content)
        named = [
            (_code_name(block.task, granted), _code_name([block.settings, block.axes, block.zip], granted))
            for block in suite.block
        ]
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    except ValidationError as error:
        raise UsageError(f"{file}: {explain(error, Suite)}") from None
    for index, (task, entry) in enumerate(named):
        if task or entry:
            option = f"--task {task}" if task else "--sampler, --scheduler, --loss, --nms or --metric"
            raise UsageError(
                f"{file}: block {index}: {task or entry!r} names code, which runs only where the command line names it"
                f" too, by {option}"
            )
    own = [name for name, entry in kinds()["suites"].items() if entry.source == "fidmap"]
    if suite.name in own and file.resolve().parent != SUITES_FOLDER.resolve():
        raise UsageError(f"{file}: name: {suite.name!r} is a suite that comes with fidmap; choose another name")
    return suite


def _code_name(value: Any, granted: Collection[str]) -> str | None:
    """The first string anywhere inside ``value`` that names code (module:function) and is not granted, or None."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for item in value if (found := _code_name(item, granted))), None)
    return value if isinstance(value, str) and names_code(value) and value not in granted else None

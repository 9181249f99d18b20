"""A suite: a TOML file read and validated.

name = "quick"                            # letters, digits, - and _
title = "..."
seeds = [0]                               # every cell once a seed
timeout_s = 120                           # of one cell
memory_gib = 8.0                          # of one cell's worker

[[block]]                                 # task x axes x seeds, expanded by bench.cells
task = "sampler_error"
settings = { oracle = "gaussian" }        # the same in every cell
axes.sampler = { family = "runge_kutta" } # or a list of names; name = "dpm*" is a glob
axes.nfe = [5, 10]                        # axes are crossed
zip = { a = [1, 2], b = [3, 4] }          # zipped axes vary together
exclude = [{ match = { sampler = "ddpm" }, reason = "has no deterministic flow" }]
seeds = [0, 1, 2]                         # of this block, in place of the suite's

[[table]] and [[plot]]                    # what is shown: TableSpec and PlotSpec, below
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.catalogue import SUITES_FOLDER, kinds
from bench.errors import UsageError, explain
from implementations.entry import UnknownName

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]


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
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
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
    best: bool = False  # a cell names the best entry by the measure, and those that its interval does not tell apart
    note: str = ""


class PlotSpec(_Strict):
    """Records of one task as curves, bars, maps, boxes or trajectories.

    ``x`` and ``y`` name a parameter, a measure, or (@) an array kept. Curves may be crossed by their Pareto front.

    A map (heat, field) has a panel a series and facet: values ``@z`` over the axes ``@x`` and ``@y`` of a grid, or at
    points, where both name one array (n, 2). A field has arrows against ``@u``, ``@v`` too, of length z by default.
    Boxes draw ``@x`` (k, 4), which ``zlabel`` names, under the numbers ``@y``.
    Trajectories draw paths ``@x`` (paths, points, 2) over lines ``@y`` of that form, where a record keeps these.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    title: str
    task: str
    where: dict[str, Any] = {}
    kind: Literal["line", "bar", "heat", "field", "boxes", "trajectories"] = "line"
    x: str
    y: str
    z: str = ""
    u: str = ""
    v: str = ""
    series: str | None = None
    facet: str | None = None
    log: Literal["", "x", "y", "xy", "z", "xyz"] = ""
    scale: Literal["shared", "own"] = "shared"  # of a map's colours
    mark: Annotated[list[float], Field(max_length=2)] = []  # a place on every panel of a map
    floor: str | None = None
    slopes: list[int] = []  # guides of these orders on a log-log picture
    pareto: bool = False  # the front of all points, no other being better in x and in y; the less x the better
    xlabel: str = ""
    ylabel: str = ""
    zlabel: str = ""

    @model_validator(mode="after")
    def _has_its_arrays(self) -> PlotSpec:
        needed = {
            "heat": ("x", "y", "z"), "field": ("x", "y", "u", "v"), "boxes": ("x", "y"), "trajectories": ("x", "y"),
        }.get(self.kind, ())  # fmt: skip
        if missing := [name for name in needed if not getattr(self, name).startswith("@")]:
            raise ValueError(f"{missing[0]}: a {self.kind} needs the name of an array, as @name")
        if self.pareto and self.kind != "line":
            raise ValueError(f"pareto: a front is drawn through lines, not on a picture of kind {self.kind}")
        if needed and len(self.mark) == 1:
            raise ValueError("mark: two numbers are accepted, x and y")
        return self


class Suite(_Strict):
    """What a suite file holds."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    title: str = ""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    memory_gib: Annotated[float, Field(gt=0)] = 8.0
    block: Annotated[list[Block], Field(min_length=1)]
    table: list[TableSpec] = []
    plot: list[PlotSpec] = []


class Plan(NamedTuple):
    """A suite and the hashes of its cells, in order: what a store shows of it."""

    suite: Suite
    cells: list[str]


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
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("end of document", f"end of document, line {len(text.splitlines())}")
        raise UsageError(f"{file}: not TOML: {reason}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the suite {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        suite = Suite.model_validate(content)
        named = [_code_name([block.task, block.settings, block.axes, block.zip]) for block in suite.block]
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    except ValidationError as error:
        raise UsageError(f"{file}: {explain(error)}") from None
    for index, name in enumerate(named):
        if name:
            raise UsageError(
                f"{file}: block {index}: {name!r} names code, which a file may not; see --sampler, --loss and --nms"
            )
    if suite.name in kinds()["suites"] and file.resolve().parent != SUITES_FOLDER.resolve():
        raise UsageError(f"{file}: name: {suite.name!r} is a suite that comes with fidmap; choose another name")
    return suite


def _code_name(value: Any) -> str | None:
    """The first string that would name code (module:function), anywhere inside."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for item in value if (found := _code_name(item))), None)
    return value if isinstance(value, str) and ":" in value else None

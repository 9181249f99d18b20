"""What a suite shows of its records: tables and plots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bench.toml import Strict


class TableSpec(Strict):
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


class PlotSpec(Strict):
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

"""The tables and rankings of a suite: models of how records are laid out, with the options of a suite file.

A ranking is a few lines for the terminal, a table goes into a file.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from bench.plan.plot import SpecName
from bench.toml import Strict


class TableSpec(Strict):
    """The layout of a table of one task's records: rows by parameters, columns by measures.

    ``rows`` are parameters, ``values`` measures. With ``columns``, a parameter, there is a column per value of it.
    """

    name: SpecName
    title: str
    task: str
    where: dict[str, Any] = {}  # parameters and their values; of a list, any
    rows: list[str]
    columns: str | None = None
    values: Annotated[list[str], Field(min_length=1)]
    floor: str | None = None  # a measure printed as a row of its own under each group of rows
    best: bool = False  # the best entry in bold, and those not told from it; where rows are no entries, by its name
    sort: str | None = None  # a row's parameter, a measure (its best first), or "COLUMN VALUE"; without: as measured
    top: Annotated[int, Field(ge=1)] | None = None  # this many rows of each group
    says: list[str] = []  # measures of which a sentence is computed, above the table and at the head of its file
    agrees: str | None = None  # a value of ``columns``, beside whose ranking of the rows that of each other one is held
    note: str = ""

    @model_validator(mode="after")
    def _names_what_it_shows(self) -> TableSpec:
        shown = [*self.rows, *self.values]
        spread = self.columns is not None and self.sort is not None and self.sort.startswith(f"{self.columns} ")
        if self.sort is not None and self.sort not in shown and not spread:
            raise ValueError(f"sort: {self.sort!r} is no row or value of the table; there are {', '.join(shown)}")
        if unknown := [name for name in self.says if name not in self.values]:
            raise ValueError(f"says: {unknown[0]!r} is no value of the table; there are {', '.join(self.values)}")
        if self.agrees is not None and self.columns is None:
            raise ValueError(f"agrees: {self.agrees!r} is a value of columns, and the table names no columns")
        return self


class RankingColumn(Strict):
    """A column of a ranking: a measure of those of a task's records that ``where`` selects, one number per entry."""

    title: str
    task: str
    where: dict[str, Any] = {}
    measure: str
    floor: str | None = None  # a measure of the same records, the value that exact draws reach: a row at the end


class RankingSpec(Strict):
    """The layout of a ranking: entries in the order of the first of its columns, each a measure of some task."""

    name: SpecName
    title: str
    equal_over: str | None = None  # a parameter that must not matter: one row per entry, and a line that says so
    column: Annotated[list[RankingColumn], Field(min_length=1)]
    note: str = ""

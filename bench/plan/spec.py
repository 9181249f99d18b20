"""The tables and rankings of a suite: models of how records are laid out, with the options of a suite file.

A ranking is a few lines for the terminal, a table goes into a file.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

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
    best: bool = False  # a cell names the best entry by the measure, and those that do not differ significantly
    note: str = ""


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

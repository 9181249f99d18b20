"""What a suite shows of its records as tables: rankings, a few lines each for the terminal, and tables for a file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from bench.plan.plot import SpecName
from bench.toml import Strict


class TableSpec(Strict):
    """A table of one task's records: rows by parameters, and a column per measure or per value of ``columns``."""

    name: SpecName
    title: str
    task: str
    where: dict[str, Any] = {}  # parameters and their values; of a list, any
    rows: list[str]
    columns: str | None = None
    values: Annotated[list[str], Field(min_length=1)]
    floor: str | None = None  # a measure printed as a row of its own under each group of rows
    best: bool = False  # a cell names the best entry by the measure, and those that its interval does not tell apart
    note: str = ""


class RankingColumn(Strict):
    """One measure of a task's records, one number per row of a ranking."""

    title: str
    task: str
    where: dict[str, Any] = {}
    measure: str
    floor: str | None = None  # a measure of the same records: what exact draws reach, a row at the end


class RankingSpec(Strict):
    """The entries of one family, ranked by the first column."""

    name: SpecName
    title: str
    equal_over: str | None = None  # a parameter that must not matter: one row per entry, and a line that says so
    column: Annotated[list[RankingColumn], Field(min_length=1)]
    note: str = ""

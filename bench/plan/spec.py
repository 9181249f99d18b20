"""What a suite shows of its records as tables."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from bench.plan.plot import SpecName
from bench.toml import Strict


class TableSpec(Strict):
    """Records of one task as rows; ``columns`` spreads one measure over a parameter's values."""

    name: SpecName
    title: str
    task: str
    where: dict[str, Any] = {}
    rows: list[str]
    columns: str | None = None
    values: Annotated[list[str], Field(min_length=1)]
    floor: str | None = None  # a measure printed as a row of its own under each group of rows
    best: bool = False  # a cell names the best entry by the measure, and those that its interval does not tell apart
    note: str = ""

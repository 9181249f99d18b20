"""Panels of a picture: which record each shows, in a grid of at most four side by side, with labels at its edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.plot import Plot
from bench.records.record import Record
from bench.report.select import lookup, show

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

ACROSS = 4  # panels side by side


def assign_panels(spec: Plot, records: list[Record]) -> dict[str, Record]:
    """The record of each panel, by its title; panels of one series stand side by side.

    Of several seeds the first is shown. Raises UsageError where two records claim one panel that differ in more.
    """
    panels: dict[str, Record] = {}
    series = list(dict.fromkeys(show(lookup(record, spec.series)) if spec.series else "" for record in records))
    for record in sorted(records, key=lambda r: series.index(show(lookup(r, spec.series)) if spec.series else "")):
        parts = [show(lookup(record, name)) for name in (spec.series, spec.facet) if name]
        title = " ".join(part for part in parts if part != "-")
        if panels.setdefault(title, record).cell.parameters != record.cell.parameters:
            raise UsageError(f"two records for the panel {title!r}: narrow `where`, or name what differs as the facet")
    return panels


def make_grid(
    panels: int, size: tuple[float, float], margin: tuple[float, float], **options: Any
) -> tuple[Figure, Any]:
    """A figure with a grid of so many panels of a size in inches, the places that are left over hidden."""
    from matplotlib import pyplot

    rows = math.ceil(panels / ACROSS)
    columns = math.ceil(panels / rows)
    figure, grid = pyplot.subplots(
        rows, columns, squeeze=False, layout="constrained",
        figsize=(max(size[0] * columns + margin[0], 5.5), size[1] * rows + margin[1]), **options,
    )  # fmt: skip
    for axes in grid.flat[panels:]:
        axes.set_visible(False)
    return figure, grid


def label_edges(grid: np.ndarray, panels: int, xlabel: str, ylabel: str) -> None:
    """Label the lowest panel of each column and the first of each row."""
    columns = grid.shape[1]
    for column in range(columns):
        lowest = grid[(panels - 1 - column) // columns][column]
        lowest.set_xlabel(xlabel)
        lowest.tick_params(labelbottom=True)
    for row in grid:
        row[0].set_ylabel(ylabel)


def require_array(arrays: dict[str, Any], name: str, record: Record) -> Any:
    """The array that ``@name`` names; raises UsageError where the record keeps none."""
    if name[1:] not in arrays:
        raise UsageError(f"{record.cell.entry} keeps no array {name!r}; it has {', '.join(arrays) or 'none'}")
    return arrays[name[1:]]

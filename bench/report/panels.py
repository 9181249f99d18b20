"""The frame of plots with a panel per record: which record each panel shows, and a grid of at most four per row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.plot import Plot
from bench.records.record import Record
from bench.report.captions import join
from bench.report.select import lookup, show

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

ACROSS = 4  # panels side by side


def assign_panels(spec: Plot, records: list[Record]) -> dict[str, Record]:
    """The record that each panel shows, by the panel's title, which names series and facet; sorted by series.

    Of records that differ in their seed alone, the first is shown. Raises UsageError where two records of one panel
    have other parameters.
    """
    panels: dict[str, Record] = {}
    series = list(dict.fromkeys(show(lookup(record, spec.series)) if spec.series else "" for record in records))
    for record in sorted(records, key=lambda r: series.index(show(lookup(r, spec.series)) if spec.series else "")):
        parts = [show(lookup(record, name)) for name in (spec.series, spec.facet) if name]
        title = " ".join(part for part in parts if part != "-")
        if panels.setdefault(title, record).cell.parameters != record.cell.parameters:
            raise UsageError(f"two records for the panel {title!r}: narrow `where`, or name what differs as the facet")
    return panels


def merge_panels(arrays: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The panels whose arrays differ, by title, and a note on each that equals one of them and is not drawn.

    Arrays are equal up to the rounding of float32.
    """
    import numpy as np

    shown: dict[str, list[str]] = {}
    for title, own in arrays.items():
        twin = next(
            (
                name for name in shown
                if set(arrays[name]) == set(own)
                and all(
                    arrays[name][key].shape == each.shape and np.allclose(arrays[name][key], each, 1e-6, 1e-9)
                    for key, each in own.items()
                )
            ),
            title,
        )  # fmt: skip
        shown.setdefault(twin, []).append(title)
    notes = [f"Not drawn, since equal to {name}: {join(twins[1:], 6)}." for name, twins in shown.items() if twins[1:]]
    return {name: arrays[name] for name in shown}, notes


def make_grid(
    panels: int, size: tuple[float, float], margin: tuple[float, float], **options: Any
) -> tuple[Figure, Any]:
    """Make a figure with a grid of ``panels`` axes, at most four per row; unused axes are hidden.

    ``size`` is (width, height) of a panel, ``margin`` what the figure has around them, in inches.
    """
    from matplotlib import pyplot

    rows = math.ceil(panels / ACROSS)
    columns = math.ceil(panels / rows)
    figure, grid = pyplot.subplots(
        rows, columns, squeeze=False, layout="constrained",
        figsize=(max(size[0] * columns + margin[0], 7.0), size[1] * rows + margin[1]), **options,
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.06, hspace=0.03)
    for axes in grid.flat[panels:]:
        axes.set_visible(False)
    return figure, grid


def label_edges(grid: np.ndarray, panels: int, xlabel: str, ylabel: str) -> None:
    """Label the x axis of the lowest panel of each column and the y axis of the first panel of each row."""
    columns = grid.shape[1]
    for column in range(columns):
        lowest = grid[(panels - 1 - column) // columns][column]
        lowest.set_xlabel(xlabel)
        lowest.tick_params(labelbottom=True)
    for row in grid:
        row[0].set_ylabel(ylabel)


def require_array(arrays: dict[str, Any], name: str, record: Record) -> Any:
    """The array of a record that ``name``, written ``@NAME``, refers to; raises UsageError where it has none.

    Of an entry of a contest it is ``NAME.ENTRY``, where there is one.
    """
    own = next((key for key in (f"{name[1:]}.{record.cell.entry}", name[1:]) if key in arrays), None)
    if own is None:
        raise UsageError(f"{record.cell.entry} keeps no array {name!r}; it has {', '.join(arrays) or 'none'}")
    return arrays[own]

"""The frame of line and bar plots: panels side by side, one per facet, a colour per series, and one legend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.plan.plot import BarPlot, LinePlot
from bench.records.record import Record
from bench.report.select import label, lookup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can distinguish too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")


def draw_facets(
    spec: LinePlot | BarPlot, records: list[Record], draw_panel: Callable[[Any, list[Record], list[str]], None]
) -> Figure:
    """Make a figure with a panel per facet, each drawn by ``draw_panel(axes, records, series)``, and one legend.

    ``records`` are those of the facet, ``series`` the names of all series, whose order gives their colours.
    """
    from matplotlib import pyplot

    facets = list(dict.fromkeys(_facet(spec, record) for record in records))
    series = list(dict.fromkeys(name_series(spec, record) for record in records))
    figure, grid = pyplot.subplots(
        1, len(facets), figsize=(max(4.2 * len(facets), 6.4), 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, facet in zip(grid[0], facets, strict=True):
        draw_panel(axes, [record for record in records if _facet(spec, record) == facet], series)
        axes.set_title(f"{spec.facet} {facet}" if spec.facet else "", fontsize=10)
        axes.set_xlabel(spec.xlabel or spec.x.lstrip("@"))
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if "y" in spec.log:
            axes.set_yscale("log")
    grid[0][0].set_ylabel(spec.ylabel or spec.y.lstrip("@"))
    handles, labels = grid[0][0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def name_series(spec: LinePlot | BarPlot, record: Record) -> str:
    """The series that a record belongs to, as the legend names it."""
    return label(lookup(record, spec.series)) if spec.series else ""


def _facet(spec: LinePlot | BarPlot, record: Record) -> str:
    return label(lookup(record, spec.facet)) if spec.facet else ""

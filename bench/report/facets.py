"""The frame of line and bar plots: panels side by side, one per facet, a colour per series, and one legend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.plan.plot import BarPlot, LinePlot
from bench.records.record import Record
from bench.report.select import label, lookup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can distinguish too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
WIDTH, HEIGHT = 4.4, 4.4  # of a panel, in inches
WRAPPED = 42  # characters of a line above a panel


def split_facets(spec: LinePlot | BarPlot, records: list[Record]) -> dict[str, list[Record]]:
    """The records of each panel, by what the panel shows in words; one panel without words where there is no facet."""
    found: dict[str, list[Record]] = {}
    for record in records:
        value = label(lookup(record, spec.facet)) if spec.facet else ""
        words = (spec.facet or "").replace("_", " ")
        found.setdefault(f"no {words}" if value == "-" else f"{words} {value}".strip(), []).append(record)
    return found


def split_series(spec: LinePlot | BarPlot, records: list[Record]) -> dict[str, list[Record]]:
    """The records of each series, by its name in the legend."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(label(lookup(record, spec.series)) if spec.series else "", []).append(record)
    return found


def make_panels(names: Sequence[str], height: float = HEIGHT) -> tuple[Figure, dict[str, Axes]]:
    """Make a figure with a panel per name, side by side; they share the y axis."""
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(names), figsize=(max(WIDTH * len(names), 6.8), height), sharey=True, squeeze=False, layout="constrained"
    )
    for axes in grid[0]:
        axes.grid(True, which="major", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, dict(zip(names, grid[0], strict=True))


def head_panels(panels: dict[str, Axes], says: dict[str, str]) -> str:
    """Write above each panel what it shows and says; returns what is left to say in the title of the figure.

    What the only panel says, and what all say alike, is said there.
    """
    alike = len(set(says.values())) == 1
    for name, axes in panels.items():
        own = [] if alike or not says[name] else textwrap.wrap(says[name], WRAPPED)
        axes.set_title("\n".join([name, *own] if name else own), fontsize=10 if alike else 9)
    return next(iter(says.values())) if alike else ""


def add_legend(figure: Figure, panels: dict[str, Axes], title: str = "") -> None:
    """Put one legend of all panels beside them; none for a single line, which the axes name."""
    found: dict[str, Any] = {}
    for axes in panels.values():
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if len(found) > 1:
        figure.legend(
            found.values(), [textwrap.fill(name, 26) for name in found], loc="outside right center", frameon=False,
            fontsize=9, title=title or None,
        )  # fmt: skip

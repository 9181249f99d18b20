"""Bar plots: one bar per value of a parameter and series, with the measure's interval as its error bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plan.plot import BarPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.captions import entitle, find_direction, label_axis, name_quantity
from bench.report.conclusions import rank_bars
from bench.report.facets import COLOURS, add_legend, head_panels, make_panels, split_facets, split_series
from bench.report.front import Figure as Value
from bench.report.front import average
from bench.report.select import label, lookup
from bench.report.ticks import NAMES, settle_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THICK = 0.3  # of a bar with the space about it, in inches


def draw(spec: BarPlot, store: Store, records: list[Record]) -> Figure:
    """Draw a bar plot of ``records`` as a figure with one panel per facet; the bars lie, so that their names are read.

    Bars of several seeds are means.
    """
    facets = split_facets(spec, records)
    series = list(split_series(spec, records))
    names = list(dict.fromkeys(label(lookup(record, spec.x)) for record in records))
    figure, panels = make_panels(list(facets), height=THICK * len(names) * len(series) + 2.0)
    says = {}
    for facet, axes in panels.items():
        bars = {
            (name, label(value)): figure_of
            for name, own in split_series(spec, facets[facet]).items()
            for value in dict.fromkeys(lookup(record, spec.x) for record in own)
            if (figure_of := _figure(spec, [record for record in own if lookup(record, spec.x) == value]))
        }
        _bars(axes, bars, series, names)
        axes.set_xlabel(label_axis(spec.ylabel, spec.y, records))
        if "y" in spec.log:
            axes.set_xscale("log")
        said = {" ".join(filter(None, key)): value for key, value in bars.items()}
        says[facet] = rank_bars(said, name_quantity(spec.ylabel, spec.y), find_direction(records, spec.y, None))
    first = next(iter(panels.values()))
    first.set_ylabel(label_axis(spec.xlabel, spec.x, []))
    first.invert_yaxis()  # the first bar is the uppermost
    add_legend(figure, panels)
    entitle(figure, spec.title, head_panels(panels, says))
    settle_ticks(figure)
    return figure


def _figure(spec: BarPlot, records: list[Record]) -> Value | None:
    found = [m for record in records if (m := record.measure(spec.y))]
    if not found:
        return None
    return Value(found[0].value, found[0].interval) if len(found) == 1 else average([m.value for m in found])


def _bars(axes: Axes, bars: dict[tuple[str, str], Value], series: list[str], names: list[str]) -> None:
    thick = 0.8 / len(series)
    for index, name in enumerate(series):
        own = {value: figure for (of, value), figure in bars.items() if of == name}
        where = [names.index(value) + (index - (len(series) - 1) / 2) * thick for value in own]
        reach = [[f.value - f.low for f in own.values()], [f.high - f.value for f in own.values()]]
        axes.barh(
            where, [f.value for f in own.values()], thick, color=COLOURS[index % len(COLOURS)], label=name or None,
            xerr=reach, capsize=3,
        )  # fmt: skip
    axes.yaxis.set_gid(NAMES)
    axes.set_yticks(range(len(names)), names)

"""Bar plots: one bar per value of a parameter and series, with the measure's interval as its error bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plan.plot import BarPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.facets import COLOURS, draw_facets, name_series
from bench.report.select import label, lookup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(spec: BarPlot, store: Store, records: list[Record]) -> Figure:
    """Draw a bar plot of ``records`` as a figure with one panel per facet."""
    return draw_facets(spec, records, lambda axes, here, series: _bars(axes, spec, here, series))


def _bars(axes: Axes, spec: BarPlot, records: list[Record], series: list[str]) -> None:
    labels = list(dict.fromkeys(label(lookup(r, spec.x)) for r in records))
    width = 0.8 / len(series)
    for index, name in enumerate(series):
        own = [
            (label(lookup(r, spec.x)), m) for r in records if name_series(spec, r) == name and (m := r.measure(spec.y))
        ]
        where = [labels.index(name) + (index - (len(series) - 1) / 2) * width for name, _ in own]
        ranges = [(m.value, m.interval or (m.value, m.value)) for _, m in own]
        errors = [[value - low for value, (low, _) in ranges], [high - value for value, (_, high) in ranges]]
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(where, [m.value for _, m in own], width, color=colour, label=name or None, yerr=errors, capsize=3)
    axes.set_xticks(range(len(labels)), labels, rotation=20)

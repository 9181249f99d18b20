"""Line plots: one curve per series, one panel per facet, with floors, guides of slope and the Pareto front."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.plan.plot import LinePlot, Says
from bench.records.record import Measurement, Record
from bench.records.store import Store
from bench.report.captions import entitle, find_direction, find_measure, label_axis, name_quantity
from bench.report.conclusions import Panel, common, conclude
from bench.report.facets import COLOURS, add_legend, head_panels, make_panels, split_facets, split_series
from bench.report.front import is_on_front, trace_front
from bench.report.points import Curves, Point, are_equal, merge_equal, read_curve
from bench.report.ticks import settle_ticks
from metrics.floors import Floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
MARKED = 30  # the most points of a curve that has markers
BARRED = 12  # the most points of a curve that has bars for intervals


def draw(spec: LinePlot, store: Store, records: list[Record]) -> Figure:
    """Draw a line plot of ``records`` as a figure with one panel per facet, whose title says its conclusion.

    Equal series are one line, named ``a = b``; a panel that equals another is not drawn, which the title says. Raises
    UsageError where arrays are missing or differ in length, or a series has two records of a seed at one x.
    """
    facets = split_facets(spec, records)
    read = [
        {name: read_curve(spec, store, own) for name, own in split_series(spec, here).items()}
        for here in facets.values()
    ]
    shown, notes = _drop_equal(dict(zip(facets, merge_equal(read), strict=True)))
    series = list(dict.fromkeys(name for curves in shown.values() for name in curves))
    figure, panels = make_panels(list(shown))
    says: dict[str, str] = {}
    for facet, axes in panels.items():
        floors = [m for r in facets[facet] if spec.floor and (m := r.measure(spec.floor))]
        for index, name in enumerate(series):
            if shown[facet].get(name):
                _curve(axes, shown[facet][name], name, index, len(series), spec.pareto)
        _floor(axes, floors, spec.floor_label)
        for order in spec.slopes:
            _slope(axes, shown[facet], order)
        if spec.pareto:
            _pareto(axes, shown[facet], find_direction(records, spec.y, spec.better) == "higher")
        if "x" in spec.log:
            axes.set_xscale("log")
        if "y" in spec.log:
            axes.set_yscale("log")
        axes.set_xlabel(label_axis(spec.xlabel, spec.x, records, None if spec.pareto else "target"))
        said = conclude(_panel(spec, shown[facet], records, floors), spec.says or _default(spec))
        equal = [name for name in merge_equal([shown[facet]])[0] if name not in shown[facet]]  # in this panel alone
        says[facet] = "; ".join(filter(None, [said, *equal]))
    next(iter(panels.values())).set_ylabel(label_axis(spec.ylabel, spec.y, records, spec.better))
    add_legend(figure, panels)
    entitle(figure, spec.title, head_panels(panels, says), notes)
    xs = [p.x.value for curves in shown.values() for own in curves.values() for p in own]
    settle_ticks(figure, *_propose_ticks(xs))
    return figure


def _panel(spec: LinePlot, curves: Curves, records: list[Record], floors: list[Measurement]) -> Panel:
    x = find_measure(records, spec.x)
    return Panel(
        curves, name_quantity(spec.xlabel, spec.x), name_quantity(spec.ylabel, spec.y), x.unit if x else "",
        find_direction(records, spec.y, spec.better),
        [Floor(m.value, *(m.interval or (m.value, m.value))) for m in floors],
    )  # fmt: skip


def _default(spec: LinePlot) -> Says:
    return "front" if spec.pareto else "floor" if spec.floor else "ends"


def _drop_equal(panels: dict[str, Curves]) -> tuple[dict[str, Curves], list[str]]:
    """The panels without those that equal an earlier one, and a note on each of these."""
    shown: dict[str, Curves] = {}
    notes = []
    for facet, curves in panels.items():
        twin = next(
            (
                name for name, other in shown.items()
                if set(other) == set(curves) and all(are_equal(other[key], curves[key]) for key in curves)
            ),
            None,
        )  # fmt: skip
        if twin is None:
            shown[facet] = curves
        else:
            notes.append(f"Not drawn: {facet}, which equals {twin}.")
    return shown, notes


def _curve(axes: Axes, points: list[Point], name: str, index: int, series: int, pareto: bool) -> None:
    style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)]}
    style["linestyle"] = "-" if index < len(COLOURS) else "--"
    if len(points) <= MARKED:  # later markers are smaller and later lines thinner, so that coinciding methods all show
        style |= {"linewidth": 1.6, "marker": MARKERS[index % len(MARKERS)], "markersize": 9 - 5 * index / series}
    else:
        style["linewidth"] = 3.2 - 2 * index / series
    if pareto:
        style |= {"linewidth": 0.8, "alpha": 0.8}
    x, y = [p.x.value for p in points], [p.y.value for p in points]
    axes.plot(x, y, label=name, **style)
    if any(p.low < p.high for p in points) and not pareto:
        axes.fill_between(x, [p.low for p in points], [p.high for p in points], color=style["color"], alpha=0.15, lw=0)
    elif len(points) <= BARRED and any(p.y.interval or (pareto and p.x.interval) for p in points):
        _bars(axes, points, style["color"], pareto)


def _bars(axes: Axes, points: list[Point], colour: str, pareto: bool) -> None:
    """Draw the intervals of y, and in a Pareto picture those of x, as bars."""

    def reach(figures: list[Any]) -> list[list[float]]:
        return [[max(f.value - f.low, 0.0) for f in figures], [max(f.high - f.value, 0.0) for f in figures]]

    axes.errorbar(
        [p.x.value for p in points], [p.y.value for p in points], yerr=reach([p.y for p in points]),
        xerr=reach([p.x for p in points]) if pareto else None, fmt="none", ecolor=colour, elinewidth=1.2, capsize=2.5,
        alpha=0.8,
    )  # fmt: skip


def _floor(axes: Axes, floors: list[Measurement], name: str) -> None:
    if not floors:
        return
    axes.axhline(fmean(m.value for m in floors), color="grey", linestyle="--", label=name)
    ranges = [m.interval for m in floors if m.interval]
    if ranges:
        axes.axhspan(min(low for low, _ in ranges), max(high for _, high in ranges), color="grey", alpha=0.15)


def _pareto(axes: Axes, curves: Curves, higher: bool) -> None:
    """Ring the points on the front, and draw the steps beyond which a point's whole interval is dominated."""
    points = [(p.x, p.y) for own in curves.values() for p in own]
    if not points:
        return
    front = [point for point in points if is_on_front(point, points, higher)]
    steps = trace_front(points, higher)
    last = max(cost.value for cost, _ in points)
    x, y = zip(*steps, (last, steps[-1][1]), strict=True)
    axes.step(
        x, y, where="post", color="black", linewidth=1, linestyle=":", zorder=0,
        label=f"a bar wholly {'below' if higher else 'above'} is beaten",
    )  # fmt: skip
    axes.plot(
        [cost.value for cost, _ in front], [quality.value for _, quality in front], "o", markersize=12,
        markerfacecolor="none", markeredgecolor="black", linestyle="none", label="Pareto front, with its noise",
    )  # fmt: skip


def _slope(axes: Axes, curves: Curves, order: int) -> None:
    """Draw a dotted guide of slope ``-order`` that begins at the highest point of the smallest x."""
    points = [p for own in curves.values() for p in own]
    if not points:
        return
    xs = sorted({p.x.value for p in points})
    start = max(p.y.value for p in points if p.x.value == xs[0])
    low = min(p.y.value for p in points if p.y.value > 0)
    guide = [(x, y) for x in xs if (y := start * (xs[0] / x) ** order) >= low / 3]  # it need not widen the axes
    axes.plot(*zip(*guide, strict=True), color="grey", linestyle=":", linewidth=order, label=f"slope of order {order}")


def _propose_ticks(xs: list[Any]) -> list[list[float]]:
    """The values of x that most curves have, with the ends where there is room for them."""
    shared, ends = common(xs), [x for x in xs if isinstance(x, (int, float))]
    return [[*shared, min(ends), max(ends)], shared] if ends else []

"""Line plots: one curve per series, one panel per facet, with floors, guides of slope and the Pareto front."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.plot import LinePlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.facets import COLOURS, draw_facets, name_series
from bench.report.panels import require_array
from bench.report.select import label, lookup, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"


def draw(spec: LinePlot, store: Store, records: list[Record]) -> Figure:
    """Draw a line plot of ``records`` as a figure with one panel per facet.

    Raises UsageError where arrays are missing or differ in length, or a series has two records of a seed at one x.
    """

    def draw_panel(axes: Axes, here: list[Record], series: list[str]) -> None:
        _lines(axes, spec, store, here, series)
        if "x" in spec.log:
            axes.set_xscale("log")
        _plain_ticks(axes, sorted({x for x, _ in _points(spec, store, here)}), "x" in spec.log)

    return draw_facets(spec, records, draw_panel)


def _points(spec: LinePlot, store: Store, records: list[Record]) -> list[tuple[Any, Any]]:
    """The points (x, y) of one series, sorted; a name that begins with @ is an array stored beside the record.

    Raises UsageError where an array is missing or not one-dimensional, and where x and y differ in length.
    """
    points: list[tuple[Any, Any]] = []
    for record in records:
        arrays = store.arrays(record) if "@" in spec.x + spec.y else {}
        y = _values(spec.y, record, arrays)
        x = list(range(1, len(y) + 1)) if spec.x == "index" else _values(spec.x, record, arrays)
        if len(x) != len(y):
            raise UsageError(f"{record.cell.entry}: {spec.x!r} has {len(x)} values and {spec.y!r} has {len(y)}")
        points += [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    try:
        return sorted(points)
    except TypeError:
        raise UsageError(f"{spec.x!r} has numbers and words; one of them is accepted") from None


def _values(name: str, record: Record, arrays: dict[str, Any]) -> list[Any]:
    if not name.startswith("@"):
        return [lookup(record, name)]
    array = require_array(arrays, name, record)
    if array.ndim != 1:
        raise UsageError(f"{record.cell.entry}: {name!r} has the shape {tuple(array.shape)}; (n,) is accepted")
    values: list[Any] = array.tolist()
    return values


def _lines(axes: Axes, spec: LinePlot, store: Store, records: list[Record], series: list[str]) -> None:
    for index, name in enumerate(series):
        own = [r for r in records if name_series(spec, r) == name]
        points = _points(spec, store, own)
        _require_one_of_a_seed(spec, own)
        style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "label": name, "linewidth": 1.6}
        if len(points) <= 30:  # later markers are smaller, so that coinciding methods all show
            style |= {"marker": MARKERS[index % len(MARKERS)], "markersize": 9 - 5 * index / len(series)}
        if points:
            drawn = _over_seeds(points)
            axes.plot([x for x, _, _, _ in drawn], [mean for _, mean, _, _ in drawn], **style)
            if len(drawn) < len(points):
                x, _, low, high = zip(*drawn, strict=True)
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    floors = [m for r in records if spec.floor and (m := r.measure(spec.floor))]
    if floors:
        axes.axhline(fmean(m.value for m in floors), color="grey", linestyle="--", label="floor (exact draws)")
        ranges = [m.interval for m in floors if m.interval]
        if ranges:
            axes.axhspan(min(low for low, _ in ranges), max(high for _, high in ranges), color="grey", alpha=0.15)
    for order in spec.slopes:
        _slope(axes, spec, store, records, order)
    if spec.pareto:
        _pareto(axes, spec, store, records, series)


def _require_one_of_a_seed(spec: LinePlot, records: list[Record]) -> None:
    """Raise UsageError where one seed has two values at one x of a series: only seeds are averaged over."""
    seen: dict[tuple[str, int], Record] = {}
    for record in records:
        if not spec.y.startswith("@") and lookup(record, spec.y) is None:
            continue
        x = "" if spec.x == "index" or spec.x.startswith("@") else label(lookup(record, spec.x))
        if seen.setdefault((x, record.cell.seed), record) is not record:
            raise UsageError(
                f"{record.cell.entry} is there twice: narrow `where`, or name what differs as series or facet"
            )


def _over_seeds(points: list[tuple[Any, Any]]) -> list[tuple[Any, float, float, float]]:
    """Per x, the mean, minimum and maximum of y over the seeds, as (x, mean, minimum, maximum)."""
    at: dict[Any, list[float]] = {}
    for x, y in points:
        at.setdefault(x, []).append(y)
    return [(x, fmean(ys), min(ys), max(ys)) for x, ys in at.items()]


def _pareto(axes: Axes, spec: LinePlot, store: Store, records: list[Record], series: list[str]) -> None:
    """Draw the Pareto front of all points, averaged over seeds, as steps: the best y at any smaller or equal x."""
    higher = any((m := record.measure(spec.y)) and m.direction == "higher" for record in records)
    drawn = [_over_seeds(_points(spec, store, [r for r in records if name_series(spec, r) == name])) for name in series]
    points = sorted((x, mean) for one in drawn for x, mean, _, _ in one)
    if points:
        front = front_of(points, higher)
        x, y = zip(*front, (points[-1][0], front[-1][1]), strict=True)
        axes.step(x, y, where="post", color="black", linewidth=1, linestyle="--", zorder=0, label="Pareto front")


def front_of(points: list[tuple[float, float]], higher: bool = False) -> list[tuple[float, float]]:
    """The Pareto front of points (x, y) sorted by x: those whose y is better than that of every earlier point.

    Better is smaller, or with ``higher`` larger.
    """
    front: list[tuple[float, float]] = []
    for x, y in points:
        if not front or (y > front[-1][1] if higher else y < front[-1][1]):
            front = [*(front[:-1] if front and front[-1][0] == x else front), (x, y)]
    return front


def _slope(axes: Axes, spec: LinePlot, store: Store, records: list[Record], order: int) -> None:
    """Draw a dotted guide of slope ``-order`` that begins at the highest point of the smallest x."""
    points = _points(spec, store, records)
    xs = sorted({x for x, _ in points})
    start = max(y for x, y in points if x == xs[0])
    guide = [start * (xs[0] / x) ** order for x in xs]
    axes.plot(xs, guide, color="grey", linestyle=":", linewidth=order, label=f"order {order}")


def _plain_ticks(axes: Axes, values: list[float], log: bool) -> None:
    """Put the ticks at the measured values if there are few; of two that would overlap, the greater gets one."""
    kept: list[float] = []
    for value in reversed(values):
        near = kept and (value > kept[-1] / 1.15 if log else kept[-1] - value < 0.04 * (values[-1] - values[0]))
        kept += [] if near else [value]
    if len(kept) <= 8:
        axes.set_xticks(kept, [show(value) for value in kept])
        axes.minorticks_off()

"""Records as pictures, as the suite lays them out: curves or bars, a panel a facet; maps; boxes; or trajectories."""

from __future__ import annotations

import io
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.spec import PlotSpec
from bench.records.store import Record, Store
from bench.report import boxes, maps, trajectories
from bench.report.tables import label, lookup, matching, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = "osD^vP*X"


def draw(spec: PlotSpec, store: Store, records: list[Record]) -> bytes | None:
    """The picture of the spec as PNG bytes, None where no record matches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = [record for record in matching(records, spec.task, spec.where) if record.status == "ok"]
    if not chosen:
        return None
    drawers = {"heat": maps.draw, "field": maps.draw, "boxes": boxes.draw, "trajectories": trajectories.draw}
    try:
        figure = drawers.get(spec.kind, _curves)(spec, store, chosen)
    except BaseException:
        pyplot.close("all")  # the half of it that was drawn
        raise
    if figure is None:
        return None
    figure.suptitle(spec.title, fontsize=11)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130, metadata={"Software": None})
    pyplot.close(figure)
    return target.getvalue()


def _curves(spec: PlotSpec, store: Store, chosen: list[Record]) -> Figure:
    from matplotlib import pyplot

    facets = list(dict.fromkeys(label(lookup(r, spec.facet)) if spec.facet else "" for r in chosen))
    series = list(dict.fromkeys(_name(spec, r) for r in chosen))
    figure, grid = pyplot.subplots(
        1, len(facets), figsize=(max(4.2 * len(facets), 6.4), 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, facet in zip(grid[0], facets, strict=True):
        here = [r for r in chosen if not spec.facet or label(lookup(r, spec.facet)) == facet]
        if spec.kind == "bar":
            _bars(axes, spec, here, series)
        else:
            _lines(axes, spec, store, here, series)
        axes.set_title(f"{spec.facet} {facet}" if spec.facet else "", fontsize=10)
        axes.set_xlabel(spec.xlabel or spec.x.lstrip("@"))
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if "x" in spec.log:
            axes.set_xscale("log")
        if spec.kind == "line":
            _plain_ticks(axes, sorted({x for x, _ in _points(spec, store, here)}), "x" in spec.log)
        if "y" in spec.log:
            axes.set_yscale("log")
    grid[0][0].set_ylabel(spec.ylabel or spec.y.lstrip("@"))
    handles, labels = grid[0][0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _name(spec: PlotSpec, record: Record) -> str:
    return label(lookup(record, spec.series)) if spec.series else ""


def _points(spec: PlotSpec, store: Store, records: list[Record]) -> list[tuple[Any, Any]]:
    """Points (x, y) of one series; a name with @ is an array kept beside the record.

    Raises UsageError where an array is not there, is no list of numbers, or has another length than its partner.
    """
    points: list[tuple[Any, Any]] = []
    for record in records:
        arrays = store.arrays(record) if "@" in spec.x + spec.y else {}
        y = _values(spec.y, record, arrays)
        x = list(range(1, len(y) + 1)) if spec.x == "index" else _values(spec.x, record, arrays)
        if len(x) != len(y):
            raise UsageError(f"{record.entry}: {spec.x!r} has {len(x)} values and {spec.y!r} has {len(y)}")
        points += [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    try:
        return sorted(points)
    except TypeError:
        raise UsageError(f"{spec.x!r} has numbers and words; one of them is accepted") from None


def _values(name: str, record: Record, arrays: dict[str, Any]) -> list[Any]:
    if not name.startswith("@"):
        return [lookup(record, name)]
    if name[1:] not in arrays:
        raise UsageError(f"{record.entry} keeps no array {name!r}; it has {', '.join(arrays) or 'none'}")
    if arrays[name[1:]].ndim != 1:
        raise UsageError(f"{record.entry}: {name!r} has the shape {tuple(arrays[name[1:]].shape)}; (n,) is accepted")
    return arrays[name[1:]].tolist()


def _lines(axes: Axes, spec: PlotSpec, store: Store, records: list[Record], series: list[str]) -> None:
    for index, name in enumerate(series):
        own = [r for r in records if _name(spec, r) == name]
        points = _points(spec, store, own)
        _require_one_of_a_seed(spec, own)
        style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "label": name, "linewidth": 1.6}
        if len(points) <= 30:  # larger markers lie below smaller ones: methods that coincide are seen to
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


def _require_one_of_a_seed(spec: PlotSpec, records: list[Record]) -> None:
    """Raise UsageError where one seed has two values at one x of a series: only seeds are averaged over."""
    seen: dict[tuple[str, int], Record] = {}
    for record in records:
        if not spec.y.startswith("@") and lookup(record, spec.y) is None:
            continue
        x = "" if spec.x == "index" or spec.x.startswith("@") else label(lookup(record, spec.x))
        if seen.setdefault((x, record.seed), record) is not record:
            raise UsageError(f"{record.entry} is there twice: narrow `where`, or name what differs as series or facet")


def _over_seeds(points: list[tuple[Any, Any]]) -> list[tuple[Any, float, float, float]]:
    """At each x, the mean of what seeds gave there, and the least and greatest."""
    at: dict[Any, list[float]] = {}
    for x, y in points:
        at.setdefault(x, []).append(y)
    return [(x, fmean(ys), min(ys), max(ys)) for x, ys in at.items()]


def _pareto(axes: Axes, spec: PlotSpec, store: Store, records: list[Record], series: list[str]) -> None:
    """The front of all points as a step line: what is the best y within each x, averaged over seeds as the curves."""
    higher = any((m := record.measure(spec.y)) and m.direction == "higher" for record in records)
    drawn = [_over_seeds(_points(spec, store, [r for r in records if _name(spec, r) == name])) for name in series]
    points = sorted((x, mean) for one in drawn for x, mean, _, _ in one)
    if points:
        front = front_of(points, higher)
        x, y = zip(*front, (points[-1][0], front[-1][1]), strict=True)
        axes.step(x, y, where="post", color="black", linewidth=1, linestyle="--", zorder=0, label="Pareto front")


def front_of(points: list[tuple[float, float]], higher: bool = False) -> list[tuple[float, float]]:
    """Of points sorted by x, those with a better y than every one before: the less, or the ``higher``."""
    front: list[tuple[float, float]] = []
    for x, y in points:
        if not front or (y > front[-1][1] if higher else y < front[-1][1]):
            front = [*(front[:-1] if front and front[-1][0] == x else front), (x, y)]
    return front


def _slope(axes: Axes, spec: PlotSpec, store: Store, records: list[Record], order: int) -> None:
    """A dotted guide of slope -order from the picture's first and highest point."""
    points = _points(spec, store, records)
    xs = sorted({x for x, _ in points})
    start = max(y for x, y in points if x == xs[0])
    guide = [start * (xs[0] / x) ** order for x in xs]
    axes.plot(xs, guide, color="grey", linestyle=":", linewidth=order, label=f"order {order}")


def _bars(axes: Axes, spec: PlotSpec, records: list[Record], series: list[str]) -> None:
    labels = list(dict.fromkeys(label(lookup(r, spec.x)) for r in records))
    width = 0.8 / len(series)
    for index, name in enumerate(series):
        own = [(label(lookup(r, spec.x)), m) for r in records if _name(spec, r) == name and (m := r.measure(spec.y))]
        where = [labels.index(name) + (index - (len(series) - 1) / 2) * width for name, _ in own]
        ranges = [(m.value, m.interval or (m.value, m.value)) for _, m in own]
        errors = [[value - low for value, (low, _) in ranges], [high - value for value, (_, high) in ranges]]
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(where, [m.value for _, m in own], width, color=colour, label=name or None, yerr=errors, capsize=3)
    axes.set_xticks(range(len(labels)), labels, rotation=20)


def _plain_ticks(axes: Axes, values: list[float], log: bool) -> None:
    """Ticks at the values that were measured, where they are few; of two that would overlap, the greater."""
    kept: list[float] = []
    for value in reversed(values):
        near = kept and (value > kept[-1] / 1.15 if log else kept[-1] - value < 0.04 * (values[-1] - values[0]))
        kept += [] if near else [value]
    if len(kept) <= 8:
        axes.set_xticks(kept, [show(value) for value in kept])
        axes.minorticks_off()

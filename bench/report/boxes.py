"""Plots of counter-examples to claims about box losses: boxes drawn to scale, one panel per record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.plot import BoxesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.captions import entitle, join
from bench.report.panels import assign_panels, label_edges, make_grid, merge_panels
from bench.report.select import show
from bench.report.ticks import settle_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # from Okabe and Ito's palette; the last box is black
SMALL = 0.06  # of what a panel shows: smaller boxes are hard to see


def draw(spec: BoxesPlot, store: Store, records: list[Record]) -> Figure | None:
    """Draw the boxes of each record that has them in a panel, titled with both sides of the inequality that they break.

    Panels that equal another are not drawn, which the title says. A box too small to be seen has a diamond about it.
    Returns None where no record has boxes. Raises UsageError where boxes are not (k, 4) or numbers not (n,), and where
    the plot does not name k boxes.
    """
    from matplotlib.patches import Rectangle

    panels = {title: store.arrays(record) for title, record in assign_panels(spec, records).items()}
    names = (spec.x[1:], spec.y[1:])
    broken = {title: arrays for title, arrays in panels.items() if names[0] in arrays}
    if not broken:
        return None
    kept, notes = merge_panels({title: _require(spec, arrays) for title, arrays in broken.items()})
    figure, grid = make_grid(len(kept), (3.2, 3.0), (0.2, 1.3))
    handles: list[Any] = []
    for axes, (title, arrays) in zip(grid.flat, kept.items(), strict=False):
        boxes, sides = (arrays[name].tolist() for name in names)
        colours = [*COLOURS[: len(boxes) - 1], "black"]
        handles = [
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **_style(colour, i, len(boxes))))
            for i, ((x1, y1, x2, y2), colour) in enumerate(zip(boxes, colours, strict=True))
        ]
        axes.autoscale_view()
        axes.margins(0.08)
        axes.set_aspect("equal", adjustable="datalim")
        _mark_small(axes, boxes, colours)
        words = [*spec.sides, *[""] * len(sides)]
        said = " > ".join(f"{name} {show(side)}".strip() for name, side in zip(words, sides, strict=False))
        axes.set_title(f"{title}\n{said}", fontsize=9)
        axes.tick_params(labelsize=8)
    label_edges(grid, len(kept), "x (units of length)", "y (units of length)")
    figure.legend(handles, spec.names, loc="outside lower center", ncols=len(spec.names), frameon=False, fontsize=9)
    entitle(figure, spec.title, _say(list(broken), [title for title in panels if title not in broken]), notes)
    settle_ticks(figure)
    return figure


def _say(broken: list[str], held: list[str]) -> str:
    """For which losses a counter-example was found, and for which not."""
    text = f"A counter-example is found for {join(broken, 9)}"
    return f"{text}; none for {join(held, 9)}" if held else text


def _require(spec: BoxesPlot, arrays: dict[str, Any]) -> dict[str, Any]:
    """The boxes and the numbers of a panel in float64; raises UsageError where they do not fit."""
    boxes, sides = arrays[spec.x[1:]], arrays.get(spec.y[1:])
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UsageError(f"{spec.x} has the shape {tuple(boxes.shape)}; (k, 4) is accepted")
    if len(boxes) != len(spec.names):
        raise UsageError(f"{spec.name}: names has {len(spec.names)} of {len(boxes)} boxes: {spec.names!r}")
    if sides is None or sides.ndim != 1:
        raise UsageError(f"{spec.y}: numbers of the shape (n,) are accepted beside {spec.x}")
    return {spec.x[1:]: boxes.double().numpy(), spec.y[1:]: sides.double().numpy()}


def _mark_small(axes: Axes, boxes: list[list[float]], colours: list[str]) -> None:
    """Put a diamond about each box that is too small to be seen beside the others."""
    corners = list(zip(*boxes, strict=True))
    reach = max(max(corners[2]) - min(corners[0]), max(corners[3]) - min(corners[1]))
    for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
        if max(x2 - x1, y2 - y1) < SMALL * reach:
            axes.plot((x1 + x2) / 2, (y1 + y2) / 2, "D", markersize=10, markerfacecolor="none", markeredgecolor=colour)


def _style(colour: str, index: int, of: int) -> dict[str, Any]:
    """The style of box ``index`` out of ``of``: earlier boxes get wider lines, so that coinciding boxes all show."""
    return {"edgecolor": colour, "linewidth": 1.4 + 1.3 * (of - 1 - index)}

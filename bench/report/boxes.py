"""Plots of counter-examples to claims about box losses: boxes drawn to scale, one panel per record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.plot import BoxesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.panels import assign_panels, make_grid
from bench.report.select import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # from Okabe and Ito's palette; the last box is black


def draw(spec: BoxesPlot, store: Store, records: list[Record]) -> Figure | None:
    """Draw the boxes of each record that has them in a panel, titled with both sides of the inequality that they break.

    Returns None where no record has boxes. Raises UsageError where boxes are not (k, 4) or numbers not (n,), and where
    the plot does not name k boxes.
    """
    from matplotlib.patches import Rectangle

    kept = {title: store.arrays(record) for title, record in assign_panels(spec, records).items()}
    kept = {title: arrays for title, arrays in kept.items() if spec.x[1:] in arrays}
    if not kept:
        return None
    figure, grid = make_grid(len(kept), (3.1, 2.9), (0.0, 0.9))
    handles: list[Any] = []
    for axes, (title, arrays) in zip(grid.flat, kept.items(), strict=False):
        if arrays[spec.x[1:]].ndim != 2 or arrays[spec.x[1:]].shape[1] != 4:
            raise UsageError(f"{spec.x} has the shape {tuple(arrays[spec.x[1:]].shape)}; (k, 4) is accepted")
        boxes = arrays[spec.x[1:]].double().tolist()
        if len(boxes) != len(spec.names):
            raise UsageError(f"{spec.name}: names has {len(spec.names)} of {len(boxes)} boxes: {spec.names!r}")
        colours = [*COLOURS[: len(boxes) - 1], "black"]
        handles = [
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **_style(colour, i, len(boxes))))
            for i, ((x1, y1, x2, y2), colour) in enumerate(zip(boxes, colours, strict=True))
        ]
        axes.autoscale_view()
        axes.margins(0.08)
        axes.set_aspect("equal", adjustable="datalim")
        if spec.y[1:] not in arrays or arrays[spec.y[1:]].ndim != 1:
            raise UsageError(f"{spec.y}: numbers of the shape (n,) are accepted beside {spec.x}")
        sides = arrays[spec.y[1:]].tolist()
        axes.set_title(f"{title}\n" + " > ".join(map(show, sides)), fontsize=9)
        axes.tick_params(labelsize=7)
    figure.legend(handles, spec.names, loc="outside lower center", ncols=len(spec.names), frameon=False, fontsize=9)
    return figure


def _style(colour: str, index: int, of: int) -> dict[str, Any]:
    """The style of box ``index`` out of ``of``: earlier boxes get wider lines, so that coinciding boxes all show."""
    return {"edgecolor": colour, "linewidth": 1.4 + 1.3 * (of - 1 - index)}

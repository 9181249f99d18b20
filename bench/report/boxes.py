"""Boxes kept beside records, drawn to scale, a panel a record: the counter-example to a claim and its two sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.plan.spec import PlotSpec
from bench.records.store import Record, Store
from bench.report.maps import grid_of, panels_of
from bench.report.tables import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # of Okabe and Ito; the last box is black


def draw(spec: PlotSpec, store: Store, records: list[Record]) -> Figure | None:
    """One panel a record that keeps the boxes, ``@x`` (k, 4) as corners, titled with the numbers ``@y``; None without.

    ``zlabel`` names the boxes, separated by commas. Raises UsageError where it does not name as many.
    """
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    kept = {title: store.arrays(record) for title, record in panels_of(spec, records).items()}
    kept = {title: arrays for title, arrays in kept.items() if spec.x[1:] in arrays}
    if not kept:
        return None
    rows, columns = grid_of(len(kept))
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(max(3.1 * columns, 6.4), 2.9 * rows + 0.9), squeeze=False, layout="constrained"
    )
    names, handles = [name.strip() for name in spec.zlabel.split(",")], []
    for axes, (title, arrays) in zip(grid.flat, kept.items(), strict=False):
        if arrays[spec.x[1:]].ndim != 2 or arrays[spec.x[1:]].shape[1] != 4:
            raise UsageError(f"{spec.x} has the shape {tuple(arrays[spec.x[1:]].shape)}; (k, 4) is accepted")
        boxes = arrays[spec.x[1:]].double().tolist()
        if len(boxes) != len(names):
            raise UsageError(f"{spec.name}: zlabel names {len(names)} boxes of {len(boxes)}: {spec.zlabel!r}")
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
    for axes in list(grid.flat)[len(kept) :]:
        axes.set_visible(False)
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def _style(colour: str, index: int, of: int) -> dict[str, Any]:
    """Earlier boxes have wider lines, so that those which coincide are seen."""
    return {"edgecolor": colour, "linewidth": 1.4 + 1.3 * (of - 1 - index)}

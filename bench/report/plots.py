"""The plots that a suite asks for, drawn from records as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.plan.plot import BarPlot, BoxesPlot, FieldPlot, HeatPlot, LinePlot, Plot, SamplesPlot, TrajectoriesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report import bars, boxes, curves, maps, samples, trajectories
from bench.report.select import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWERS: dict[type[Plot], Callable[[Any, Store, list[Record]], Figure | None]] = {
    LinePlot: curves.draw, BarPlot: bars.draw, HeatPlot: maps.draw, FieldPlot: maps.draw, BoxesPlot: boxes.draw,
    SamplesPlot: samples.draw, TrajectoriesPlot: trajectories.draw,
}  # fmt: skip


def draw(spec: Plot, store: Store, records: list[Record]) -> bytes | None:
    """Draw the plot ``spec`` of the records that it selects, as the bytes of a PNG; its drawer gives it its title.

    Returns None where no record with the status ok matches it, or none has the arrays that it shows.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = [record for record in select(records, spec.task, spec.where) if record.status == "ok"]
    if not chosen:
        return None
    try:
        figure = DRAWERS[type(spec)](spec, store, chosen)
    except BaseException:
        pyplot.close("all")  # figures that were drawn in part
        raise
    if figure is None:
        return None
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130, metadata={"Software": None})
    pyplot.close(figure)
    return target.getvalue()

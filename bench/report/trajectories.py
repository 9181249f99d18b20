"""Paths of samples in the plane, over lines that they should follow; a panel a record, in a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import UsageError
from bench.plan.spec import PlotSpec
from bench.records.store import Record, Store
from bench.report.maps import grid_of, panels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH, LINE = "#0072B2", "#BBBBBB"


def draw(spec: PlotSpec, store: Store, records: list[Record]) -> Figure:
    """One panel a record; raises UsageError where two records but for their seeds claim one, or arrays do not fit.

    With several seeds, the first is shown. A record without the lines shows its paths alone.
    """
    from matplotlib import pyplot
    from matplotlib.collections import LineCollection

    panels = panels_of(spec, records)
    rows, columns = grid_of(len(panels))
    size = (max(2.9 * columns + 0.5, 5.5), 2.9 * rows + 0.7)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", sharex=True, sharey=True
    )
    for axes, (title, record) in zip(grid.flat, panels.items(), strict=False):
        arrays = {name: array.double().numpy() for name, array in store.arrays(record).items()}
        if spec.x[1:] not in arrays:
            raise UsageError(f"{record.entry} keeps no array {spec.x!r}; it has {', '.join(arrays) or 'none'}")
        paths, lines = _curves(arrays[spec.x[1:]], spec.x), arrays.get(spec.y[1:])
        if lines is not None:
            axes.add_collection(LineCollection(_curves(lines, spec.y), colors=LINE, linewidths=1.6))
        axes.add_collection(LineCollection(paths, colors=PATH, linewidths=0.7))
        axes.plot(*np.concatenate(paths).T, ".", color=PATH, markersize=3)
        axes.plot(*np.stack([path[-1] for path in paths]).T, "o", color="black", markersize=3)
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for column in range(columns):
        lowest = grid[(len(panels) - 1 - column) // columns][column]
        lowest.set_xlabel(spec.xlabel)
        lowest.tick_params(labelbottom=True)
    for row in grid:
        row[0].set_ylabel(spec.ylabel)
    return figure


def _curves(array: np.ndarray, name: str) -> list[np.ndarray]:
    if array.ndim != 3 or array.shape[2] != 2 or not array.size:
        raise UsageError(f"{name} has the shape {array.shape}; (paths, points, 2) is accepted")
    return list(array)

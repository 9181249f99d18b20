"""Plots of the paths of samples in the plane, over the exact paths that they should follow; one panel per record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import UsageError
from bench.plan.plot import TrajectoriesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.panels import assign_panels, label_edges, make_grid, require_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH, LINE = "#0072B2", "#BBBBBB"


def draw(spec: TrajectoriesPlot, store: Store, records: list[Record]) -> Figure:
    """Draw the paths of each record in a panel, over the exact paths where it has them.

    A path ends in a black dot. Raises UsageError where an array is not (paths, points, 2).
    """
    from matplotlib.collections import LineCollection

    panels = assign_panels(spec, records)
    figure, grid = make_grid(len(panels), (2.9, 2.9), (0.5, 0.7), sharex=True, sharey=True)
    for axes, (title, record) in zip(grid.flat, panels.items(), strict=False):
        arrays = {name: array.double().numpy() for name, array in store.arrays(record).items()}
        paths, lines = _curves(require_array(arrays, spec.x, record), spec.x), arrays.get(spec.y[1:])
        if lines is not None:
            axes.add_collection(LineCollection(_curves(lines, spec.y), colors=LINE, linewidths=1.6))
        axes.add_collection(LineCollection(paths, colors=PATH, linewidths=0.7))
        axes.plot(*np.concatenate(paths).T, ".", color=PATH, markersize=3)
        axes.plot(*np.stack([path[-1] for path in paths]).T, "o", color="black", markersize=3)
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    label_edges(grid, len(panels), spec.xlabel, spec.ylabel)
    return figure


def _curves(array: np.ndarray, name: str) -> list[np.ndarray]:
    if array.ndim != 3 or array.shape[2] != 2 or not array.size:
        raise UsageError(f"{name} has the shape {array.shape}; (paths, points, 2) is accepted")
    return list(array)

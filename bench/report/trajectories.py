"""Plots of the paths of samples in the plane, over the exact paths that they should follow; one panel per record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import UsageError
from bench.plan.plot import TrajectoriesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.captions import entitle
from bench.report.panels import assign_panels, label_edges, make_grid, require_array
from bench.report.select import show
from bench.report.ticks import settle_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH, LINE = "#0072B2", "#BBBBBB"


def draw(spec: TrajectoriesPlot, store: Store, records: list[Record]) -> Figure:
    """Draw the paths of each record in a panel, over the exact paths where it has them.

    A path ends in a black dot, an exact one in a grey ring. Raises UsageError where an array is not (paths, points, 2).
    """
    from matplotlib.collections import LineCollection

    panels = assign_panels(spec, records)
    figure, grid = make_grid(len(panels), (2.9, 2.9), (0.5, 0.9), sharex=True, sharey=True)
    off: dict[str, float] = {}
    for axes, (title, record) in zip(grid.flat, panels.items(), strict=False):
        arrays = {name: array.double().numpy() for name, array in store.arrays(record).items()}
        paths, lines = _curves(require_array(arrays, spec.x, record), spec.x), arrays.get(spec.y[1:])
        if lines is not None:
            exact = _curves(lines, spec.y)
            axes.add_collection(LineCollection(exact, colors=LINE, linewidths=2.2))
            off[title] = _apart([path[-1] for path in paths], [line[-1] for line in exact])
            axes.plot(*np.stack([line[-1] for line in exact]).T, "o", markerfacecolor="none", color=LINE, markersize=6)
        axes.add_collection(LineCollection(paths, colors=PATH, linewidths=0.7))
        axes.plot(*np.concatenate(paths).T, ".", color=PATH, markersize=3)
        axes.plot(*np.stack([path[-1] for path in paths]).T, "o", color="black", markersize=3)
        axes.set_title(f"{title}: ends {show(off[title])} away" if title in off else title, fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    label_edges(grid, len(panels), spec.xlabel or "x", spec.ylabel or "y")
    entitle(figure, spec.title, _say(off))
    settle_ticks(figure)
    return figure


def _say(off: dict[str, float]) -> str:
    """Whose paths end nearest to the exact ones, and whose farthest, by the RMS distance of their ends."""
    if len(off) < 2:
        return ""
    ranked = sorted(off, key=lambda title: off[title])
    near, far = ranked[0], ranked[-1]
    return f"{near} ends nearest to the exact flow (RMS {show(off[near])}), {far} farthest ({show(off[far])})"


def _apart(ends: list[np.ndarray], exact: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.sum((np.stack(ends) - np.stack(exact)) ** 2, axis=1))))


def _curves(array: np.ndarray, name: str) -> list[np.ndarray]:
    if array.ndim != 3 or array.shape[2] != 2 or not array.size:
        raise UsageError(f"{name} has the shape {array.shape}; (paths, points, 2) is accepted")
    return list(array)

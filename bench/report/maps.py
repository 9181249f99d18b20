"""Maps of arrays stored beside records: colours over the plane, arrows for a gradient field; one panel per record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.plan.plot import FieldPlot, HeatPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.panels import assign_panels, label_edges, make_grid, require_array
from bench.report.select import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ARROWS = 14  # the most arrows along an axis
CUT = 0.005  # share of values at either end that lie beyond the colour scale, so that spikes do not take it up


def draw(spec: HeatPlot | FieldPlot, store: Store, records: list[Record]) -> Figure:
    """Draw a heat map or gradient field as a figure with one panel per record.

    Raises UsageError where arrays are missing or their shapes do not fit each other.
    """
    from matplotlib.colors import LogNorm, Normalize

    panels = assign_panels(spec, records)
    maps = [_Map(spec, store.arrays(record), record) for record in panels.values()]
    figure, grid = make_grid(len(maps), (3.1, 2.9), (0.9, 0.9), sharex=True, sharey=True)
    log, label = "z" in spec.log, spec.zlabel or (spec.z or "").lstrip("@")
    limits = [_limits([each.heat for each in ([one] if spec.scale == "own" else maps)], log) for one in maps]
    for axes, title, one, (low, high) in zip(grid.flat, panels, maps, limits, strict=False):
        norm = (LogNorm if log else Normalize)(low, high)
        image = one.show(axes, norm)
        axes.set_title(title, fontsize=9)
        axes.set_box_aspect(1)
        if "x" in spec.log:
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis)
        if "y" in spec.log:
            axes.set_yscale("log")
            _plain_ticks(axes.yaxis)
        if spec.mark:
            axes.plot(*spec.mark, "+", color="white", markersize=9, markeredgewidth=3)
            axes.plot(*spec.mark, "+", color="black", markersize=8, markeredgewidth=1)
        if spec.scale == "own":
            figure.colorbar(image, ax=axes, extend="both", shrink=0.85).set_label(label, fontsize=8)
    if spec.scale == "shared":
        figure.colorbar(image, ax=grid, extend="both", label=label, aspect=15 * len(grid), pad=0.02)
    label_edges(grid, len(maps), spec.xlabel or spec.x.lstrip("@"), spec.ylabel or spec.y.lstrip("@"))
    return figure


class _Map:
    """The arrays that one panel shows: axes ``x`` and ``y``, the values ``heat``, and ``arrows`` of a field."""

    def __init__(self, spec: HeatPlot | FieldPlot, arrays: dict[str, Any], record: Record):
        def array(name: str) -> np.ndarray:
            found: np.ndarray = require_array(arrays, name, record).double().numpy()
            return found

        self.x, self.y = (_column(array(name), i, name) for i, name in enumerate((spec.x, spec.y)))
        self.arrows = (array(spec.u), array(spec.v)) if isinstance(spec, FieldPlot) else None
        self.heat = array(spec.z) if spec.z else np.hypot(*(self.arrows or ()))
        shapes = {self.heat.shape, *(each.shape for each in self.arrows or ())}
        if shapes not in ({(len(self.y), len(self.x))}, {(len(self.x),)}):
            raise UsageError(
                f"{record.cell.entry}: arrays of {len(self.x)} x and {len(self.y)} y with values {sorted(shapes)}"
            )

    def show(self, axes: Axes, norm: Any) -> Any:
        """Draw the map into ``axes`` with the colour scale ``norm``; returns the image, for a colour bar."""
        if self.heat.ndim == 1:
            try:
                return axes.tripcolor(self.x, self.y, self.heat, shading="gouraud", norm=norm, cmap="viridis")
            except (RuntimeError, ValueError):  # matplotlib's triangulation
                raise UsageError(f"{len(self.x)} points span no area; at least 3 that are on no line do") from None
        image = axes.pcolormesh(
            self.x, self.y, self.heat, shading="nearest", norm=norm, cmap="viridis", rasterized=True
        )
        if self.arrows:
            every = math.ceil(max(self.heat.shape) / ARROWS)
            thin = (slice(every // 2, None, every),) * 2
            u, v = (each[thin] for each in self.arrows)
            length = np.hypot(u, v)
            length[length == 0] = np.nan  # no arrow
            x, y = np.meshgrid(self.x[thin[1]], self.y[thin[0]])
            look = {"width": 0.007, "color": "white", "edgecolor": "black", "linewidth": 0.4}
            axes.quiver(x, y, -u / length, -v / length, angles="xy", scale=1.3 * len(x), pivot="mid", **look)
        return image


def _plain_ticks(axis: Axis) -> None:
    """Put the ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_locator(NullLocator())


def _column(array: np.ndarray, index: int, name: str) -> np.ndarray:
    """The coordinates along an axis: the array (n,) itself, or column ``index`` of an array of points (n, 2)."""
    if array.ndim == 1:
        return array
    if array.ndim != 2 or array.shape[1] != 2:
        raise UsageError(f"{name} has the shape {array.shape}; (n,) or (n, 2) is accepted")
    return array[:, index]


def _limits(arrays: list[np.ndarray], log: bool) -> tuple[float, float]:
    values = np.concatenate([array.ravel() for array in arrays])
    values = values[values > 0] if log else values
    if not len(values):
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = np.quantile(values, [CUT, 1 - CUT])
    return (float(low), float(high)) if low < high else (float(low) * 0.9, float(low) * 1.1 + 1e-12)

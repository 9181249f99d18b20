"""Maps of arrays stored beside records: colours over the plane, arrows for a gradient field; one panel per record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.plan.plot import FieldPlot, HeatPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.captions import entitle, label_axis, name_quantity
from bench.report.panels import assign_panels, label_edges, make_grid, merge_panels, require_array
from bench.report.ticks import settle_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROWS = 14  # the most arrows along an axis
STILL = 1e-12  # a gradient up to here counts as 0, up to rounding
SEEN = 0.005  # the least share that a title says
CUT = 0.005  # share of values at either end that lie beyond the colour scale, so that spikes do not take it up


def draw(spec: HeatPlot | FieldPlot, store: Store, records: list[Record]) -> Figure:
    """Draw a heat map or gradient field as a figure with one panel per record, but for those that equal another.

    Raises UsageError where arrays are missing or their shapes do not fit each other.
    """
    from matplotlib.colors import LogNorm, Normalize

    records_of = assign_panels(spec, records)
    every = {title: _Map(spec, store.arrays(record), record) for title, record in records_of.items()}
    shown, notes = merge_panels({title: one.arrays() for title, one in every.items()})
    maps = {title: every[title] for title in shown}
    figure, grid = make_grid(len(maps), (3.1, 3.0), (0.9, 1.1), sharex=True, sharey=True)
    log = "z" in spec.log
    label = label_axis(spec.zlabel, spec.z or "", [], spec.better if isinstance(spec, HeatPlot) else None)
    limits = [
        _limits([each.heat for each in ([one] if spec.scale == "own" else maps.values())], log) for one in maps.values()
    ]
    for axes, (title, one), (low, high) in zip(grid.flat, maps.items(), limits, strict=False):
        norm = (LogNorm if log else Normalize)(low, high)
        image = one.show(axes, norm)
        axes.set_title(title + (f"\n{_say_shares(one)}" if one.shares else ""), fontsize=9)
        axes.set_box_aspect(1)
        if "x" in spec.log:
            axes.set_xscale("log")
        if "y" in spec.log:
            axes.set_yscale("log")
        if spec.mark:
            axes.plot(*spec.mark, "+", color="white", markersize=9, markeredgewidth=3)
            axes.plot(*spec.mark, "+", color="black", markersize=8, markeredgewidth=1)
        if spec.scale == "own":
            figure.colorbar(image, ax=axes, extend="both", shrink=0.85).set_label(label, fontsize=8)
    if spec.scale == "shared":
        figure.colorbar(image, ax=grid, extend="both", label=label, aspect=15 * len(grid), pad=0.02)
    words = [
        given or name.lstrip("@").replace("_", " ") for given, name in ((spec.xlabel, spec.x), (spec.ylabel, spec.y))
    ]
    label_edges(grid, len(maps), *words)
    entitle(figure, spec.title, _say(spec, every), notes)
    settle_ticks(figure)
    return figure


def _say(spec: HeatPlot | FieldPlot, maps: dict[str, _Map]) -> str:
    """Of a field, where descent leads away from its mark; of a heat map with a direction, who is best most often."""
    if isinstance(spec, FieldPlot):
        away = {title: one.shares[0] for title, one in maps.items() if one.shares}
        wrong = sorted((title for title in away if away[title] >= SEEN), key=lambda title: -away[title])
        if not away:
            return ""
        if not wrong:
            return "Descent leads towards the target wherever there is a gradient"
        return f"Descent leads away from the target most often by {wrong[0]}, at {away[wrong[0]]:.0%} of the places"
    if spec.better in (None, "target") or len(maps) < 2 or len({one.heat.shape for one in maps.values()}) > 1:
        return ""
    heats = np.stack([one.heat for one in maps.values()])
    best = heats.min(0) if spec.better == "lower" else heats.max(0)
    shares = {title: float((heat == best).mean()) for title, heat in zip(maps, heats, strict=True)}
    first = max(shares, key=lambda title: shares[title])
    extreme = "lowest" if spec.better == "lower" else "highest"
    quantity = name_quantity(spec.zlabel, spec.z)
    return f"{first} has the {extreme} {quantity} at {shares[first]:.0%} of the places"


def _say_shares(one: _Map) -> str:
    away, still = one.shares
    parts = [f"away at {away:.0%}"] if away >= SEEN else []
    parts += [f"no gradient at {still:.0%}"] if still >= SEEN else []
    return ", ".join(parts) or "towards the target"


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
        self.shares = self._measure_descent(spec) if self.arrows and spec.mark else ()

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays, by which panels are told apart."""
        return {str(i): array for i, array in enumerate((self.x, self.y, self.heat, *(self.arrows or ())))}

    def _measure_descent(self, spec: HeatPlot | FieldPlot) -> tuple[float, ...]:
        """The share of places from which descent leads away from the mark, and of those without a gradient.

        A step leads away where it lengthens the distance to the mark along the axes as they are drawn.
        """
        assert self.arrows
        assert spec.mark
        grids = list(np.meshgrid(self.x, self.y))
        ways, steps = [], []
        for axis, place, to, slope in zip("xy", grids, spec.mark, self.arrows, strict=True):
            log = axis in spec.log
            ways.append(np.log(to / place) if log else to - place)
            steps.append(-slope / place if log else -slope)  # a step in log x is one in x over x
        length = np.hypot(*self.arrows)
        still = length <= STILL
        there = np.hypot(*ways) == 0
        along = sum(way * step for way, step in zip(ways, steps, strict=True))
        return float((~still & ~there & (along < -STILL)).mean()), float((still & ~there).mean())

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

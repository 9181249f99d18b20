"""Pictures of samples: a row of images per record, so that columns share their start, or a panel of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.plan.plot import SamplesPlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.captions import entitle
from bench.report.panels import assign_panels, label_edges, make_grid, merge_panels, require_array
from bench.report.ticks import settle_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 24  # rows or panels of one picture


def draw(spec: SamplesPlot, store: Store, records: list[Record]) -> Figure:
    """Draw the samples of each record: images side by side, or points by their first two coordinates.

    Of more than ``MOST`` records the first are drawn, and of equal ones one, which the title says. Raises UsageError on
    an array of another shape.
    """
    panels = dict(list(assign_panels(spec, records).items())[:MOST])
    arrays = {title: require_array(store.arrays(record), spec.x, record).numpy() for title, record in panels.items()}
    for title, array in arrays.items():
        image = array.ndim == 4 and array.shape[1] in (1, 3) and array.dtype == np.uint8
        if not image and (array.ndim != 2 or array.shape[1] < 2):
            raise UsageError(f"{title}: {spec.x} has the shape {array.shape}; uint8 (n, c, h, w) or (n, d) is accepted")
    merged, notes = merge_panels({title: {"samples": array} for title, array in arrays.items()})
    shown = {title: own["samples"] for title, own in merged.items()}
    figure = _draw_points(shown) if next(iter(shown.values())).ndim == 2 else _draw_images(shown)
    entitle(figure, spec.title, notes=notes)
    settle_ticks(figure)
    return figure


def _draw_images(arrays: dict[str, Any]) -> Figure:
    from matplotlib import pyplot

    across = max(len(array) for array in arrays.values())
    figure, grid = pyplot.subplots(
        len(arrays),
        1,
        squeeze=False,
        layout="constrained",
        figsize=(max(0.55 * across + 1.6, 5.0), 0.62 * len(arrays) + 0.9),
    )
    for axes, (title, array) in zip(grid[:, 0], arrays.items(), strict=True):
        strip = np.concatenate(list(array.transpose(0, 2, 3, 1)), axis=1)  # (n, c, h, w) => (h, n w, c)
        axes.imshow(strip.squeeze(2) if strip.shape[2] == 1 else strip, cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure


def _draw_points(arrays: dict[str, Any]) -> Figure:
    figure, grid = make_grid(len(arrays), (2.4, 2.4), (0.5, 0.7), sharex=True, sharey=True)
    for axes, (title, array) in zip(grid.flat, arrays.items(), strict=False):
        axes.plot(array[:, 0], array[:, 1], ".", color="#0072B2", markersize=1.5, alpha=0.5)
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    label_edges(grid, len(arrays), "first coordinate", "second coordinate")
    return figure

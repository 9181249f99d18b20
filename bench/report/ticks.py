"""Ticks at round values whose labels never touch, chosen by measuring the labels where they are drawn.

The values that were measured are taken where they are round and few. Else, of the sets of round values that an axis
allows, the first with ``ENOUGH`` ticks whose labels keep apart is taken; where none has so many,
the one with the most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NAMES = "names"  # the gid of an axis whose ticks are names, which stay as they are
ENOUGH, MOST = 3, 9  # ticks of an axis
GAP = 0.45  # between two labels, in heights of one
PASSES = 3  # the most times that a figure is laid out
DIGITS = 2  # of a measured value that may be a tick
MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), (1, 2, 3, 4, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))


def settle_ticks(figure: Figure, *measured: Sequence[float]) -> None:
    """Put the ticks of every axis with numbers of ``figure`` at round values, such that no two labels touch.

    The values of the first of ``measured`` that are all round and have room are the ticks of an x axis.
    """
    own = [sorted(set(values)) for values in measured if values and all(map(_is_round, values))]
    for attempt in range(PASSES):  # labels change the room that is left for the axes, and with it that between labels
        _lay_out(figure)
        shown = [axes for axes in figure.axes if axes.get_visible()]
        if attempt and not any(touching(axis) for axes in shown for axis in (axes.xaxis, axes.yaxis)):
            break
        for axes in shown:
            _settle(axes.xaxis, own)
            _settle(axes.yaxis, [])
    figure.set_layout_engine("none")  # it stays as it is laid out


def _lay_out(figure: Figure) -> None:
    """Place axes, titles and legends without drawing what the axes hold."""
    engine = figure.get_layout_engine()
    if engine is None:
        figure.draw_without_rendering()
    else:
        engine.execute(figure)


def touching(axis: Axis) -> list[tuple[str, str]]:
    """The pairs of tick labels of a drawn axis whose boxes overlap."""
    boxes = _boxes(axis)
    return [(a, b) for (a, one), (b, other) in itertools.pairwise(boxes) if one.overlaps(other)]


def write_number(value: float, plain: bool = True) -> str:
    """A tick's number: with thousands separators, or with ``plain`` false as a power of ten where it is one."""
    if plain or value == 0:
        return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")
    power = math.floor(math.log10(abs(value)) + 1e-9)
    factor = value / 10.0**power
    return f"$10^{{{power}}}$" if math.isclose(factor, 1) else rf"${factor:.3g}\cdot10^{{{power}}}$"


def _settle(axis: Axis, measured: list[list[float]]) -> None:
    from matplotlib.category import StrCategoryFormatter
    from matplotlib.ticker import FixedLocator, NullFormatter

    named = axis.get_gid() == NAMES or isinstance(axis.get_major_formatter(), StrCategoryFormatter)
    if named or not any(map(_is_shown, axis.get_ticklabels())):
        return
    low, high = sorted(axis.get_view_interval())
    log = axis.get_scale() == "log"
    best: list[float] = []
    sets = (_log_sets if log else _linear_sets)(low, high)
    for index, ticks in enumerate(itertools.chain(measured, sets)):
        seen = [tick for tick in ticks if low <= tick <= high]
        if len(best) < len(seen) <= MOST and _fit(axis, seen):
            best = seen
        if len(best) >= (2 if index < len(measured) else ENOUGH):
            break
    _put(axis, best)
    if log:
        axis.set_minor_formatter(NullFormatter())
        if high / low < 10:
            axis.set_minor_locator(FixedLocator([]))


def _put(axis: Axis, ticks: Sequence[float]) -> None:
    plain = all(tick == 0 or 1e-3 <= abs(tick) < 1e5 for tick in ticks)
    axis.set_ticks(list(ticks), [write_number(tick, plain) for tick in ticks])


def _fit(axis: Axis, ticks: Sequence[float]) -> bool:
    _put(axis, ticks)
    along = 0 if axis.axis_name == "x" else 1
    boxes = [box for _, box in _boxes(axis)]
    if not boxes:
        return False
    gap = GAP * min(box.height for box in boxes)
    spans = sorted((box.min[along], box.max[along]) for box in boxes)
    return all(start - end >= gap for (_, end), (start, _) in itertools.pairwise(spans))


def _boxes(axis: Axis) -> list[tuple[str, Any]]:
    """The tick labels within the view of an axis with the boxes that they take, in pixels, in the axis's order."""
    low, high = sorted(axis.get_view_interval())
    where = axis.get_majorticklocs()
    labels = zip(where, axis.get_ticklabels(), strict=False)
    shown = [(tick, label) for tick, label in labels if low <= tick <= high and _is_shown(label)]
    return [(label.get_text(), label.get_window_extent()) for _, label in sorted(shown, key=lambda one: one[0])]


def _is_shown(label: Any) -> bool:
    return bool(label.get_visible() and label.get_text())


def _log_sets(low: float, high: float) -> Iterator[list[float]]:
    """Round values of a logarithmic axis: powers of ten, every so many of them, then a few values per power."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for every in range(1, max(2, last - first)):
        yield [10.0**power for power in range(first, last + 1) if power % every == 0]
    for multiples in MULTIPLES[1:]:
        yield [float(f"{m}e{power}") for power in range(first, last + 1) for m in multiples]
    if high / low < 4:
        yield from _linear_sets(low, high)


def _linear_sets(low: float, high: float) -> Iterator[list[float]]:
    from matplotlib.ticker import MaxNLocator

    for parts in (5, 4, 3, 2, 6, 7, 8):
        found = MaxNLocator(parts, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        yield [round(float(tick), 12) for tick in found]


def _is_round(value: Any) -> bool:
    return isinstance(value, (int, float)) and float(f"{value:.{DIGITS}g}") == value

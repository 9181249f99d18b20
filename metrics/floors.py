"""The floor of a figure, which real against real data reaches, and whether a figure is told apart from it."""

from __future__ import annotations

from typing import NamedTuple


class Floor(NamedTuple):
    """The figure of real against real data at one n: the mean over draws, and the range of a further draw."""

    mean: float
    low: float
    high: float


def tell_from_floor(value: float, floor: Floor, interval: tuple[float, float] | None = None) -> str:
    """Whether a figure is told apart from its floor: "above the floor", "below the floor" or "not told apart".

    It is where it lies outside of the range of further draws, and its interval, if there is one, leaves out their mean.
    A perfect model, whose figure is such a draw, is told apart in at most 5 %, the level of the range.
    """
    low, high = interval if interval is not None else (value, value)
    if value > floor.high and low > floor.mean:
        return "above the floor"
    if value < floor.low and high < floor.mean:
        return "below the floor"
    return "not told apart"

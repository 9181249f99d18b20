"""Figures with their noise, and the Pareto front: a point is dominated only where another is better beyond intervals.

The same decides the star of ``fidmap evaluate model``, the ring in a Pareto picture, and what the picture's title says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval where it has one: over seeds if there are several."""

    value: float
    interval: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lower end of the interval, the value itself where there is none."""
        return self.interval[0] if self.interval else self.value

    @property
    def high(self) -> float:
        """The upper end of the interval, the value itself where there is none."""
        return self.interval[1] if self.interval else self.value


def average(values: Sequence[float]) -> Figure:
    """The mean over seeds with Student's interval of it; none where all are equal, as counts are."""
    import scipy.stats

    mean = fmean(values)
    if len(set(values)) == 1:
        return Figure(mean)
    reach = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return Figure(mean, (mean - reach, mean + reach))


def beats(one: Figure, other: Figure, higher: bool = False) -> bool:
    """Whether ``one`` is better than ``other`` beyond both intervals: smaller, or with ``higher`` larger."""
    return one.low > other.high if higher else one.high < other.low


def is_on_front(point: tuple[Figure, Figure], others: Sequence[tuple[Figure, Figure]], higher: bool = False) -> bool:
    """Whether every point (cost, quality) that is better beyond both intervals is told to cost more."""
    cost, quality = point
    return not any(other.low <= cost.high and beats(own, quality, higher) for other, own in others)


def trace_front(points: Sequence[tuple[Figure, Figure]], higher: bool = False) -> list[tuple[float, float]]:
    """The steps (cost, bound) that divide the front from the rest: intervals wholly beyond the bound are dominated.

    The bound at a cost is the best of the near ends of the intervals that are to be had for it: the smallest upper end,
    or with ``higher`` the largest lower end.
    """
    steps: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: point[0].low):
        end = quality.low if higher else quality.high
        if steps and (end <= steps[-1][1] if higher else end >= steps[-1][1]):
            continue
        steps = [*(steps[:-1] if steps and steps[-1][0] == cost.low else steps), (cost.low, end)]
    return steps

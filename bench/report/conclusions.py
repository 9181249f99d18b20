"""What the curves of a panel say, in one sentence computed from their points.

A sentence names the curves that are best; those that are not told from the best by their intervals are named with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.plan.plot import Says
from bench.report.captions import join
from bench.report.front import Figure, beats, is_on_front
from bench.report.points import Curves, Point
from bench.task import Direction
from metrics.floors import Floor, tell_from_floor

WHOLE = 0.15  # how far a measured order may be from the whole number by which it is said


@dataclass(frozen=True)
class Panel:
    """The curves of a panel, what their axes show in words, which direction is better, and the floors of y."""

    curves: Curves
    x: str
    y: str
    unit: str = ""  # of x
    direction: Direction = "lower"
    floors: Sequence[Floor] = field(default_factory=list)

    @property
    def higher(self) -> bool:
        """Whether a larger y is better."""
        return self.direction == "higher"

    def best(self, points: dict[str, Point]) -> list[str]:
        """The curves that have the best y among ``points``, the best first, then those that are not told from it."""
        sign = -1 if self.higher else 1
        ranked = sorted(points, key=lambda name: sign * points[name].y.value)
        first = points[ranked[0]].y
        return [name for name in ranked if name == ranked[0] or not beats(first, points[name].y, self.higher)]

    def at(self, x: float) -> dict[str, Point]:
        """The last point of each curve up to ``x``: what is to be had for it."""
        reached = {name: [p for p in points if p.x.value <= x] for name, points in self.curves.items()}
        return {name: points[-1] for name, points in reached.items() if points}

    def place(self, x: float) -> str:
        """A value of x as a sentence says it: ``20 evaluations``, ``level 0.4``, ``515 ms``, ``n = 100``."""
        number = write(x)
        if self.unit:
            return f"{number} {self.unit}"
        first = self.x.split()[0] if self.x else ""
        return f"{number} {self.x}" if first.endswith("s") else f"{self.x} {'= ' if len(self.x) < 2 else ''}{number}"


def write(value: float) -> str:
    """A number in a sentence: three significant digits, and thousands separated."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def common(values: Sequence[float]) -> list[float]:
    """The values of x that at least half as many curves have as the commonest, in their order."""
    counts = Counter(value for value in values if isinstance(value, (int, float)) and math.isfinite(value))
    most = max(counts.values(), default=0)
    return sorted(value for value, count in counts.items() if 2 * count >= most)


def conclude(panel: Panel, says: Says) -> str:
    """The sentence of the kind ``says`` on a panel; empty where its records decide none."""
    curves = {name: [p for p in points if math.isfinite(p.y.value)] for name, points in panel.curves.items()}
    found = Panel(
        {name: points for name, points in curves.items() if points}, panel.x, panel.y, panel.unit, panel.direction,
        panel.floors,
    )  # fmt: skip
    words = any(isinstance(p.x.value, str) for points in found.curves.values() for p in points)
    return SENTENCES[says](found) if found.curves and not words else ""


def _ends(panel: Panel) -> str:
    """Who is best at the least x that all curves have, and who at the greatest."""
    if panel.direction == "target" or len(panel.curves) < 2:
        return ""
    xs = common([p.x.value for points in panel.curves.values() for p in points])
    start = max(points[0].x.value for points in panel.curves.values())
    each = {x: panel.best(panel.at(x)) for x in xs if x >= start}
    if not each:
        return ""
    least, most = min(each), max(each)
    first, last = each[least], each[most]
    if all(names == first for names in each.values()):
        return f"{join(first)} {_have(first)} the {_extreme(panel)} {panel.y} throughout"
    text = f"{join(first)} {_have(first)} the {_extreme(panel)} {panel.y} at {panel.place(least)}"
    return f"{text} and at {write(most)}, not between" if first == last else f"{text}, {join(last)} at {write(most)}"


def _last(panel: Panel) -> str:
    """Who is best at the greatest x, and who is worst."""
    if panel.direction == "target" or len(panel.curves) < 2:
        return ""
    x = max(points[-1].x.value for points in panel.curves.values())
    ends = {name: points[-1] for name, points in panel.curves.items()}
    best = panel.best(ends)
    worst = max(ends, key=lambda name: (-1 if panel.higher else 1) * ends[name].y.value)
    text = f"{join(best)} {_have(best)} the {_extreme(panel)} {panel.y} at {panel.place(x)}"
    text += f" ({write(ends[best[0]].y.value)})"
    return text if worst in best else f"{text}, {worst} the {_extreme(panel, False)} ({write(ends[worst].y.value)})"


def _mean(panel: Panel) -> str:
    """Who is best on average over x, and who is worst."""
    if panel.direction == "target" or len(panel.curves) < 2:
        return ""
    means = {name: sum(p.y.value for p in points) / len(points) for name, points in panel.curves.items()}
    ranked = sorted(means, key=lambda name: (-1 if panel.higher else 1) * means[name])
    best, worst = ranked[0], ranked[-1]
    return (
        f"On average {best} has the {_extreme(panel)} {panel.y} ({write(means[best])}), "
        f"{worst} the {_extreme(panel, False)} ({write(means[worst])})"
    )


def _peak(panel: Panel) -> str:
    """Which point of all is the best."""
    if panel.direction == "target":
        return ""
    sign = -1 if panel.higher else 1
    tops = {name: min(points, key=lambda p: sign * p.y.value) for name, points in panel.curves.items()}
    best = panel.best(tops)
    top = tops[best[0]]
    most = f"the {_extreme(panel)} {panel.y} of all, {write(top.y.value)}"
    return f"{join(best)} {_have(best)} {most}, at {panel.place(top.x.value)}"


def _floor(panel: Panel) -> str:
    """Who is first not told from the floor, and where."""
    if not panel.floors or panel.direction == "target":
        return ""
    worse = "below the floor" if panel.higher else "above the floor"
    mean = Floor(*(sum(ends) / len(panel.floors) for ends in zip(*panel.floors, strict=True)))

    def reaches(point: Point) -> bool:  # a mean over seeds is held against the range of one draw, as tables do
        interval = point.y.interval if point.low == point.high else None
        return tell_from_floor(point.y.value, mean, interval) != worse

    reached = {name: next((p.x.value for p in points if reaches(p)), math.inf) for name, points in panel.curves.items()}
    first = min(reached.values())
    if math.isinf(first):
        ends = {name: points[-1] for name, points in panel.curves.items()}
        return f"None reaches the floor; {panel.best(ends)[0]} ends nearest"
    names = [name for name, x in reached.items() if x == first]
    if len(names) == len(reached) > 1:
        return f"All reach the floor at {panel.place(first)}"
    return f"{join(names)} {'reaches' if len(names) == 1 else 'reach'} the floor first, at {panel.place(first)}"


def _front(panel: Panel) -> str:
    """The cheapest point that no other beats beyond its interval, whatever the other costs."""
    if panel.direction == "target":
        return ""
    points = [(p, name) for name, own in panel.curves.items() for p in own]
    free = [(p, name) for p, name in points if not any(beats(other.y, p.y, panel.higher) for other, _ in points)]
    p, name = min(free, key=lambda one: one[0].x.value)
    ringed = {own for q, own in points if is_on_front((q.x, q.y), [(o.x, o.y) for o, _ in points], panel.higher)}
    others = [own for own in panel.curves if own not in ringed]
    text = f"From {panel.place(p.x.value)} on ({name}) nothing is better beyond its interval"
    return text + (f"; never on the front: {join(others)}" if others else "")


def _order(panel: Panel) -> str:
    """The order of each curve: the slope of log y over log x between its last two points."""
    orders: dict[str, list[str]] = {}
    for name, points in panel.curves.items():
        if len(points) < 2 or min(p.y.value for p in points[-2:]) <= 0:
            continue
        (a, b) = points[-2:]
        slope = -math.log(b.y.value / a.y.value) / math.log(b.x.value / a.x.value)
        whole = round(slope)
        orders.setdefault(str(whole) if abs(slope - whole) <= WHOLE else f"{slope:.1f}", []).append(name)
    said = [f"{order} of {join(names)}" for order, names in sorted(orders.items(), key=lambda one: float(one[0]))]
    return f"Measured order: {', '.join(said)}" if said else ""


def _moves(panel: Panel) -> str:
    """Which curves end above where they begin, which below, beyond the range over the seeds, and which do neither."""
    found: dict[str, list[str]] = {"raised by": [], "lowered by": [], "not moved by": []}
    size = {name: abs(points[-1].y.value - points[0].y.value) for name, points in panel.curves.items()}
    for name in sorted(panel.curves, key=lambda name: -size[name]):
        first, last = panel.curves[name][0], panel.curves[name][-1]
        verb = "raised by" if last.low > first.high else "lowered by" if last.high < first.low else "not moved by"
        found[verb].append(name)
    what = panel.y[:1].upper() + panel.y[1:]
    alike = next((verb for verb, names in found.items() if len(names) == len(panel.curves) > 1), None)
    if alike:
        return f"{what} is {alike} all, most by {found[alike][0]}, least by {found[alike][-1]}"
    return f"{what} is " + ", ".join(f"{verb} {join(names)}" for verb, names in found.items() if names)


def _change(panel: Panel) -> str:
    """Which curve changes most from the least x to the greatest, and which least."""
    ends = {name: (points[0], points[-1]) for name, points in panel.curves.items()}
    ranked = sorted(ends, key=lambda name: -abs(ends[name][1].y.value - ends[name][0].y.value))

    def change(name: str) -> str:
        return f"{write(ends[name][0].y.value)} to {write(ends[name][1].y.value)}"

    first, last = ends[ranked[0]]
    if all(a.low <= b.high and b.low <= a.high for a, b in ends.values()):
        name = join(ranked) or panel.y
        return f"{name} at {panel.place(first.x.value)} and at {write(last.x.value)}: the same within the seeds' range"
    text = f"{ranked[0] or panel.y} changes {'most ' if len(ranked) > 1 else ''}from {panel.place(first.x.value)} to "
    text += f"{write(last.x.value)} ({change(ranked[0])})"
    return text + (f", {ranked[-1]} least ({change(ranked[-1])})" if len(ranked) > 1 else "")


def _extreme(panel: Panel, best: bool = True) -> str:
    return "highest" if panel.higher == best else "lowest"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def rank_bars(bars: dict[str, Figure], y: str, direction: Direction) -> str:
    """Which of several bars is best, with those that are not told from it, and which is worst."""
    points = {name: [Point(Figure(0.0), figure, figure.low, figure.high)] for name, figure in bars.items()}
    panel = Panel(points, "", y, direction=direction)
    if direction == "target" or len(bars) < 2:
        return ""
    ends = {name: own[0] for name, own in points.items()}
    best = panel.best(ends)
    worst = max(bars, key=lambda name: (-1 if panel.higher else 1) * bars[name].value)
    text = f"{join(best)} {_have(best)} the {_extreme(panel)} {y}"
    return text if worst in best else f"{text}, {worst} the {_extreme(panel, False)}"


SENTENCES: dict[Says, Callable[[Panel], str]] = {
    "ends": _ends, "last": _last, "mean": _mean, "peak": _peak, "floor": _floor, "front": _front, "order": _order,
    "moves": _moves, "change": _change,
}  # fmt: skip

"""The points of curves, read off records: x and y with their intervals, averaged over the seeds of a setting."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.files import digest
from bench.plan.plot import LinePlot
from bench.records.record import Record
from bench.records.store import Store
from bench.report.front import Figure, average
from bench.report.panels import require_array
from bench.report.select import label, lookup

EQUAL = 1e-6  # the relative difference that rounding may leave between the values of equal curves


class Point(NamedTuple):
    """A point of a curve: its coordinates with their intervals, and the range of y over the seeds."""

    x: Figure
    y: Figure
    low: float
    high: float


Curves = dict[str, list[Point]]  # by series


def read_curve(spec: LinePlot, store: Store, records: list[Record]) -> list[Point]:
    """The points of one series, in the order of x; a name that begins with @ is an array stored beside the record.

    Raises UsageError where an array is missing or not one-dimensional, where x and y differ in length, and where one
    seed has two values at one x: only seeds are averaged over.
    """
    _require_one_of_a_seed(spec, records)
    found: dict[Any, list[tuple[Figure, Figure]]] = {}
    for record in records:
        arrays = store.arrays(record) if "@" in spec.x + spec.y else {}
        y = _values(spec.y, record, arrays)
        x = [Figure(i) for i in range(1, len(y) + 1)] if spec.x == "index" else _values(spec.x, record, arrays)
        if len(x) != len(y):
            raise UsageError(f"{record.cell.entry}: {spec.x!r} has {len(x)} values and {spec.y!r} has {len(y)}")
        # a measured x, such as a time, differs between the seeds of one setting
        setting = digest(record.cell.parameters) if record.measure(spec.x) else None
        for a, b in zip(x, y, strict=True):
            if a.value is not None and b.value is not None:
                found.setdefault(setting or a.value, []).append((a, b))
    points = [_merge(group) for group in found.values()]
    try:
        return sorted(points, key=lambda point: point.x.value)
    except TypeError:
        raise UsageError(f"{spec.x!r} has numbers and words; one of them is accepted") from None


def merge_equal(panels: list[Curves]) -> list[Curves]:
    """The curves of several panels, with those that are equal in each panel as one, named ``a = b``."""
    names = list(dict.fromkeys(name for curves in panels for name in curves))
    groups: list[list[str]] = []
    for name in names:
        twin = next((group for group in groups if _all_equal(panels, group[0], name)), None)
        if twin:
            twin.append(name)
        else:
            groups.append([name])
    return [
        {" = ".join(group): curves[group[0]] for group in groups if group[0] in curves} for curves in panels
    ]  # fmt: skip


def are_equal(one: list[Point], other: list[Point]) -> bool:
    """Whether two curves have the same points, up to rounding, and the same intervals."""

    def numbers(points: list[Point]) -> list[Any]:
        return [value for p in points for value in (p.x.value, p.x.low, p.x.high, p.y.value, p.y.low, p.y.high)]

    pairs = list(zip(numbers(one), numbers(other), strict=False))
    return bool(one) and len(one) == len(other) and all(
        a == b or (not isinstance(a, str) and not isinstance(b, str) and abs(a - b) <= EQUAL * max(abs(a), abs(b)))
        for a, b in pairs
    )  # fmt: skip


def _all_equal(panels: list[Curves], one: str, other: str) -> bool:
    return all(
        (one in curves) == (other in curves) and (one not in curves or are_equal(curves[one], curves[other]))
        for curves in panels
    )


def _merge(seeds: list[tuple[Figure, Figure]]) -> Point:
    (x, y), values = seeds[0], [own.value for _, own in seeds]
    if len(seeds) == 1:
        return Point(x, y, y.value, y.value)
    over = x if len({own.value for own, _ in seeds}) == 1 else average([own.value for own, _ in seeds])
    return Point(over, average(values), min(values), max(values))


def _values(name: str, record: Record, arrays: dict[str, Any]) -> list[Figure]:
    if not name.startswith("@"):
        measure = record.measure(name)
        return [Figure(lookup(record, name), measure.interval if measure else None)]
    array = require_array(arrays, name, record)
    if array.ndim != 1:
        raise UsageError(f"{record.cell.entry}: {name!r} has the shape {tuple(array.shape)}; (n,) is accepted")
    return [Figure(value) for value in array.tolist()]


def _require_one_of_a_seed(spec: LinePlot, records: list[Record]) -> None:
    seen: dict[tuple[str, int], Record] = {}
    for record in records:
        if not spec.y.startswith("@") and lookup(record, spec.y) is None:
            continue
        x = "" if spec.x == "index" or spec.x.startswith("@") else label(lookup(record, spec.x))
        if seen.setdefault((x, record.cell.seed), record) is not record:
            raise UsageError(
                f"{record.cell.entry} is there twice: narrow `where`, or name what differs as series or facet"
            )

"""Whether two columns of a table rank its rows alike: rank correlations per seed, and their mean over the seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from bench.records.record import Record
from bench.report.figure import Figure
from bench.report.select import label, lookup, show

Rows = dict[tuple[str, ...], list[Record]]


def compare_rankings(rows: Rows, measure: str, column: str, reference: str) -> list[str]:
    """A sentence per value of the parameter ``column``: how its ranking of the rows agrees with that of ``reference``.

    Kendall's tau-b and Spearman's rho of the figures of one seed, their means over the seeds that both have, and
    Student's 95 % intervals of these. A value that shares fewer than three rows in every seed has no sentence.
    """
    values = dict.fromkeys(label(lookup(record, column)) for own in rows.values() for record in own)
    said = []
    for other in values:
        if other == reference or reference not in values:
            continue
        pairs = [pair for pair in _pairs(rows, measure, column, reference, other) if len(pair) >= 3]
        if not pairs:
            continue
        from scipy.stats import kendalltau, spearmanr

        tau, rho = (_correlate(function, pairs) for function in (kendalltau, spearmanr))
        if not tau or not rho:
            continue
        alike = (1 + fmean(tau)) / 2
        seeds = f"{len(pairs)} seeds" if len(pairs) > 1 else "one seed"
        said.append(
            f"The ranking by {measure} on {other} and that on {reference}, of {max(map(len, pairs))} rows: Kendall's "
            f"tau {_interval(tau)}, Spearman's rho {_interval(rho)}, over {seeds}. The better of two on {other} is the "
            f"better on {reference} in {100 * alike:.0f} % of the pairs."
        )
    return said


def _pairs(rows: Rows, measure: str, column: str, one: str, other: str) -> list[list[tuple[float, float]]]:
    """The figures of both columns by seed, of the rows that have both."""
    found: dict[int, list[tuple[float, float]]] = {}
    for own in rows.values():
        figures: dict[tuple[str, int], float] = {}
        for record in own:
            value = record.value(measure) if record.status == "ok" else None
            if value is not None and math.isfinite(value):
                figures[label(lookup(record, column)), record.cell.seed] = value
        for seed in {seed for _, seed in figures}:
            if (one, seed) in figures and (other, seed) in figures:
                found.setdefault(seed, []).append((figures[one, seed], figures[other, seed]))
    return [found[seed] for seed in sorted(found)]


def _correlate(function: Callable[..., tuple[float, float]], pairs: Sequence[list[tuple[float, float]]]) -> list[float]:
    """The correlation of each seed; of a column of equal figures there is none."""
    apart = [pair for pair in pairs if all(len(set(side)) > 1 for side in zip(*pair, strict=True))]
    return [float(function(*zip(*pair, strict=True))[0]) for pair in apart]


def _interval(values: list[float]) -> str:
    """The mean with Student's interval of it, cut to [-1, 1]; of one value itself."""
    figure = Figure(dict(enumerate(values)))
    if figure.ends is None:
        return show(figure.value)
    low, high = figure.ends
    return f"{show(figure.value)} [{show(max(low, -1.0))}, {show(min(high, 1.0))}]"

"""Sentences computed from figures: which entry is best and by how much, what is tied, which rows answer yes, extremes.

Each is a clause without a full stop, so that several make one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from bench.report.figure import Figure, rank, show_ratio
from bench.report.select import show
from bench.task import Direction

SPOKEN = ("s", "ms", "nats")  # units that are said
NAMED = 3  # entries that a clause names; the rest are counted

Group = Mapping[str, Figure]  # by entry


def conclude(name: str, figures: Group, direction: Direction, unit: str = "") -> str:
    """Which entry is best by the measure ``name``, or which are tied, and by how much the next is behind."""
    ranks = rank(figures, direction)
    best = [entry for entry, place in ranks.items() if place == 1]
    rest = [entry for entry in ranks if ranks[entry] > 1]
    values = [figures[entry].value for entry in best]
    at = " to ".join(dict.fromkeys([_show(min(values), name), _show(max(values), name)])) + _unit(unit)
    if len(ranks) == 1:
        return f"{best[0]} is alone: its {name} is {at}"
    if not rest:
        same = "have the same" if len(set(values)) == 1 else "are not told apart by"
        return f"all {len(best)} entries {same} {name}, {at}"
    extreme = "highest" if direction == "higher" else "lowest"
    follower = f"{rest[0]} follows with {_show(figures[rest[0]].value, name)}{_unit(unit)}"
    if len(best) == 1:
        margin = _margin(values[0], figures[rest[0]].value)
        return f"{best[0]} has the {extreme} {name} of {len(ranks)} entries, {at}; {follower}, {margin}"
    if len(set(values)) == 1 and len(best) > NAMED + 1:
        return f"{len(best)} of {len(ranks)} entries share the {extreme} {name}, {at}; {follower}"
    if len(set(values)) == 1:
        return f"{count(best)} share the {extreme} {name} of {len(ranks)} entries, {at}; {follower}"
    return f"{count(best)} are not told from the {extreme} {name} of {len(ranks)} entries, {at}; {follower}"


def conclude_groups(name: str, groups: Mapping[str, Group], direction: Direction, unit: str = "") -> str:
    """Which entries are best by a measure, or not told from the best, in how many of several settings."""
    found = {setting: figures for setting, figures in groups.items() if len(figures) > 1}
    if len(found) == 1:
        return conclude(name, next(iter(found.values())), direction, unit)
    if not found:
        return spread(name, {f"{entry} at {at}": one for at, each in groups.items() for entry, one in each.items()})
    wins: dict[str, list[str]] = {}
    for setting, figures in found.items():
        for entry in (entry for entry, place in rank(figures, direction).items() if place == 1):
            wins.setdefault(entry, []).append(setting)
    most = sorted(wins, key=lambda entry: (-len(wins[entry]), entry))
    first = [entry for entry in most if wins[entry] == wins[most[0]]]
    number = len(wins[most[0]])
    in_all = f"in all {len(found)} settings" if number == len(found) else f"in {number} of {len(found)} settings"
    named = f" ({', '.join(wins[most[0]])})" if number <= NAMED and number < len(found) else ""
    text = f"{count(first)} {'has' if len(first) == 1 else 'have'} the best {name}, alone or tied, {in_all}{named}"
    others = [f"{entry} in {len(wins[entry])}" for entry in most if entry not in first]
    return "; ".join([text, *([count(others)] if others else [])])


def compare_times(groups: Mapping[str, Group]) -> list[str]:
    """What ratios of times say: per setting, how much faster or slower entries are than the one that they are held to.

    That one has the ratio 1. More than a few settings are summed up in one clause.
    """
    clauses: list[str] = []
    faster: list[tuple[float, str]] = []
    slower: list[tuple[float, str]] = []
    for setting, figures in groups.items():
        reference = next((entry for entry, one in figures.items() if one.value == 1), None)
        others = {entry: one for entry, one in figures.items() if entry != reference}
        if reference is None or not others:
            continue
        order = sorted(others, key=lambda entry: others[entry].value)
        ends = list(dict.fromkeys([order[0], order[-1]]))
        told = " and ".join(f"{entry} is {_beside(others[entry], reference)}" for entry in ends)
        apart = [entry for entry in order if not _as_fast(others[entry])]
        if apart and others[apart[0]].value < 1:
            faster.append((others[apart[0]].value, f"{apart[0]} than {reference}"))
        if apart and others[apart[-1]].value > 1:
            slower.append((others[apart[-1]].value, f"{apart[-1]} than {reference}"))
        clauses.append(told + (f" ({setting})" if setting else ""))
    if len(clauses) <= NAMED + 1:
        return clauses
    parts = []
    if faster:
        most, pair = min(faster)
        parts.append(f"{len(faster)} of {len(clauses)} are faster than what they are held to, most of all "
                     f"{pair} ({show_ratio(most)})")  # fmt: skip
    if slower:
        most, pair = max(slower)
        parts.append(f"{len(slower)} of {len(clauses)} are slower, most of all {pair} ({show_ratio(most)})")
    return ["; ".join(parts) or f"none of {len(clauses)} is told from what it is held to by its time"]


def _as_fast(ratio: Figure) -> bool:
    """Whether the interval of a ratio of times holds 1."""
    return ratio.ends is not None and ratio.ends[0] <= 1 <= ratio.ends[1]


def _beside(ratio: Figure, reference: str) -> str:
    return f"as fast as {reference}" if _as_fast(ratio) else f"{show_ratio(ratio.value)} than {reference}"


def answer(name: str, figures: Mapping[str, Figure]) -> str:
    """How many rows answer yes to a measure of yes and no, and which answer no."""
    no = [row for row, one in figures.items() if one.value < 1]
    if not no:
        return f"{name}: yes for all {len(figures)}"
    return f"{name}: yes for {len(figures) - len(no)} of {len(figures)}, no for {count(no)}"


def spread(name: str, figures: Mapping[str, Figure], unit: str = "") -> str:
    """Between which values a measure lies that is neither better high nor low, and in which rows."""
    order = sorted(figures, key=lambda row: (figures[row].value, row))
    low, high = figures[order[0]].value, figures[order[-1]].value
    if low == high:
        return f"{name} is {show(low)}{_unit(unit)} throughout"
    middle = f", {show(fmean(one.value for one in figures.values()))} on average" if len(figures) > 2 else ""
    return f"{name} lies between {show(low)} ({order[0]}) and {show(high)}{_unit(unit)} ({order[-1]}){middle}"


def count(names: Sequence[str], named: int = NAMED) -> str:
    """Names as a list in words, the first few by name and the rest as a number."""
    shown = list(names) if len(names) <= named + 1 else [*names[:named], f"{len(names) - named} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _show(value: float, name: str) -> str:
    return show_ratio(value) if name == "ratio" else show(value)


def _unit(unit: str) -> str:
    return f" {unit}" if unit in SPOKEN else ""


def _margin(best: float, following: float) -> str:
    """How far the next is from the best, relative to the best: in percent, from twice on as a factor."""
    low, high = sorted((best, following))
    if low <= 0:
        return f"a difference of {show(high - low)}"
    if best == low:
        return f"{_percent(following / best - 1)} more" if high < 2 * low else f"{high / low:.3g} times as much"
    return f"{_percent(1 - following / best)} less" if high < 2 * low else f"a factor of {high / low:.3g} less"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"

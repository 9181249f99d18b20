"""Differences of what is compared, in words, in JSON and as the cells of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.paired import PairedDifference

HEADER = ["difference", "95 % interval", "p (Holm)", "detectable", "verdict"]
MEANING = (
    "detectable: the difference that would be told in four of five repetitions; p is by Holm, and the intervals hold at"
    " once, over all pairs"
)


def phrase(found: PairedDifference, pair: tuple[str, str], better: str) -> str:
    """A verdict as a clause: which of a pair is better than the other, or that they are not told apart."""
    verdict = found.verdict(pair, better)
    if verdict == "not told apart":
        return f"{pair[0]} and {pair[1]} are not told apart"
    return f"{verdict} than {pair[verdict.startswith(f'{pair[0]} is')]}"


def conclude(found: PairedDifference, pair: tuple[str, str], better: str) -> str:
    """A verdict as a clause, with the difference and its interval."""
    low, high = found.interval
    said = f"{pair[0]} minus {pair[1]} is {found.mean:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}"
    return f"{phrase(found, pair, better)} ({said})"


def tell_difference(found: PairedDifference, pair: tuple[str, str], better: str) -> dict[str, Any]:
    """A difference for JSON, with its verdict."""
    return {
        "difference": found.mean, "interval": list(found.interval), "p_value": found.p_value,
        "detectable": found.detectable, "verdict": found.verdict(pair, better),
    }  # fmt: skip


def show_difference(found: PairedDifference, pair: tuple[str, str], better: str) -> list[str]:
    """The cells of a difference under ``HEADER``."""
    low, high = found.interval
    p = f"{found.p_value:.2g}" if found.p_value >= 1e-4 else "below .0001"
    return [
        f"{found.mean:+.4g}", f"{low:+.4g} to {high:+.4g}", p, f"{found.detectable:.4g}", found.verdict(pair, better),
    ]  # fmt: skip

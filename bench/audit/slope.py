"""The slope of a ladder of errors, and when a ladder has none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.audit.finding import Undecided
from metrics import fit_order

ROUNDING = 1e-11  # errors below this are rounding in float64 and say nothing about the order
MARGIN = 10  # nor do errors within this factor of the sampler's own rounding
FLAT = 0.5  # with a slope below this, the errors are taken not to converge


def least_error(rounding: float, least: float = ROUNDING) -> float:
    """The least error that counts in a ladder of step counts: what rounding leaves of a sampler's state.

    ``rounding`` is the relative rounding of the state.
    """
    return max(least, MARGIN * rounding)


def slope(steps: Sequence[int], errors: Sequence[float], rounding: float, *, last: bool = False,
          least: float = ROUNDING) -> float:  # fmt: skip
    """The order of accuracy that a ladder of errors shows: minus the slope of log error over log steps.

    It is by least squares, or (``last``) of the last doubling. Errors at the level of rounding are left out. The slope
    is infinite where all errors are at most ``least``, whatever the number of steps. It is 0 where the errors do not
    converge: one is not finite, the last one rises, or the slope is below 0.5. Raises Undecided where rounding leaves
    fewer than two errors.
    """
    if not all(math.isfinite(error) for error in errors):
        return 0.0
    if max(errors) <= least:
        return math.inf
    above = [(n, error) for n, error in zip(steps, errors, strict=True) if error > least_error(rounding, least)]
    if len(above) < 2:
        raise Undecided(
            f"no slope: of the errors {format_errors(errors)} fewer than two lie above {MARGIN} times its own "
            f"rounding, {rounding:.2g} of its state"
        )
    (n, before), (m, after) = above[-2:]
    found = math.log(before / after) / math.log(m / n)
    if not last and found > 0:
        found = fit_order(*zip(*above, strict=True)).slope
    return found if found >= FLAT else 0.0


def format_errors(errors: Sequence[float]) -> str:
    """Write a ladder of errors as text, with three digits each."""
    return ", ".join(f"{error:.3g}" for error in errors)

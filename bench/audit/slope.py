"""When a ladder of errors has a slope, and when it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.audit.finding import Undecided
from metrics import fit_order

ROUNDING = 1e-11  # an error below it says nothing of an order in float64
MARGIN = 10  # an error within this factor of the sampler's own rounding says nothing either
FLAT = 0.5  # a slope below it is no order: the errors do not fall


def floor(rounding: float, least: float = ROUNDING) -> float:
    """The error from which on a ladder counts, for a sampler that rounds its state as coarsely as ``rounding``."""
    return max(least, MARGIN * rounding)


def slope(steps: Sequence[int], errors: Sequence[float], rounding: float, *, last: bool = False,
          least: float = ROUNDING) -> float:  # fmt: skip
    """Slope of log error over log steps, by least squares or (``last``) of the last doubling; 0 where it is flat.

    Errors at the level of rounding are left out; infinite where all are there at any number of steps, so that there is
    no error to fall. 0 says that the errors do not converge: the last one rises, or their slope is below 0.5.
    Raises Undecided where rounding leaves fewer than two errors.
    """
    if not all(math.isfinite(error) for error in errors):
        return 0.0
    if max(errors) <= least:
        return math.inf
    above = [(n, error) for n, error in zip(steps, errors, strict=True) if error > floor(rounding, least)]
    if len(above) < 2:
        raise Undecided(
            f"no slope: of the errors {said(errors)} fewer than two lie above {MARGIN} times its own rounding, "
            f"{rounding:.2g} of its state"
        )
    (n, before), (m, after) = above[-2:]
    found = math.log(before / after) / math.log(m / n)
    if not last and found > 0:
        found = fit_order(*zip(*above, strict=True)).slope
    return found if found >= FLAT else 0.0


def said(errors: Sequence[float]) -> str:
    """Errors in a few digits."""
    return ", ".join(f"{error:.3g}" for error in errors)

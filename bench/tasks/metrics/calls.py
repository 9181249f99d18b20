"""A metric of images by its name, as a function of two sets of features; what a user's own may return."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from torch import Tensor

from bench.errors import printable
from bench.tasks.returns import describe_return
from metrics.catalogue import Metric
from metrics.uncertainty import NORMAL, Estimate

RETURNED = "a number, a tensor of one, or a named tuple with `value` (and `low` and `high`, its interval) is accepted"


def bind(metric: Metric, seed: int) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """A metric as a function of two sets of features, ``(real, generated) -> {field: value}``.

    The fields ``low`` and ``high`` are the ends of its interval, where the metric gives one itself. The function raises
    ValueError where the metric returns anything but numbers. A metric of the user's gets copies, since it may write
    into them, and what it raises is a ValueError too.
    """
    function = metric.resolve()
    options = {"seed": seed} if metric.seeded else {}

    def call(real: Tensor, generated: Tensor) -> dict[str, float]:
        sides = (generated,) if metric.sides == "generated" else (real, generated)
        if not metric.own:
            return read_result(metric, function(*sides, **options))
        try:
            found = function(*(side.clone() for side in sides), **options)
        except (Exception, SystemExit) as error:
            raise ValueError(printable(f"it raised {type(error).__name__}: {error}")) from error
        return read_result(metric, found)

    return call


def read_result(metric: Metric, result: Any) -> dict[str, float]:
    """What a metric returned, as numbers by field; raises ValueError on anything else, and of a user's on NaN."""
    first = next(iter(metric.quantities), "")
    if not hasattr(result, "_asdict"):
        return {first: _number(metric, result)}
    values = {key: _number(metric, value) for key, value in result._asdict().items()}
    if first not in values:
        raise ValueError(f"it returned {type(result).__name__} with {', '.join(values) or 'nothing'}; {RETURNED}")
    if isinstance(result, Estimate) and math.isfinite(result.standard_error):
        reach = NORMAL * result.standard_error
        values |= {"low": result.value - reach, "high": result.value + reach}
    return values


def _number(metric: Metric, found: Any) -> float:
    if isinstance(found, Real) or (hasattr(found, "shape") and math.prod(found.shape) == 1):
        try:
            value = float(found)
        except (TypeError, ValueError, OverflowError):  # such as an array of texts
            raise ValueError(f"it returned {found!r:.80}; {RETURNED}") from None
        if metric.own and not math.isfinite(value):
            raise ValueError(f"it returned {value}; a finite number is accepted")
        return value
    raise ValueError(f"it returned {describe_return(found)}; {RETURNED}")

"""How sure a figure is: intervals by resampling rows, and the floor that real data reach against real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor


class Estimate(NamedTuple):
    """A value and its standard error; ``float()`` is the value."""

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


class Floor(NamedTuple):
    """Real against real at one n: the mean over draws, and the interval that holds most of them."""

    mean: float
    low: float
    high: float


def bootstrap(
    function: Callable[..., Any],
    *arrays: Tensor,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    paired: bool = False,
    kind: Literal["halves", "percentile"] = "halves",
) -> tuple[float, float]:
    """The interval (low, high) of ``function(*arrays)`` at a level, by resampling the rows of every array.

    ``halves`` draws m = n / 2 rows without replacement and lays the deviations from their mean, times
    ``sqrt(m / (n - m))``, around the value (Politis, Romano and Wolf, 1999): it repeats no row, which nearest
    neighbours, kernels and ranks take for a cluster, and the larger bias of a half drops out: at .95, it holds the mean
    Fréchet distance of 8 features at n = 100 in 93 % of draws, the other in 62 %. ``percentile`` draws n rows with
    replacement and takes the quantiles (Efron, 1979): for means and shares, whose bounds it keeps. ``paired``
    draws the same rows of every array. The same for one seed. Raises ValueError on fewer than 2 rows, unequal rows that
    are paired, resamples < 2, a level outside (0, 1) and another kind.
    """
    rows = [len(array) for array in arrays]
    if not rows or min(rows) < 2:
        raise ValueError(f"the arrays have {rows} rows; at least one array, of at least 2 rows, is accepted")
    if paired and len(set(rows)) > 1:
        raise ValueError(f"the arrays have {rows} rows; paired ones have equal numbers")
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"resamples is {resamples} and level is {level}; from 2 and between 0 and 1 are accepted")
    if kind not in ("halves", "percentile"):
        raise ValueError(f"kind is {kind!r}; 'halves' and 'percentile' are accepted")
    generator = torch.Generator().manual_seed(seed)

    def pick(n: int) -> Int64[Tensor, " m"]:
        if kind == "percentile":
            return torch.randint(n, (n,), generator=generator)
        return torch.randperm(n, generator=generator)[: n // 2]

    values = []
    for _ in range(resamples):
        picks = [pick(rows[0])] * len(rows) if paired else [pick(n) for n in rows]
        drawn = (array[chosen.to(array.device)] for array, chosen in zip(arrays, picks, strict=True))
        values.append(float(function(*drawn)))
    found = torch.tensor(values, dtype=torch.float64)
    if kind == "halves":
        n = min(rows)  # an odd n is cut a little below its half; the smaller array has the say
        found = float(function(*arrays)) + (found - found.mean()) * (n // 2 / (n - n // 2)) ** 0.5
    return _interval(found, level)


def floor(
    function: Callable[..., Any], reference: Tensor, n: int, *, draws: int = 20, seed: int = 0, level: float = 0.95
) -> Floor:
    """``function(x, y)`` over random disjoint parts x and y, of n rows each, of the reference: what no model can beat.

    Draws share rows where the reference has fewer than ``2 n draws``; the interval is then too narrow. The same for one
    seed. Raises ValueError where the reference has fewer than 2 n rows, and on draws < 2.
    """
    if n < 1 or len(reference) < 2 * n:
        raise ValueError(f"n is {n} and the reference has {len(reference)} rows; n from 1 to half of them is accepted")
    if draws < 2 or not 0 < level < 1:
        raise ValueError(f"draws is {draws} and level is {level}; from 2 and between 0 and 1 are accepted")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        x, y = torch.randperm(len(reference), generator=generator)[: 2 * n].to(reference.device).split(n)
        values.append(float(function(reference[x], reference[y])))
    found = torch.tensor(values, dtype=torch.float64)
    return Floor(float(found.mean()), *_interval(found, level))


def _interval(values: Tensor, level: float) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)).tolist()
    return low, high

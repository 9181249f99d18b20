"""How sure a figure is: intervals by resampling rows, and the floor that real data reach against real data.

An interval by resampling is one of the figure *at this n*: of its mean over other samples of as many rows. Where the
figure is biased (FD, precision, Vendi) that is not the figure of the laws.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import scipy.stats
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
    """Real against real at one n: the mean over draws, and the range in which most further draws lie."""

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

    ``halves`` draws m = n / 2 rows without replacement, takes the deviation s of the values, times
    ``sqrt(m / (n - m))``, and gives the value ± t s of ``resamples - 1`` degrees of freedom (Politis, Romano and Wolf,
    1999): it repeats no row, which nearest neighbours, kernels and ranks take for a cluster, and the larger bias of a
    half drops out. ``percentile`` draws n rows with replacement and takes the quantiles (Efron, 1979): for means and
    shares, whose bounds it keeps, and with 200 resamples and more, for fewer have their 2.5th percentile further in.
    ``paired`` draws the same rows of every array. Either is of the figure at this n; results/coverage has how often
    they hold it. The same for one seed. Raises ValueError on fewer than 2 rows, unequal rows that are paired,
    resamples < 2, a level outside (0, 1) and another kind.
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
        value, reach = float(function(*arrays)), _student(resamples, level) * float(found.std())
        reach *= (n // 2 / (n - n // 2)) ** 0.5
        return value - reach, value + reach
    low, high = found.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=found.dtype)).tolist()
    return low, high


def floor(
    function: Callable[..., Any], reference: Tensor, n: int, *, draws: int = 20, seed: int = 0, level: float = 0.95
) -> Floor:
    """``function(x, y)`` over random disjoint parts x and y, of n rows each, of the reference: what no model can beat.

    The range is Student's prediction interval (``prediction_interval``). Draws share rows where the reference has fewer
    than ``2 n draws``; they then lie closer together than draws of other data. The same for one seed. Raises ValueError
    where the reference has fewer than 2 n rows, and on draws < 2.
    """
    if n < 1 or len(reference) < 2 * n:
        raise ValueError(f"n is {n} and the reference has {len(reference)} rows; n from 1 to half of them is accepted")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        x, y = torch.randperm(len(reference), generator=generator)[: 2 * n].to(reference.device).split(n)
        values.append(float(function(reference[x], reference[y])))
    return prediction_interval(values, level)


def extrapolated_floor(
    function: Callable[..., Any],
    reference: Tensor,
    n: int,
    *,
    power: float = 1.0,
    draws: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> Floor:
    """``function(reference, y)`` of n rows y of the reference's law that are not among it, as it has no such rows.

    Disjoint parts x and y of the N rows keep the ratio N : n, once as large as can be, ``c = N / (N + n)`` of both
    numbers, and once half of that. The mean is read off the line in ``n^-power`` through the two; deviations from it
    shrink as ``n^-power``. The power is 1 for squared distances (both bias and chance of equal laws go as 1/n), 1/2
    for distances and shares. The range is that in which a further value lies (Student's prediction interval), given
    the reference. The same for one seed. Raises ValueError where n is above 3 N, which is too far from what the
    reference can show, and on draws < 2.
    """
    rows = len(reference)
    if not 1 <= n <= 3 * rows:
        raise ValueError(f"n is {n} and the reference has {rows} rows; n from 1 to three times as many is accepted")
    _check_draws(draws, level)
    generator = torch.Generator().manual_seed(seed)
    share = rows / (rows + n)
    sizes = [(round(part * rows), round(part * n)) for part in (share, share / 2)]
    sizes[0] = (rows - sizes[0][1], sizes[0][1])
    values = []
    for _ in range(draws):
        order = torch.randperm(rows, generator=generator).to(reference.device)
        values.append([float(function(reference[order[:x]], reference[order[x : x + y]])) for x, y in sizes])
    large, small = torch.tensor(values, dtype=torch.float64).unbind(1)
    # In units of what n^-power is at the large parts: 1 there, 2^power at the small ones, share^power at the sides.
    found = large + (large - small) * (1 - share**power) / (2**power - 1)
    spread = float(large.var()) * share ** (2 * power) + float(found.var()) / draws
    reach = _student(draws, level) * spread**0.5
    return Floor(float(found.mean()), float(found.mean()) - reach, float(found.mean()) + reach)


def prediction_interval(values: Sequence[float], level: float = 0.95) -> Floor:
    """The mean of independent draws, and the range in which one further draw lies at the level.

    ``mean ± t sd sqrt(1 + 1/k)`` with Student's t of k - 1 degrees of freedom (exact for normal draws): it is wider
    than an interval of the mean, and than the quantiles of few draws. Raises ValueError on fewer than 2 values.
    """
    k = len(values)
    _check_draws(k, level)
    mean = statistics.fmean(values)
    reach = _student(k, level) * statistics.stdev(values) * (1 + 1 / k) ** 0.5
    return Floor(mean, mean - reach, mean + reach)


def _student(k: int, level: float) -> float:
    return float(scipy.stats.t.ppf((1 + level) / 2, k - 1))


def _check_draws(draws: int, level: float) -> None:
    if draws < 2 or not 0 < level < 1:
        raise ValueError(f"draws is {draws} and level is {level}; from 2 and between 0 and 1 are accepted")

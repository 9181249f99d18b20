"""Uncertainty of figures: intervals by resampling rows, and the floor, which is the figure of real against real data.

An interval by resampling covers the figure *at this n*: its mean over other samples with as many rows. Where the figure
is biased (FD, precision, Vendi), that is not the figure of the distributions.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int64
from scipy.special import stdtrit  # scipy.stats takes more than a second to import
from torch import Tensor

from metrics.floors import Floor

NORMAL = 1.959964  # half the width of a 95 % interval of a normal, in standard errors


class Estimate(NamedTuple):
    """An estimate of a metric and its standard error; ``float()`` gives the value."""

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


def bootstrap(
    function: Callable[..., Any],
    *arrays: Tensor,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    paired: bool = False,
    kind: Literal["halves", "percentile"] = "halves",
) -> tuple[float, float]:
    """Confidence interval (low, high) of a figure ``function(*arrays)`` at this n, by resampling rows.

    The rows of every array are drawn anew. ``halves`` draws m = n / 2 rows without replacement and gives

        value ± t s,    s = sqrt(m / (n - m)) deviation of the values of the draws

    with Student's t of ``resamples - 1`` degrees of freedom (Politis, Romano and Wolf, 1999). No row is repeated, which
    nearest neighbours, kernels and ranks would take for a cluster, and the larger bias of a half cancels.
    ``percentile`` draws n rows with replacement and takes the quantiles (Efron, 1979). It is for means and shares,
    whose range it keeps, and for 200 resamples or more, since the 2.5th percentile of fewer lies too far in. ``paired``
    draws the same rows of every array. Both kinds cover the figure at this n; results/coverage has how often. One seed
    gives the same result. Raises ValueError on fewer than 2 rows, unequal numbers of rows that are paired, fewer than 2
    resamples, a level outside (0, 1) and another kind.
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
        n = min(rows)  # an odd n has a half that is a little smaller; the smaller array decides
        value, reach = float(function(*arrays)), _student(resamples, level) * float(found.std())
        reach *= (n // 2 / (n - n // 2)) ** 0.5
        return value - reach, value + reach
    low, high = found.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=found.dtype)).tolist()
    return low, high


def split_figures(
    function: Callable[..., Mapping[str, float]], names: Iterable[str]
) -> Iterator[tuple[str, Callable[..., float]]]:
    """Make one function per figure of a ``function`` that returns several, so that each can have its interval or floor.

    ``bootstrap`` and the floors of one seed draw the same rows, in the same order, for each figure, so that
    ``function`` is called for the first figure alone, and its k-th result serves the k-th call of all others.
    """
    results: list[Mapping[str, float]] = []
    for name in names:
        calls = itertools.count()

        def value(*sides: Tensor, name: str = name, calls: Iterator[int] = calls) -> float:
            if (call := next(calls)) == len(results):
                results.append(function(*sides))
            return results[call][name]

        yield name, value


def floor(
    function: Callable[..., Any], reference: Tensor, n: int, *, draws: int = 20, seed: int = 0, level: float = 0.95
) -> Floor:
    """The figure of real against real data: ``function(x, y)`` of random disjoint parts of the reference, n rows each.

    No model is expected below it. The range is Student's prediction interval (``prediction_interval``). Draws share
    rows where the reference has fewer than ``2 n draws`` rows; they then vary less than draws of new data would. One
    seed gives the same result. Raises ValueError where the reference has fewer than 2 n rows, and on draws < 2.
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
    """The figure of the whole reference against n further real rows, ``function(reference, y)``, extrapolated.

    Such rows do not exist. So the N rows are split into disjoint parts x and y in the ratio N : n, once as large as
    possible, which is ``c = N / (N + n)`` times both numbers, and once half as large. The line in ``n^-power`` through
    the two values gives the mean at N and n; deviations from it shrink as ``n^-power``. The power is 1 for squared
    distances (of equal distributions, bias and deviation both go as 1/n), and 1/2 for distances and shares. The range
    is the one in which a further value lies (Student's prediction interval), given the reference. One seed gives the
    same result. Raises ValueError where n is above 3 N, which is too far to extrapolate, and on draws < 2.
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
    # n^-power in units of its value at the large parts: 1 there, 2^power at the small parts, share^power at N and n.
    found = large + (large - small) * (1 - share**power) / (2**power - 1)
    spread = float(large.var()) * share ** (2 * power) + float(found.var()) / draws
    reach = _student(draws, level) * spread**0.5
    return Floor(float(found.mean()), float(found.mean()) - reach, float(found.mean()) + reach)


def prediction_interval(values: Sequence[float], level: float = 0.95) -> Floor:
    """The mean of independent draws of a figure, and the range in which a further draw lies at the level.

    The range is ``mean ± t sd sqrt(1 + 1/k)`` with Student's t of k - 1 degrees of freedom (exact for normal draws). It
    is wider than the interval of the mean, and than the quantiles of few draws. Raises ValueError on fewer than 2
    values.
    """
    k = len(values)
    _check_draws(k, level)
    mean = statistics.fmean(values)
    reach = _student(k, level) * statistics.stdev(values) * (1 + 1 / k) ** 0.5
    return Floor(mean, mean - reach, mean + reach)


def _student(k: int, level: float) -> float:
    return float(stdtrit(k - 1, (1 + level) / 2))


def _check_draws(draws: int, level: float) -> None:
    if draws < 2 or not 0 < level < 1:
        raise ValueError(f"draws is {draws} and level is {level}; from 2 and between 0 and 1 are accepted")

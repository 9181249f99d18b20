"""The Fréchet distance of two distributions from finite samples, whose own distance is too large and falls with n.

``debiased_frechet_distance`` removes the bias by half samples, and its interval covers the distance of the
distributions. ``fd_infinity`` is the published extrapolation over the number of generated samples (1911.07023), which
leaves the bias of the reference.
"""

from __future__ import annotations

import functools
import itertools
import operator
import statistics
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.frechet import FeatureStatistics, frechet_distance

GROUPS = 20  # of rows, for the jackknife


class FdInfinity(NamedTuple):
    """FD-infinity, the intercept of the squared Fréchet distance d² against 1 / n, with its error and the slope.

    ``float()`` gives the intercept.
    """

    value: float
    standard_error: float
    slope: float

    def __float__(self) -> float:
        return self.value


class DebiasedDistance(NamedTuple):
    """The squared Fréchet distance of two distributions without the bias of finite n, its interval and standard error.

    ``float()`` gives the distance.
    """

    value: float
    low: float
    high: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


@takes_arrays("x", "y")
def debiased_frechet_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, splits: int = 4, level: float = 0.95, seed: int = 0
) -> DebiasedDistance:
    """The squared Fréchet distance d² of the distributions of x and y, without the bias of finite n.

    It may lie below 0.

        2 d²(k rows of x, k rows of y) - mean over halves of d²(k / 2 rows of x, k / 2 rows of y),    k = min(n, m)

    averaged over ``splits`` random cuts, or over ``max(n, m) / k`` where that is more, so that the longer side takes
    part whole (but for a remainder of fewer than k rows). At equal n the bias of d² is nearly ``a / n``, so that it
    doubles in the halves (Quenouille, 1956); at unequal numbers more of it would remain. The standard error is that of
    the jackknife of d² over ``GROUPS`` groups of rows per side, and the interval is Student's with ``GROUPS - 1``
    degrees of freedom; results/coverage has how often it contains the distance of the distributions. One seed gives the
    same result. Raises ValueError below 2 d + 2 rows per side (the covariances of the halves would be singular) or
    below ``2 GROUPS``, on splits < 1, on a level outside (0, 1), and as ``frechet_distance`` does.
    """
    k, d = min(len(x), len(y)), x.shape[1]
    least = max(2 * d + 2, 2 * GROUPS)
    if k < least or splits < 1 or not 0 < level < 1:
        raise ValueError(
            f"there are {k} rows of {d} features, splits is {splits} and level is {level}; at least {least} rows"
            " (2 d + 2), 1 split and a level between 0 and 1 are accepted"
        )
    generator = torch.Generator().manual_seed(seed)
    parts = zip(_parts(x, k, generator), _parts(y, k, generator), strict=False)
    values = []
    for a, b in itertools.islice(parts, max(splits, -(-max(len(x), len(y)) // k))):
        quarters = [[FeatureStatistics.from_features(half) for half in side.chunk(2)] for side in (a, b)]
        whole = frechet_distance(*(first + second for first, second in quarters))
        values.append(2 * whole - sum(frechet_distance(*pair) for pair in zip(*quarters, strict=True)) / 2)
    value, error = sum(values) / len(values), _jackknife(x, y, generator)
    reach = float(stdtrit(GROUPS - 1, (1 + level) / 2)) * error
    return DebiasedDistance(value, value - reach, value + reach, error)


@takes_arrays("x", "y")
def fd_infinity(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    points: int = 15,
    smallest: int | None = None,
    vary: Literal["y", "both"] = "y",
    seed: int = 0,
) -> FdInfinity:
    """FD-infinity (1911.07023): the intercept of the squared Fréchet distance d² against 1 / n, over random subsets.

    It is fitted by least squares to ``points`` subsets from ``smallest`` rows to all. As published, subsets are of the
    generated side ``y``, and ``x`` is a fixed reference, whose own bias remains; ``vary="both"`` takes n rows of both
    sides and extrapolates both. ``smallest`` defaults to a tenth of the rows (the paper: 5,000 of 50,000); up to n = d
    the points are not on a line. The standard error is that of the fit: subsets share rows, so that the sampling error
    of the features themselves is larger. One seed gives the same result. Raises ValueError on points < 3, on
    ``smallest`` below 2 or not below the number of rows, and as ``frechet_distance`` does.
    """
    if vary not in ("y", "both"):
        raise ValueError(f"vary is {vary!r}; 'y' and 'both' are accepted")
    largest = len(y) if vary == "y" else min(len(x), len(y))
    smallest = max(largest // 10, 2) if smallest is None else smallest
    if points < 3 or not 2 <= smallest < largest:
        raise ValueError(
            f"points is {points} and smallest is {smallest} of {largest} rows; 3 points and 2 rows to fewer than all "
            "are accepted"
        )
    generator = torch.Generator().manual_seed(seed)

    def part(features: Float[Tensor, "n d"], n: int) -> FeatureStatistics:
        chosen = torch.randperm(len(features), generator=generator)[:n]
        return FeatureStatistics.from_features(features[chosen.to(features.device)])

    reference = FeatureStatistics.from_features(x) if vary == "y" else None
    sizes = torch.linspace(smallest, largest, points, dtype=torch.float64).round().long().tolist()
    found = [frechet_distance(reference or part(x, n), part(y, n)) for n in sizes]
    inverse, values = 1 / torch.tensor(sizes, dtype=torch.float64), torch.tensor(found, dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = (centred @ values) / (centred @ centred)
    value = values.mean() - slope * inverse.mean()
    variance = (values - value - slope * inverse).square().sum() / (points - 2)
    error = (variance * (1 / points + inverse.mean().square() / (centred @ centred))).sqrt()
    return FdInfinity(float(value), float(error), float(slope))


def _parts(x: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Iterator[Float[Tensor, "k d"]]:
    """Disjoint random parts of k rows, in one random order after another, without end."""
    while True:
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for start in range(0, len(x) - k + 1, k):
            yield x[order[start : start + k]]


def _jackknife(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], generator: torch.Generator) -> float:
    """The standard error of d² by leaving out each group of one side in turn."""
    sides = [
        [FeatureStatistics.from_features(part) for part in next(_parts(side, len(side), generator)).chunk(GROUPS)]
        for side in (x, y)
    ]
    whole = [functools.reduce(operator.add, groups) for groups in sides]
    variance = 0.0
    for groups, other in zip(sides, reversed(whole), strict=True):
        values = [frechet_distance(rest, other) for rest in leave_one_out(groups)]
        variance += (len(values) - 1) * statistics.pvariance(values)
    return variance**0.5


def leave_one_out(groups: list[FeatureStatistics]) -> Iterator[FeatureStatistics]:
    """The statistics of all groups of rows but one, for each group, as the jackknife needs them.

    Each is the sum of those before the group plus the sum of those after it.
    """
    after = list(itertools.accumulate(reversed(groups[1:]), operator.add))
    before = groups[0]
    yield after.pop()
    for group in groups[1:]:
        yield before + after.pop() if after else before
        before = before + group

"""Maximum mean discrepancies of two sets of features: KID (1801.01401), CMMD (2401.09603), or any other kernel.

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y)                                                     (0805.2368, eq. 3)

All pairs are used, by blocks of rows, so that memory is linear in n. Where there are many more rows than features, KID
takes its sums over pairs from moments, in a time that is linear in n too. The standard error is that of the jackknife
over both sets (Arvesen, 1969), which the sums over rows give in closed form. It is never too small; where the
distributions are equal it is too large by a factor of sqrt 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from metrics.checks import check_sides, takes_arrays
from metrics.uncertainty import Estimate

Kernel = Callable[[Tensor, Tensor], Tensor]

BLOCK = 2048  # rows of each side at once: 32 MiB of kernel values per block
ROWS = 256  # at once, with their products
MANY = 3  # times the square of the number of features: with as many rows, moments take less time than pairs


class KidSubsets(NamedTuple):
    """KID over subsets of the features: mean and population standard deviation; ``float()`` gives the mean."""

    mean: float
    std: float

    def __float__(self) -> float:
        return self.mean


@takes_arrays("x", "y")
def kid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Estimate:
    """Kernel distance of two sets of features (KID, where they are Inception's): MMD² with a cubic polynomial kernel.

    ``k(x, y) = (x'y / d + 1)³``; unbiased, over all pairs, so that it may lie below 0 (1801.01401, sec. 4). Raises
    ValueError as ``maximum_mean_discrepancy`` does.
    """
    check_sides(x, y, least=2)
    if min(len(x), len(y)) < MANY * x.shape[1] ** 2:
        return maximum_mean_discrepancy(x, y, polynomial_kernel)
    sides = [_sum_moments(x), _sum_moments(y)]
    own_x, own_y = (torch.cat([(rows.square().sum(1) / x.shape[1] + 1) ** 3 for _, rows in _blocks(z)]) for z in (x, y))
    (xx, xy), (yx, yy) = (_sum_kernel(z, sides) for z in (x, y))
    return _estimate((xx - own_x, own_x), (yy - own_y, own_y), (xy, yx))


@takes_arrays("x", "y")
def kid_subsets(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KidSubsets:
    """Kernel distance over ``subsets`` random subsets with ``size`` rows of each side, as KID is mostly published.

    Subsets overlap, so that their deviation is not the standard error of the mean; it is the deviation of KID at
    ``size`` rows. One seed gives the same result. Raises ValueError on a size below 2 or above the smaller set, and on
    subsets < 1.
    """
    check_sides(x, y, least=2)
    if not 2 <= size <= min(len(x), len(y)) or subsets < 1:
        raise ValueError(
            f"size is {size} and subsets is {subsets}; 2 to {min(len(x), len(y))} rows and 1 subset are accepted"
        )
    generator = torch.Generator().manual_seed(seed)

    def pick(n: int) -> Int64[Tensor, " size"]:
        return torch.randperm(n, generator=generator)[:size].to(x.device)

    values = [kid(x[pick(len(x))], y[pick(len(y))]).value for _ in range(subsets)]
    found = torch.tensor(values, dtype=torch.float64)
    return KidSubsets(float(found.mean()), float(found.std(correction=0)))


@takes_arrays("x", "y")
def cmmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, sigma: float = 10.0, scale: float = 1000.0) -> Estimate:
    """CMMD of two sets of CLIP features: ``scale`` times MMD² with a Gaussian kernel (2401.09603).

    ``k(x, y) = exp(-|x - y|² / (2 sigma²))``; ``sigma`` suits rows of norm 1, which CLIP's features have been scaled
    to. The authors' estimator is the V-statistic, which includes the pairs of a row with itself (eq. 4): it is never
    below 0, and its bias is ``scale ((1 - E k(x, x')) / n + (1 - E k(y, y')) / m)``, the means over independent pairs
    of one side. Raises ValueError as ``maximum_mean_discrepancy`` does, and on sigma <= 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; a number above 0 is accepted")
    check_sides(x, y)
    middle = (x.double().sum(0) + y.double().sum(0)) / (len(x) + len(y))  # without it a far mean would cost digits

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return gaussian_kernel(a - middle, b - middle, sigma=sigma)

    found = maximum_mean_discrepancy(x, y, kernel, unbiased=False)
    return Estimate(scale * found.value, scale * found.standard_error)


def polynomial_kernel(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    """KID's cubic kernel ``(x'y / d + 1)³`` between all rows of x and y, for d features."""
    return (x @ y.mT).div_(x.shape[1]).add_(1).pow_(3)


def gaussian_kernel(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], *, sigma: float) -> Float64[Tensor, "n m"]:
    """Gaussian kernel ``exp(-|x - y|² / (2 sigma²))`` between all rows of x and y."""
    squares = torch.addmm(y.square().sum(1), x, y.mT, alpha=-2).add_(x.square().sum(1)[:, None]).clamp_(min=0)
    return squares.div_(-2 * sigma**2).exp_()


@takes_arrays("x", "y")
def maximum_mean_discrepancy(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel, *, unbiased: bool = True
) -> Estimate:
    """MMD² of two sets of features, ``E k(x, x') + E k(y, y') - 2 E k(x, y)``, with its standard error, in float64.

    ``kernel`` maps (n, d), (m, d) to (n, m). ``unbiased`` gives the U-statistic, which leaves out the pairs of a row
    with itself and may lie below 0; otherwise it is the V-statistic (0805.2368, eq. 3). The standard error needs 3 rows
    on both sides, and is NaN below. Raises ValueError on other shapes, values that are not finite, and below 2 rows (1
    for the V-statistic).
    """
    check_sides(x, y, least=2 if unbiased else 1)
    return _estimate(_within(x, kernel), _within(y, kernel), _between(x, y, kernel), unbiased)


def _estimate(
    within_x: tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]],
    within_y: tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]],
    between: tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]],
    unbiased: bool = True,
) -> Estimate:
    """MMD² from what ``_within`` gives of each side, and ``_between`` of both."""
    (xx, own_x), (yy, own_y), (xy, yx) = within_x, within_y, between
    n, m, across = len(xx), len(yy), xy.sum()
    side_x, without_x = _side(xx, own_x, unbiased)
    side_y, without_y = _side(yy, own_y, unbiased)
    value = side_x + side_y - 2 * across / (n * m)
    if min(n, m) < 3:
        return Estimate(float(value), float("nan"))
    # The value without row i of one side, up to terms that do not depend on i, which the deviations do not need.
    deviations = (
        (n, without_x - 2 * (across - xy) / ((n - 1) * m)),
        (m, without_y - 2 * (across - yx) / (n * (m - 1))),
    )
    variance = sum(float((k - 1) / k * (left - left.mean()).square().sum()) for k, left in deviations)
    return Estimate(float(value), variance**0.5)


class _Moments(NamedTuple):
    """The sums over rows y of 1, of y, of the products ``y_a y_b``, and of these with each ``y_c``."""

    number: int
    first: Float64[Tensor, " d"]
    second: Float64[Tensor, " dd"]
    third: Float64[Tensor, "dd d"]


def _sum_moments(y: Float[Tensor, "n d"]) -> _Moments:
    d = y.shape[1]
    first, second, third = (y.new_zeros(shape, dtype=torch.float64) for shape in ((d,), (d * d,), (d * d, d)))
    for _, rows in _blocks(y, size=ROWS):
        pairs = _products(rows)
        first += rows.sum(0)
        second += pairs.sum(0)
        third.addmm_(pairs.mT, rows)
    return _Moments(len(y), first, second, third)


def _sum_kernel(x: Float[Tensor, "n d"], sides: list[_Moments]) -> list[Float64[Tensor, " n"]]:
    """The sum over each side's y of KID's kernel ``(u + 1)³ = 1 + 3 u + 3 u² + u³``, u = x'y / d, for each row of x."""
    d = x.shape[1]
    second = torch.stack([side.second for side in sides], 1)  # (d², sides)
    third = torch.cat([side.third for side in sides], 1)  # (d², sides d)
    sums = []
    for _, rows in _blocks(x, size=ROWS):
        pairs = _products(rows)
        squares = (pairs @ second).T / d**2
        cubes = torch.einsum("nsd,nd->sn", (pairs @ third).unflatten(1, (-1, d)), rows) / d**3
        lines = torch.stack([side.number + 3 * (rows @ side.first) / d for side in sides])
        sums.append(lines + 3 * squares + cubes)
    return list(torch.cat(sums, 1))


def _products(rows: Float64[Tensor, "b d"]) -> Float64[Tensor, "b dd"]:
    """The products of each two features of a row."""
    return (rows[:, :, None] * rows[:, None]).flatten(1)


def _side(
    rows: Float64[Tensor, " n"], own: Float64[Tensor, " n"], unbiased: bool
) -> tuple[Float64[Tensor, ""], Float64[Tensor, " n"]]:
    """The mean of the kernel over the pairs of one side, and without each row in turn, from row sums and k(x, x)."""
    n, total, itself = len(rows), rows.sum(), own.sum()
    if unbiased:
        return total / (n * (n - 1)), (total - 2 * rows) / max((n - 1) * (n - 2), 1)
    return (total + itself) / n**2, (total - 2 * rows + itself - own) / max((n - 1) ** 2, 1)


def _within(x: Float[Tensor, "n d"], kernel: Kernel) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """The sum of each row over the others, and its kernel with itself; only blocks above the diagonal are computed."""
    sums, own = torch.zeros(2, len(x), dtype=torch.float64, device=x.device)
    for i, rows in _blocks(x):
        values = kernel(rows, rows)
        own[i] = values.diagonal()
        sums[i] += values.fill_diagonal_(0).sum(1)
        for j, columns in _blocks(x, i.stop):
            values = kernel(rows, columns)
            sums[i] += values.sum(1)
            sums[j] += values.sum(0)
    return sums, own


def _between(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """The sum over y for each row of x, and the sum over x for each row of y."""
    xy = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    yx = torch.zeros(len(y), dtype=torch.float64, device=x.device)
    for i, rows in _blocks(x):
        for j, columns in _blocks(y):
            values = kernel(rows, columns)
            xy[i] += values.sum(1)
            yx[j] += values.sum(0)
    return xy, yx


def _blocks(
    x: Float[Tensor, "n d"], start: int = 0, size: int | None = None
) -> Iterator[tuple[slice, Float64[Tensor, "b d"]]]:
    size = size or BLOCK
    for at in range(start, len(x), size):
        rows = slice(at, min(at + size, len(x)))
        yield rows, x[rows].double()

"""Sliced 2-Wasserstein distance of streams at constant memory: a histogram per direction, on bins fixed in advance.

Each bin keeps the count, the sum and the sum of squares of the projected samples in it, measured from its middle;
sketches add. A bin stands for a uniform segment of that mass, mean and variance, so that the quantile function of a
sketch is piecewise linear and the distance of two sketches is an integral in closed form. Bins have equal widths in
``asinh(u'(x - centre) / scale)``: near the centre a constant width, far from it a width proportional to the distance.

The error of binning is of second order in the width for a smooth density, and 0 where the values in each bin coincide.
It never exceeds ``SlicedResult.bound``: in L2 over quantile levels and directions, the quantile functions of the
samples and of the sketch differ by at most sqrt(2) times the deviation within bins (two increasing functions correlate
positively). Separate from it is the bias that every sliced distance of finite samples has, about +(1/n + 1/m) on its
square: ``SlicedResult.floor``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import check_features, takes_arrays
from metrics.samples.sliced import draw_bases

GROUPS = 8  # of samples, assigned in turn, for the jackknife and the floor
REACH = 1e4  # scales from the centre to the middle of the last bin, which includes all values beyond
_CHUNK = 2**20  # projected values in memory at once


@dataclass(frozen=True)
class Slices:
    """Random directions and the bins along them, which two sketches for a sliced Wasserstein distance must share.

    Bins have equal widths in ``asinh(u'(x - centre) / scale)``; ``centre`` and ``scale`` may be rough, and
    ``resolution`` is the width of the bins near the centre, in scales. Raises ValueError on a number that is not
    positive and finite, and on a centre that is neither one finite number nor ``dimension`` of them.
    """

    dimension: int
    projections: int = 128
    seed: int = 0
    resolution: float = 0.05
    centre: Float[Tensor, " d"] | tuple[float, ...] | float = 0.0
    scale: float = 1.0

    @classmethod
    def around(cls, features: Float[Tensor, "n d"], **options: Any) -> Slices:
        """Directions and bins around the mean of features, in units of the root of their mean variance.

        The options are those of ``Slices``.
        """
        variance, mean = torch.var_mean(features.double(), 0, correction=0)
        return cls(len(mean), centre=mean, scale=math.sqrt(float(variance.mean())), **options)

    def __post_init__(self) -> None:
        for name in ("dimension", "projections", "resolution", "scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; positive finite numbers are accepted")
        middle = torch.as_tensor(self.centre, dtype=torch.float64)
        if middle.shape not in ((), (self.dimension,)) or not bool(torch.isfinite(middle).all()):
            raise ValueError(f"centre is {self.centre}; one finite number or {self.dimension} are accepted")
        # Plain numbers, so that two can be compared; the dataclass is frozen.
        object.__setattr__(self, "centre", tuple(middle.tolist()) if middle.ndim else float(middle))

    @functools.cached_property
    def directions(self) -> Float64[Tensor, "d k"]:
        """The unit vectors (d, k) on which samples are projected, those of ``sliced_wasserstein`` with this seed."""
        return torch.cat(list(draw_bases(self.dimension, self.projections, self.seed)), 1)

    @functools.cached_property
    def middles(self) -> Float64[Tensor, " bins"]:
        """The middles of the bins of a histogram, as offsets from the centre, the same along every direction."""
        half = math.ceil(math.asinh(REACH) / self.resolution)
        return self.scale * torch.sinh(self.resolution * torch.arange(-half, half + 1, dtype=torch.float64))


class SlicedResult(NamedTuple):
    """A sliced 2-Wasserstein distance of sketches, its standard error, the bound on its binning error, and its floor.

    ``error`` is that of the jackknife over groups of samples. ``floor`` is the distance between the halves of the real
    side, scaled from n / 2 rows each to n and m by the law of the bias, sqrt(1/n + 1/m); ``value`` has that bias too.
    """

    value: float
    error: float
    bound: float
    floor: float


@dataclass(frozen=True, eq=False)
class SlicedSketch:
    """A sketch of samples for their sliced Wasserstein distance: a histogram along each direction; ``+`` merges shards.

    ``sums`` are the count, the sum and the sum of squares of the projected samples in a bin, from its middle.
    """

    slices: Slices
    sums: Float64[Tensor, "3 groups k bins"]

    @classmethod
    def empty(cls, slices: Slices) -> SlicedSketch:
        """The sketch of no samples, on these directions and bins."""
        shape = (3, GROUPS, slices.projections, len(slices.middles))
        return cls(slices, torch.zeros(shape, dtype=torch.float64))

    @classmethod
    @takes_arrays("features")
    def from_features(cls, features: Float[Tensor, "n d"], slices: Slices, *, start: int = 0) -> SlicedSketch:
        """The sketch of features (n, dimension), the first of which belongs to group ``start`` modulo GROUPS.

        The groups serve the standard error. Raises ValueError on another shape and on values that are not finite.
        """
        check_features(features, width=slices.dimension)
        device = features.device
        directions, middles = slices.directions.to(device), slices.middles.to(device)
        centre = torch.as_tensor(slices.centre, dtype=torch.float64, device=device)
        (k, bins), half = (slices.projections, len(middles)), len(middles) // 2
        sums = torch.zeros(3, GROUPS * k * bins, dtype=torch.float64, device=device)
        columns = torch.arange(k, device=device) * bins + half
        for rows in features.split(max(1, _CHUNK // k)):
            values = (rows.double() - centre) @ directions
            # A value at the centre lies in the middle of a bin, so that rounding does not move constant features.
            steps = (torch.asinh(values / slices.scale) / slices.resolution).round_().clamp_(-half, half).long()
            offsets = values - middles[steps + half]
            group = (start + torch.arange(len(rows), device=device)) % GROUPS
            flat = (steps + columns + (group * k * bins)[:, None]).flatten()
            for total, part in zip(sums, (torch.ones_like(offsets), offsets, offsets.square()), strict=True):
                total.index_add_(0, flat, part.flatten())
            start += len(rows)
        return cls(slices, sums.view(3, GROUPS, k, bins))

    def __add__(self, other: SlicedSketch) -> SlicedSketch:
        """Merge the sketches of two sets; raises ValueError where directions or bins differ."""
        _require_same(self, other)
        return SlicedSketch(self.slices, self.sums + other.sums)

    @property
    def count(self) -> int:
        """The number of samples in the sketch."""
        return int(self.sums[0, :, 0].sum())


def sliced_wasserstein_of_sketches(real: SlicedSketch, fake: SlicedSketch) -> SlicedResult:
    """Sliced 2-Wasserstein distance of two sketches, in units of the features.

    It is the root mean over directions of the integral over q in [0, 1] of |F^-1(q) - G^-1(q)|^2, of quantile functions
    that are piecewise linear. Raises ValueError where directions or bins differ, and below two samples per group (16)
    on a side.
    """
    _require_same(real, fake)
    n, m = real.count, fake.count
    if min(n, m) < 2 * GROUPS:
        raise ValueError(f"there are {n} and {m} samples; at least {2 * GROUPS} are accepted")
    middles = real.slices.middles.to(real.sums.device)
    x, y = real.sums, fake.sums.to(real.sums.device)
    value = _distance(x.sum(1), y.sum(1), middles)
    without = [_distance(x.sum(1) - x[:, g], y.sum(1) - y[:, g], middles) for g in range(GROUPS)]
    mean = sum(without) / GROUPS
    error = math.sqrt((GROUPS - 1) / GROUPS * sum((v - mean) ** 2 for v in without))
    bound = sum(_within(side.sum(1)) for side in (x, y))
    halves = _distance(x[:, ::2].sum(1), x[:, 1::2].sum(1), middles)
    return SlicedResult(value, error, bound, halves * math.sqrt((1 + n / m) / 4))


def _distance(
    x: Float64[Tensor, "3 k bins"], y: Float64[Tensor, "3 k bins"], middles: Float64[Tensor, " bins"]
) -> float:
    """The root mean over directions of the integral of (F^-1 - G^-1)^2, both piecewise linear in the quantile level."""
    n, m = (side[0, 0].sum().long() for side in (x, y))
    # Quantile levels as whole multiples of 1/(n m), so that equal ones of both sides are exactly equal.
    ends = [side[0].long().cumsum(1) * other for side, other in ((x, m), (y, n))]  # (k, bins)
    edges = torch.cat([torch.zeros_like(ends[0][:, :1]), *ends], 1).sort(1).values
    low, high = edges[:, :-1].contiguous(), edges[:, 1:].contiguous()
    quantiles = []
    for side, end, other in ((x, ends[0], m), (y, ends[1], n)):
        bins = torch.searchsorted(end, low, right=True).clamp_(
            max=len(middles) - 1
        )  # where the level has no width, any bin will do
        count = side[0].clamp(min=1)
        mean, width = middles + side[1] / count, (12 * _variance(side)).sqrt()
        left = end - side[0].long() * other
        for share in (low, high):
            within = (share - left.gather(1, bins)).double() / (count * other).gather(1, bins) - 0.5
            quantiles.append(mean.gather(1, bins) + width.gather(1, bins) * within)
    first, last = quantiles[0] - quantiles[2], quantiles[1] - quantiles[3]
    weight = (high - low).double() / (n * m)
    squared = (weight * (first.square() + first * last + last.square()) / 3).sum(1)
    return float(squared.mean().sqrt())


def _within(side: Float64[Tensor, "3 k bins"]) -> float:
    """sqrt(2) times the root mean square deviation within bins."""
    share = side[0] / side[0, 0].sum()
    return float((2 * (share * _variance(side)).sum(1).mean()).sqrt())


def _variance(side: Float64[Tensor, "3 k bins"]) -> Float64[Tensor, "k bins"]:
    count, sums, squares = side
    mean, square = sums / count.clamp(min=1), squares / count.clamp(min=1)
    variance = square - mean.square()
    return torch.where(variance > 1e-12 * square, variance, 0.0)  # values that coincide up to rounding


def _require_same(a: SlicedSketch, b: SlicedSketch) -> None:
    if a.slices != b.slices:
        raise ValueError(f"the sketches differ in directions or bins: {a.slices} and {b.slices}")

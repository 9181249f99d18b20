"""The Fréchet distance at infinitely many samples, by extrapolation (1911.07023)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.frechet import FeatureStatistics, frechet_distance


class FdInfinity(NamedTuple):
    """Intercept and slope of d² against 1 / n, and the intercept's standard error; ``float()`` is the intercept."""

    value: float
    standard_error: float
    slope: float

    def __float__(self) -> float:
        return self.value


def fd_infinity(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    points: int = 15,
    smallest: int | None = None,
    vary: Literal["y", "both"] = "y",
    seed: int = 0,
) -> FdInfinity:
    """The intercept of d² against 1 / n by least squares, over ``points`` random subsets from ``smallest`` rows to all.

    As published, subsets are of the generated side ``y`` and ``x`` is a fixed reference, whose own bias stays;
    ``vary="both"`` takes n of either and extrapolates both. ``smallest`` is a tenth of the rows unless given (5,000 of
    50,000 there); up to n = d the points lie on no line. The error is that of the fit: subsets share rows, so that
    the features' own chance is larger. The same for one seed. Raises ValueError on points < 3, a smallest outside 2 to
    all rows but one, and as ``frechet_distance`` does.
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

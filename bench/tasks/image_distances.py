"""Figures of a learned model's images beside real ones, from the features of both, and the floors of real images."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bench.task import Value
from metrics import FeatureStatistics, frechet_distance, kid
from metrics.samples.balls import precision_recall
from metrics.uncertainty import NORMAL, Estimate, Floor, bootstrap, extrapolated_floor, floor

RESAMPLES = 50


def distances(
    name: str, real: Float[Tensor, "n d"], drawn: Float[Tensor, "m d"], seed: int, **about: Any
) -> dict[str, Value]:
    """The Frechet distance under ``name`` with its floor, ``name_floor``, and ``kid``; both distances have intervals.

    The floor is what as many further real images reach.
    """
    value, interval = with_interval(frechet_of_features, real, drawn, seed)
    kernel = kid(real, drawn)
    found = {name: Value(value, interval, **about), "kid": Value(kernel.value, normal(kernel), **about)}
    if exact := find_floor(frechet_of_features, real, len(drawn), 1.0, seed):
        found[f"{name}_floor"] = Value(exact.mean, (exact.low, exact.high), **about)
    return found


def balls(real: Float[Tensor, "n d"], drawn: Float[Tensor, "m d"], seed: int, **about: Any) -> dict[str, Value]:
    """Precision and recall of equal numbers, at most half of the real images, with the floors of disjoint real sets."""
    n = min(len(drawn), len(real) // 2)
    found = precision_recall(real, drawn, samples=n, seed=seed)
    floors = _balls_of_real(real, n)
    about = about | {"n": n}
    measures = {}
    for name, value in found._asdict().items():
        measures[name] = Value(value, **about)
        measures[f"{name}_floor"] = Value(floors[name].mean, (floors[name].low, floors[name].high), **about)
    return measures


@lru_cache(maxsize=4)
def _balls_of_real(real: Tensor, n: int) -> dict[str, Floor]:
    """The floors of precision and recall; by symmetry they are one figure, measured from both sides."""
    found = floor(lambda x, y: precision_recall(x, y).precision, real, n)
    return {"precision": found, "recall": found}


@lru_cache(maxsize=8)
def find_floor(distance: Callable[[Tensor, Tensor], float], real: Tensor, n: int, power: float, seed: int) -> Any:
    """The distance of the data to n further rows, extrapolated; None where the data are too few to say."""
    try:
        return extrapolated_floor(distance, real, n, power=power, seed=seed)
    except ValueError:
        return None


def frechet_of_features(x: Tensor, y: Tensor) -> float:
    """The Frechet distance of two sets of features, (n, d) and (m, d)."""
    return frechet_distance(FeatureStatistics.from_features(x), FeatureStatistics.from_features(y))


def with_interval(
    distance: Callable[[Tensor, Tensor], float], real: Tensor, drawn: Tensor, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """A distance and the 95 % interval of its mean over samples of these sizes; none where the halves are too small."""
    value = distance(real, drawn)
    try:
        low, high = bootstrap(distance, real, drawn, resamples=RESAMPLES, seed=seed)
    except ValueError:
        return value, None
    return value, (max(low, 0.0), high)


def normal(found: Estimate) -> tuple[float, float]:
    """The 95 % interval of an estimate by its standard error."""
    return found.value - NORMAL * found.standard_error, found.value + NORMAL * found.standard_error

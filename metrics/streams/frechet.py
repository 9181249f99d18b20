"""The Fréchet distance as a ``torchmetrics.Metric``, in a file of its own, as importing torchmetrics takes seconds."""

from __future__ import annotations

import functools
import operator

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torchmetrics import Metric

from metrics.checks import takes_arrays
from metrics.samples.frechet import FeatureStatistics, frechet_distance


class FrechetDistance(Metric):
    """The squared Fréchet distance of features seen in batches, shards and ranks, whose statistics merge exactly.

    ``update(features, real)`` takes (n, d) features of one side. They may come from any extractor, which must be the
    same for both sides. Each side is one state, ``[[count, mean], [0, scatter]]``, since a merge needs all three.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(self, dimension: int, **options: object) -> None:
        super().__init__(**options)
        self.dimension = dimension
        for side in ("real", "fake"):
            empty = torch.zeros(dimension + 1, dimension + 1, dtype=torch.float64)
            self.add_state(side, empty, dist_reduce_fx=_merge)

    @takes_arrays("features")
    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add a batch of features of one side.

        Raises ValueError on another number of features and on values not finite.
        """
        if features.shape[1:] != (self.dimension,):
            raise ValueError(f"features have the shape {tuple(features.shape)}; (n, {self.dimension}) is accepted")
        side = "real" if real else "fake"
        setattr(self, side, _pack(_unpack(getattr(self, side)) + FeatureStatistics.from_features(features)))

    def compute(self) -> Float64[Tensor, ""]:
        """The squared Fréchet distance of all features seen; raises ValueError below two samples on a side."""
        return torch.tensor(frechet_distance(_unpack(self.real), _unpack(self.fake)), dtype=torch.float64)


def _merge(states: Float64[Tensor, "ranks e e"]) -> Float64[Tensor, "e e"]:
    return _pack(functools.reduce(operator.add, map(_unpack, states)))


def _pack(statistics: FeatureStatistics) -> Float64[Tensor, "e e"]:
    state = torch.nn.functional.pad(statistics.scatter, (1, 0, 1, 0))
    state[0, 0], state[0, 1:] = statistics.count or 0, statistics.mean
    return state


def _unpack(state: Float64[Tensor, "e e"]) -> FeatureStatistics:
    return FeatureStatistics(int(state[0, 0]), state[0, 1:], state[1:, 1:])

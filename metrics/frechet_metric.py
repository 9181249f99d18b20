"""The Fréchet distance as a ``torchmetrics.Metric``; a file of its own, since importing torchmetrics takes seconds."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torchmetrics import Metric

from metrics.frechet import FeatureStatistics, frechet_distance


class FrechetDistance(Metric):
    """The squared Fréchet distance of features seen in batches; every state is a sum, so ranks merge exactly.

    ``update(features, real)`` takes (n, d) features of either side. Features come from any extractor; the caller sees
    to it that both sides have the same.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(self, dimension: int, **options: object) -> None:
        super().__init__(**options)
        self.dimension = dimension
        for side in ("real", "fake"):
            self.add_state(f"{side}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{side}_total", torch.zeros(dimension, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(
                f"{side}_outer", torch.zeros(dimension, dimension, dtype=torch.float64), dist_reduce_fx="sum"
            )

    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add a batch; raises ValueError on another number of features and on values that are not finite."""
        if features.shape[1:] != (self.dimension,):
            raise ValueError(f"features have the shape {tuple(features.shape)}; (n, {self.dimension}) is accepted")
        added = FeatureStatistics.from_features(features)
        side = "real" if real else "fake"
        for name in ("count", "total", "outer"):
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + getattr(added, name))

    def compute(self) -> Float64[Tensor, ""]:
        """The distance of what was seen; raises ValueError below two samples on a side."""
        return torch.tensor(frechet_distance(self._side("real"), self._side("fake")), dtype=torch.float64)

    def _side(self, side: str) -> FeatureStatistics:
        count = int(getattr(self, f"{side}_count"))
        return FeatureStatistics(count, getattr(self, f"{side}_total"), getattr(self, f"{side}_outer"))

"""The sliced 2-Wasserstein distance of streams as a ``torchmetrics.Metric``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from metrics.checks import takes_arrays
from metrics.samples.sketch import SlicedSketch, Slices, sliced_wasserstein_of_sketches


class SlicedWasserstein(Metric):
    """Sliced 2-Wasserstein distance of features seen in batches, at constant memory; shards and ranks merge as sums.

    ``slices`` has the directions and bins; ``compute`` gives the fields of ``SlicedResult``. Value and bound equal
    those of one pass, whatever the shards. Error and floor come from groups to which every shard assigns its samples in
    turn; they estimate the same quantities over other groups.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(self, slices: Slices, **options: object) -> None:
        super().__init__(**options)
        self.slices = slices
        for side in ("real", "fake"):
            self.add_state(side, SlicedSketch.empty(slices).sums, dist_reduce_fx="sum")

    @takes_arrays("features")
    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add a batch of features of one side.

        Raises ValueError on another number of features and on values not finite.
        """
        side = "real" if real else "fake"
        seen = SlicedSketch(self.slices, getattr(self, side))
        setattr(self, side, (seen + SlicedSketch.from_features(features, self.slices, start=seen.count)).sums)

    def compute(self) -> dict[str, Tensor]:
        """The distance of all features seen, its error, bound and floor.

        Raises ValueError below 16 samples on a side.
        """
        sketches = (SlicedSketch(self.slices, side) for side in (self.real, self.fake))
        found = sliced_wasserstein_of_sketches(*sketches)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found._asdict().items()}

"""KID of streams, as a mean over blocks: constant memory at any number of samples (1307.1954)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.kernel import kid
from metrics.streams.features import TwoSides


class BlockKid(TwoSides):
    """The mean of the unbiased ``kid`` over blocks of ``block`` rows of either side, in the order they come.

    ``update(features, real)`` takes (n, d) features; as soon as both sides have a block it is summed up and dropped, so
    that memory is constant where the sides take turns (a side that runs ahead waits). Blocks are independent: the
    standard error is their deviation over the root of their number. States are sums, and the rows that still wait;
    shards and ranks that hold whole blocks give what a single pass gives, to rounding, and from others the rows left
    over form new blocks: another estimate, as good. Rows that fill no block count for nothing. For all pairs, whatever
    the split, there is ``FeatureMetric(kid)``. Raises ValueError on a block below 2.
    """

    def __init__(self, block: int = 1000, **options: Any) -> None:
        super().__init__(**options)
        if block < 2:
            raise ValueError(f"block is {block}; at least 2 rows are accepted")
        self.block = block
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")  # of 1, kid and kid²

    @takes_arrays("features")
    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add a batch; raises ValueError on another number of features and on values that are not finite."""
        super().update(features, real)
        if self._ready() >= self.block:
            self.sums, self.real, self.fake = self._summed()

    def compute(self) -> dict[str, Float64[Tensor, ""]]:
        """Value, standard error (NaN of one block) and number of blocks; raises ValueError before the first."""
        sums = self._summed()[0] if self._ready() >= self.block else self.sums
        blocks, total, squares = sums
        if not blocks:
            raise ValueError(f"there is no whole block of {self.block} rows of both sides")
        mean = total / blocks
        variance = ((squares - blocks * mean.square()) / (blocks - 1)).clamp(min=0)
        return {"value": mean, "standard_error": (variance / blocks).sqrt(), "blocks": blocks}

    def _ready(self) -> int:
        return min(sum(len(batch) for batch in self._batches(side)) for side in ("real", "fake"))

    def _batches(self, side: str) -> list[Tensor]:
        batches = getattr(self, side)  # one tensor while ranks are gathered
        return batches if isinstance(batches, list) else [batches]

    def _summed(self) -> tuple[Float64[Tensor, "3"], list[Tensor], list[Tensor]]:
        """The sums with every whole block added, and what is left of both sides."""
        real, fake = self.rows("real"), self.rows("fake")
        whole = min(len(real), len(fake)) // self.block * self.block
        found = [
            kid(x, y).value for x, y in zip(real[:whole].split(self.block), fake[:whole].split(self.block), strict=True)
        ]
        values = torch.tensor(found, dtype=torch.float64, device=self.sums.device)
        added = torch.stack([torch.ones_like(values), values, values.square()]).sum(1)
        return self.sums + added, [real[whole:].clone()], [fake[whole:].clone()]

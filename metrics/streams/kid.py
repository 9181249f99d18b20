"""KID of streams as a mean over blocks: constant memory for any number of samples (1307.1954)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.kernel import kid
from metrics.streams.features import TwoSides


class BlockKid(TwoSides):
    """KID of streams at constant memory: the mean of the unbiased ``kid`` over blocks of ``block`` rows of each side.

    Blocks are made in the order in which rows come (1307.1954). ``update(features, real)`` takes (n, d) features. As
    soon as both sides have a block, its value is added to the sums and its rows are dropped, so that memory is constant
    where the sides alternate (rows of a side that is ahead are kept). Blocks are independent, so that the standard
    error is their deviation over the root of their number. The states are the sums and the remaining rows. Shards and
    ranks with whole blocks give the result of a single pass, to rounding; from others the remaining rows form new
    blocks, which is another estimate of the same quality. Rows that fill no block are not used. ``FeatureMetric(kid)``
    uses all pairs. Raises ValueError on a block below 2.
    """

    def __init__(self, block: int = 1000, **options: Any) -> None:
        super().__init__(**options)
        if block < 2:
            raise ValueError(f"block is {block}; at least 2 rows are accepted")
        self.block = block
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")  # of 1, kid and kid²

    @takes_arrays("features")
    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add n rows of d features to the real or to the generated side.

        Raises ValueError where d differs from the batches before, and on values that are not finite.
        """
        super().update(features, real)
        if self._ready() >= self.block:
            self.sums, self.real, self.fake = self._summed()

    def compute(self) -> dict[str, Float64[Tensor, ""]]:
        """The mean over blocks, its standard error (NaN for one block) and the number of blocks.

        Raises ValueError without a whole block.
        """
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
        """The sums with every whole block added, and the remaining rows of both sides."""
        real, fake = self.rows("real"), self.rows("fake")
        whole = min(len(real), len(fake)) // self.block * self.block
        found = [
            kid(x, y).value for x, y in zip(real[:whole].split(self.block), fake[:whole].split(self.block), strict=True)
        ]
        values = torch.tensor(found, dtype=torch.float64, device=self.sums.device)
        added = torch.stack([torch.ones_like(values), values, values.square()]).sum(1)
        return self.sums + added, [real[whole:].clone()], [fake[whole:].clone()]

"""Any function of two sets of features as a ``torchmetrics.Metric``, which keeps the features of both sides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from metrics.checks import check_features, takes_arrays

ROWS = 8192  # hashed at once
_METRIC_OPTIONS = (
    "compute_on_cpu", "compute_with_cache", "dist_sync_fn", "dist_sync_on_step", "distributed_available_fn",
    "process_group", "sync_on_compute",
)  # fmt: skip


class TwoSides(Metric):
    """Base of metrics that keep the features of a real and a generated side, concatenated over shards and ranks."""

    higher_is_better = None
    is_differentiable = False
    full_state_update = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for side in ("real", "fake"):
            self.add_state(side, [], dist_reduce_fx="cat")

    @takes_arrays("features")
    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add a batch of features of one side.

        Raises ValueError on another number of features and on values not finite.
        """
        check_features(features, width=self._width() or None)
        # Ranks are gathered in one dtype, and float64 holds every other float exactly.
        getattr(self, "real" if real else "fake").append(features.detach().double())

    def rows(self, side: str) -> Float[Tensor, "n d"]:
        """All rows of the side "real" or "fake": of this rank or, while ranks are gathered, of all ranks."""
        batches = getattr(self, side)
        if not len(batches):
            raise ValueError(f"no features of the {side} side were seen; at least one batch is accepted")
        return dim_zero_cat(batches)

    def _width(self) -> int:
        return max((batch.shape[1] for batch in [*self.real, *self.fake]), default=0)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        """Gather all ranks; one without rows learns from the others how many features a row has."""
        width = torch.tensor(self._width(), device=self.device)
        widths = dist_sync_fn(width, group=process_group or self.process_group)
        for side in ("real", "fake"):
            if not getattr(self, side):
                empty = torch.zeros(0, int(max(widths)), dtype=torch.float64, device=self.device)
                setattr(self, side, [empty])
        super()._sync_dist(dist_sync_fn, process_group)


class FeatureMetric(TwoSides):
    """Any metric ``function(real, fake, **options)`` of two sets of features, for features seen in batches.

    ``update(features, real)`` takes (n, d) features of one side; ``compute`` gives a float64 scalar, or a dict of them
    where the function gives a mapping or a named tuple, over all shards and ranks. The function gets the rows in an
    order that depends on their values alone (``in_order``), so that one that draws rows at random gives the same result
    whatever the batches, shards and ranks. Memory grows with the samples: where sums are enough, use a class whose
    states are sums (``FrechetDistance``, ``BlockKid``). Options of ``torchmetrics.Metric`` (``process_group``, ...) are
    passed on to it. Raises TypeError on an option that the function does not have.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(**{name: options.pop(name) for name in _METRIC_OPTIONS if name in options})
        inspect.signature(function).bind(None, None, **options)
        self.function, self.options = function, options

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The value of the function on all features seen; raises ValueError where a side has no features."""
        found = self.function(*(in_order(self.rows(side)) for side in ("real", "fake")), **self.options)
        if hasattr(found, "_asdict"):
            found = found._asdict()
        if isinstance(found, Mapping):
            return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in found.items()}
        return torch.as_tensor(found, dtype=torch.float64)


def in_order(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The rows of features in an order that depends on their values alone: by a 64-bit hash of each row.

    The hash is computed in whole numbers that wrap around, so that it is exact.
    """
    return features[_hash(features).argsort(stable=True)]


def _hash(features: Float[Tensor, "n d"]) -> Int64[Tensor, " n"]:
    generator = torch.Generator().manual_seed(0)
    bounds = (-(2**62), 2**62, (2, features.shape[1]))
    first, second = (2 * torch.randint(*bounds, generator=generator) + 1).to(features.device)  # odd: one to one

    def block(rows: Float[Tensor, "n d"]) -> Int64[Tensor, " n"]:
        # Features may fill the high bits alone (float32, counts), and products carry upwards only: hence the shifts.
        bits = (rows.double() + 0.0).view(torch.int64)  # + 0 makes -0 and 0 one
        bits = (bits ^ (bits >> 32)) * first
        bits = (bits ^ (bits >> 29)) * second
        return (bits ^ (bits >> 32)).sum(1)

    return torch.cat([block(rows) for rows in features.split(ROWS)])

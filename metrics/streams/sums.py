"""Inception score, conditional accuracy and bits per dimension as ``torchmetrics.Metric`` whose states are sums."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torchmetrics import Metric

from metrics.checks import takes_arrays
from metrics.samples.accuracy import accuracy_of_counts, count_hits
from metrics.samples.inception import moment_rows, outer_sum, score_of_sums
from metrics.samples.likelihood import bits_of_sums, check_model, sum_bits


class _Sums(Metric):
    is_differentiable = False
    full_state_update = False


class InceptionScore(_Sums):
    """The Inception score of samples seen in batches, from a classifier's logits or probabilities.

    ``compute`` has the fields of ``InceptionResult``. Memory is ``splits (classes + 2)^2`` numbers. One split merges
    exactly, however the samples are sharded. With more, every shard assigns its samples to the splits in turn, so that
    the members of a split depend on the shards (unless all shards but the last see a multiple of ``splits`` samples).
    """

    higher_is_better = True

    def __init__(self, classes: int, *, splits: int = 1, probabilities: bool = False, **options: object) -> None:
        super().__init__(**options)
        if classes < 1 or splits < 1:
            raise ValueError(f"classes is {classes} and splits is {splits}; at least 1 is accepted")
        self.classes, self.probabilities = classes, probabilities
        self.dealt = 0  # samples assigned so far; no state, since ``forward`` resets states for every batch
        empty = torch.zeros(splits, classes + 2, classes + 2, dtype=torch.float64)
        self.add_state("sums", empty, dist_reduce_fx="sum")

    @takes_arrays("scores")
    def update(self, scores: Float[Tensor, "n k"]) -> None:
        """Add a batch of logits, or of probabilities.

        Raises ValueError as ``inception_score`` does, and on other classes.
        """
        if scores.shape[1:] != (self.classes,):
            raise ValueError(f"scores have the shape {tuple(scores.shape)}; (n, {self.classes}) is accepted")
        z, splits = moment_rows(scores, self.probabilities), len(self.sums)
        for i in range(min(splits, len(z))):
            self.sums[(self.dealt + i) % splits] += outer_sum(z[i::splits])
        self.dealt += len(z)

    def compute(self) -> dict[str, Tensor]:
        """The Inception score of all samples seen; raises ValueError on fewer than 2 samples or an empty split."""
        return _tensors(score_of_sums(self.sums)._asdict())


class ConditionalAccuracy(_Sums):
    """Conditional accuracy of samples seen in batches: the share whose predicted label equals their condition.

    ``compute`` gives ``value, low, high`` (Wilson's interval), ``balanced``, the mean over classes, and ``per_class``
    of shape (classes, 3) with the value and the interval of each class.
    """

    higher_is_better = True

    def __init__(self, classes: int, **options: object) -> None:
        super().__init__(**options)
        if classes < 1:
            raise ValueError(f"classes is {classes}; at least 1 is accepted")
        self.classes = classes
        self.add_state("counts", torch.zeros(2, classes, dtype=torch.int64), dist_reduce_fx="sum")

    @takes_arrays("predicted", "condition")
    def update(self, predicted: Float[Tensor, "n k"] | Integer[Tensor, " n"], condition: Integer[Tensor, " n"]) -> None:
        """Add a batch of a classifier's scores or labels, with the conditions.

        Raises ValueError as ``conditional_accuracy``.
        """
        self.counts += count_hits(predicted, condition, self.classes)

    def compute(self) -> dict[str, Tensor]:
        """The accuracy over all samples seen; raises ValueError where there are none."""
        found = accuracy_of_counts(self.counts)
        value, low, high, *_ = found.overall
        per_class = [part[:3] for part in found.per_class]
        return _tensors({"value": value, "low": low, "high": high, "balanced": found.balanced, "per_class": per_class})


class BitsPerDim(_Sums):
    """Bits per dimension of log-likelihoods in nats, seen in batches; ``compute`` has the fields of ``BitsResult``."""

    higher_is_better = False

    def __init__(self, dimensions: int, *, scale: float = 1.0, **options: object) -> None:
        super().__init__(**options)
        check_model(dimensions, scale)
        self.dimensions, self.scale = dimensions, scale
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    @takes_arrays("log_likelihood", "dequantisation")
    def update(self, log_likelihood: Float[Tensor, " n"], dequantisation: Float[Tensor, " n"] | None = None) -> None:
        """Add a batch of log-likelihoods in nats; raises ValueError as ``bits_per_dim`` does."""
        self.sums += sum_bits(log_likelihood, self.dimensions, self.scale, dequantisation)

    def compute(self) -> dict[str, Tensor]:
        """The mean bits per dimension of all samples seen, and its interval; raises ValueError below two samples."""
        return _tensors(bits_of_sums(self.sums)._asdict())


def _tensors(fields: dict[str, object]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in fields.items()}

"""Inception score by any classifier (1606.03498, sec. 4): high if it is sure of each sample and the classes are even.

    IS = exp(mean over samples of KL(p(y|x) || p(y))),    p(y) = the mean of p(y|x)

It uses no real data; compare it with the score of real data at the same n. It is lower than the score of infinitely
many samples, at worst by a factor of about ``1 - (k - 1) / (2 n)``, since the entropy of a mean of n is too small:
compare at equal n and equal splits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from scipy.stats import norm
from torch import Tensor

from metrics.checks import check_finite, remark_on_probabilities, takes_arrays


class InceptionResult(NamedTuple):
    """The Inception score: the mean over splits, its interval, and the standard deviation over splits.

    The interval is that of log IS of all samples in one split, from the influence ``KL(p(y|x) || p(y)) - log IS`` of
    each sample. ``spread`` is the deviation, 1/S as in the authors' code; 0 for one split.
    """

    score: float
    low: float
    high: float
    spread: float


@takes_arrays("scores")
def inception_score(
    scores: Float[Tensor, "n k"],
    *,
    splits: int = 1,
    probabilities: bool = False,
    seed: int | None = None,
    level: float = 0.95,
) -> InceptionResult:
    """The Inception score ``exp(mean of KL(p(y|x) || p(y)))`` of samples, from a classifier's logits (1606.03498).

    With ``probabilities``, the scores are probabilities, whose rows are normalised to the sum 1. Sample i is in split
    ``i mod splits``, after a shuffle if a seed is given. Published scores are of 50,000 samples in 10 splits; one split
    is less biased. Raises ValueError on another shape, values that are not finite, probabilities that are negative or
    whose rows do not add up to 1 within 1e-3, fewer than 2 samples and fewer samples than splits.
    """
    z = moment_rows(scores, probabilities)
    if seed is not None:
        z = z[torch.randperm(len(z), generator=torch.Generator().manual_seed(seed)).to(z.device)]
    if splits < 1:
        raise ValueError(f"splits is {splits}; at least 1 is accepted")
    return score_of_sums(torch.stack([outer_sum(z[i::splits]) for i in range(splits)]), level)


def moment_rows(scores: Float[Tensor, "n k"], probabilities: bool) -> Float64[Tensor, "n k2"]:
    """A row ``z = (1, p, sum p log p)`` per sample, p its class probabilities, whose sums give the Inception score.

    ``sum z`` gives the score, and ``sum z z'`` its variance, too.
    """
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ValueError(f"scores have the shape {tuple(scores.shape)}; (n, k) is accepted")
    check_finite(scores, "scores")
    p = scores.double()
    if probabilities:
        wrong = int(((p < 0).any(1) | ((p.sum(1) - 1).abs() > 1e-3)).sum())  # half precision adds up to 1e-3
        if wrong:
            raise ValueError(f"{wrong} of {len(p)} rows are no probabilities: each >= 0, with the sum 1, is accepted")
        p = p / p.sum(1, keepdim=True)
    else:
        remark_on_probabilities(p)
        p = p.softmax(1)
    return torch.cat([torch.ones_like(p[:, :1]), p, torch.xlogy(p, p).sum(1, keepdim=True)], 1)


def outer_sum(z: Float64[Tensor, "n e"]) -> Float64[Tensor, "e e"]:
    """The sum over samples of the outer products ``z z'`` of their rows, from which the Inception score is computed.

    Its first row is ``sum z``, since every z begins with 1.
    """
    return z.mT @ z


def score_of_sums(sums: Float64[Tensor, "splits e e"], level: float = 0.95) -> InceptionResult:
    """The Inception score from the sum of ``z z'`` of every split, z being the rows (1, p, sum p log p) of its samples.

    Raises ValueError on too few samples, as ``inception_score`` does.
    """
    n = int(sums[:, 0, 0].sum())
    if n < 2 or bool((sums[:, 0, 0] == 0).any()):
        raise ValueError(f"there are {n} samples in {len(sums)} splits; at least 2, and 1 per split, are accepted")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; between 0 and 1 is accepted")
    found = torch.tensor([math.exp(_log_score(split)[0]) for split in sums], dtype=torch.float64)
    score, spread = float(found.mean()), float(found.std(correction=0))
    factor = math.exp(norm.ppf((1 + level) / 2) * _log_score(sums.sum(0))[1])
    return InceptionResult(score, score / factor, score * factor, spread)


def _log_score(sums: Float64[Tensor, "e e"]) -> tuple[float, float]:
    """log IS and its standard error: the mean and deviation of ``KL = w'z`` with ``w = (0, -log p(y), 1)``."""
    n, mean = sums[0, 0], sums[0] / sums[0, 0]
    marginal = mean[1:-1]
    w = torch.ones_like(mean)
    w[0], w[1:-1] = 0, -torch.where(marginal > 0, marginal, 1.0).log()
    log_score = w @ mean
    variance = (w @ sums @ w / n - log_score.square()).clamp(min=0)  # rounding may leave -1e-16
    return float(log_score), float((variance / (n - 1).clamp(min=1)).sqrt())

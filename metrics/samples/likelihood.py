"""Bits per dimension: a log-likelihood as the code length of data with whole-numbered levels (1511.01844, sec. 3.1).

The model has a density p(y) of ``y = scale (x + u) + offset``, where x are grey levels and u is noise in [0, 1)^d:

    bits/dim = -(log p(y) - log q(u|x) + d log scale) / (d log 2)

The offset cancels. For uniform noise log q = 0; a variational dequantiser has its own q (1902.00275). The result is an
upper bound of the code length of x. A uniform density over 256 levels has 8 bits per dimension, whatever the scale.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from scipy.stats import t as student
from torch import Tensor

from metrics.checks import takes_arrays


class BitsResult(NamedTuple):
    """Bits per dimension: the mean over samples, its standard error, and Student's interval."""

    value: float
    error: float
    low: float
    high: float


@takes_arrays("log_likelihood", "dequantisation")
def bits_per_dim(
    log_likelihood: Float[Tensor, " n"],
    dimensions: int,
    *,
    scale: float = 1.0,
    dequantisation: Float[Tensor, " n"] | None = None,
    level: float = 0.95,
) -> BitsResult:
    """Bits per dimension of data in grey levels, from a model's log-densities in nats, one per sample.

    ``-(log p(y) - log q(u|x) + d log scale) / (d log 2)`` with d dimensions and ``y = scale (x + u) + offset``, where x
    are grey levels and u is noise in [0, 1)^d. ``scale`` is the size of one grey level as the model sees it: 1/256 for
    pixels in [0, 1), 1/128 for [-1, 1). ``dequantisation`` is log q(u|x) per sample; without it the noise is uniform. A
    model of whole levels (autoregressive, say) needs neither. Raises ValueError on other shapes, values that are not
    finite, dimensions < 1, a scale that is not positive and finite, and fewer than 2 samples.
    """
    return bits_of_sums(sum_bits(log_likelihood, dimensions, scale, dequantisation), level)


def sum_bits(
    log_likelihood: Float[Tensor, " n"], dimensions: int, scale: float, dequantisation: Float[Tensor, " n"] | None
) -> Float64[Tensor, " 3"]:
    """Number, sum and sum of squares of the bits per dimension of samples, from their log-likelihoods in nats."""
    check_model(dimensions, scale)
    noise = torch.zeros_like(log_likelihood) if dequantisation is None else dequantisation
    if log_likelihood.ndim != 1 or noise.shape != log_likelihood.shape:
        given = f"{tuple(log_likelihood.shape)} and {tuple(noise.shape)}"
        raise ValueError(f"log-likelihoods and dequantisation have the shapes {given}; (n,) and (n,) are accepted")
    nats = log_likelihood.double() - noise.double()
    wrong = int((~torch.isfinite(nats)).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(nats)} log-likelihoods are not finite")
    bits = -(nats / dimensions + math.log(scale)) / math.log(2)
    return torch.stack([torch.ones_like(bits), bits, bits.square()]).sum(1)


def bits_of_sums(sums: Float64[Tensor, " 3"], level: float = 0.95) -> BitsResult:
    """Bits per dimension from the number, sum and sum of squares over samples; raises ValueError below two samples."""
    n, total, squares = sums.tolist()
    if n < 2:
        raise ValueError(f"a standard error needs at least 2 samples; there are {int(n)}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; between 0 and 1 is accepted")
    mean = total / n
    error = math.sqrt(max(squares / n - mean**2, 0.0) / (n - 1))  # equal samples leave -1e-16
    half = float(student.ppf((1 + level) / 2, n - 1)) * error
    return BitsResult(mean, error, mean - half, mean + half)


def check_model(dimensions: int, scale: float) -> None:
    """Raise ValueError on fewer than 1 dimension, and on a size of grey levels that is not positive and finite."""
    if dimensions < 1 or not 0 < scale < math.inf:
        raise ValueError(
            f"dimensions is {dimensions} and scale is {scale}; >= 1, and positive and finite, are accepted"
        )

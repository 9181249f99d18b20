"""The Vendi score: the effective number of different samples in a set (2210.02410; other orders: 2310.12952).

It depends on n, since a set of n samples has at most n different ones: compare at equal n. Rows drawn with replacement
have fewer different ones, so that intervals must come from halves (the default of ``metrics.uncertainty.bootstrap``),
which are valid as long as the score is far below n.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import check_features, takes_arrays

ROWS = 8192


class VendiScores(NamedTuple):
    """Vendi scores, the effective number of different samples: of the real set, of the generated set, and their ratio.

    The ratio is generated over real.
    """

    real: float
    fake: float
    ratio: float


@takes_arrays("features")
def vendi_score(
    features: Float[Tensor, "n d"],
    *,
    order: float = 1.0,
    kernel: Literal["cosine", "rbf"] = "cosine",
    bandwidth: float | None = None,
) -> float:
    """Vendi score of features, the effective number of different rows, from 1 to n (2210.02410).

    ``VS_q = (sum of lambda^q)^(1 / (1 - q))`` over the eigenvalues lambda of K / n, K the matrix of similarities. The
    paper's score has the order q = 1, ``exp(-sum of lambda log lambda)``; order 0 is the rank of K, and infinity ``1 /
    max lambda`` (2310.12952). The higher the order, the less rare samples count. K has the cosines of the features, or
    ``exp(-|x - y|² / (2 h²))`` with the bandwidth h (``rbf``). The cosine kernel needs memory for min(n, d)² numbers,
    rbf for n². Raises ValueError on features that are not (n, d) and finite, on a row of zeros (which has no cosine),
    on negative orders, on a bandwidth that is not positive, on ``rbf`` without one and on the cosine kernel with one.
    """
    if not features.numel():
        raise ValueError(f"features have the shape {tuple(features.shape)}; (n, d) is accepted")
    check_features(features)
    if kernel not in ("cosine", "rbf"):
        raise ValueError(f"kernel is {kernel!r}; 'cosine' and 'rbf' are accepted")
    if (kernel == "rbf") != (bandwidth is not None) or (bandwidth is not None and not 0 < bandwidth < math.inf):
        raise ValueError(f"bandwidth is {bandwidth} and kernel {kernel!r}; a positive one with 'rbf' is accepted")
    if kernel == "rbf":
        x = features.double()
        distances = torch.cdist(
            x, x, compute_mode="donot_use_mm_for_euclid_dist"
        )  # products would lose digits of near ones
        return vendi_score_from_similarity(torch.exp(-0.5 * (distances / bandwidth).square()), order=order)
    return _effective(torch.linalg.eigvalsh(_cosines(features)), len(features), order)


@takes_arrays("similarity")
def vendi_score_from_similarity(similarity: Float[Tensor, "n n"], *, order: float = 1.0) -> float:
    """Vendi score, the effective number of different items, of a matrix of similarities with ones on its diagonal.

    The matrix is positive semidefinite; the score is ``(sum of lambda^q)^(1 / (1 - q))`` over the eigenvalues of the
    matrix / n, q the order. Raises ValueError where it is not square or not symmetric, or where its diagonal is not 1.
    """
    k = similarity.double()
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not k.numel():
        raise ValueError(f"the similarity has the shape {tuple(k.shape)}; (n, n) is accepted")
    apart = max(float((k - k.mT).abs().max()), float((k.diagonal() - 1).abs().max()))
    if not apart <= 1e-6:  # what float32 products leave
        raise ValueError(f"the similarity is {apart:.1e} from symmetry with a diagonal of 1; at most 1e-6 is accepted")
    return _effective(torch.linalg.eigvalsh(k / len(k)), len(k), order)


@takes_arrays("real", "fake")
def vendi_scores(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    *,
    order: float = 1.0,
    kernel: Literal["cosine", "rbf"] = "cosine",
    bandwidth: float | None = None,
) -> VendiScores:
    """Vendi scores, the effective numbers of different samples, of both sets and their ratio, generated over real.

    That of the generated set alone says little. Options are as in ``vendi_score``.
    """
    a, b = (vendi_score(x, order=order, kernel=kernel, bandwidth=bandwidth) for x in (real, fake))
    return VendiScores(a, b, b / a)


def _cosines(features: Float[Tensor, "n d"]) -> Float64[Tensor, "e e"]:
    """K / n, or the d x d matrix with the same eigenvalues up to zeros, whichever is smaller."""
    largest = features.abs().amax(1, keepdim=True)
    none = int((largest == 0).sum())
    if none:
        raise ValueError(f"{none} of {len(features)} rows of features are zeros, which have no cosine")

    def unit(start: int) -> Float64[Tensor, "r d"]:
        part = slice(start, start + ROWS)
        return torch.nn.functional.normalize(features[part].double() / largest[part].double(), eps=0)

    n, d = features.shape
    if n <= d:
        x = torch.cat([unit(start) for start in range(0, n, ROWS)])
        return x @ x.mT / n
    total = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for start in range(0, n, ROWS):
        x = unit(start)
        total += x.mT @ x
    return total / n


def _effective(eigenvalues: Float64[Tensor, " e"], n: int, order: float) -> float:
    """The exponential of the Rényi entropy; eigenvalues within rounding of 0 are taken for 0."""
    if not order >= 0:
        raise ValueError(f"order is {order}; numbers from 0 to infinity are accepted")
    rounding = max(n, len(eigenvalues)) * torch.finfo(eigenvalues.dtype).eps
    kept = eigenvalues[eigenvalues > rounding * eigenvalues[-1]]
    kept = kept / kept.sum()
    if math.isinf(order):
        return float(1 / kept.max())
    if math.isclose(order, 1, abs_tol=1e-8):  # nearer to 1, the quotient has the larger error
        return float(torch.special.entr(kept).sum().exp())
    return float((kept.pow(order).sum().log() / (1 - order)).exp())

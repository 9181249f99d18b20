"""The Vendi score: how many different samples a set holds in effect (2210.02410; orders: 2310.12952).

It depends on n, for no set of n has more than n: compare at equal n. Rows drawn with replacement hold fewer different
ones; intervals come from halves (``metrics.uncertainty.bootstrap``'s default), which are right as long as the score is
far below n.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from metrics.checks import takes_arrays

ROWS = 8192


class VendiScores(NamedTuple):
    """Of the real set, of the generated one, and generated over real."""

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
    """``VS_q = (sum of lambda^q)^(1 / (1 - q))`` over the eigenvalues lambda of K / n, from 1 to n.

    Order q = 1 is ``exp(-sum of lambda log lambda)``, the paper's; 0 counts the rank, infinity is ``1 / max lambda``:
    the higher, the less do rare samples count. K is the cosine of features, or ``exp(-|x - y|² / (2 h²))`` of bandwidth
    h (``rbf``). The cosine needs memory for min(n, d)², rbf for n² numbers. Raises ValueError on features that are not
    (n, d) and finite, on a row of zeros (it has no cosine), on negative orders and on a bandwidth that is not positive
    or that the kernel has no use for.
    """
    if features.ndim != 2 or not features.numel():
        raise ValueError(f"features have the shape {tuple(features.shape)}; (n, d) is accepted")
    wrong = int((~torch.isfinite(features).all(1)).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(features)} rows of features are not finite")
    if kernel not in ("cosine", "rbf"):
        raise ValueError(f"kernel is {kernel!r}; 'cosine' and 'rbf' are accepted")
    if (kernel == "rbf") != (bandwidth is not None) or (bandwidth is not None and not 0 < bandwidth < math.inf):
        raise ValueError(f"bandwidth is {bandwidth} and kernel {kernel!r}; a positive one with 'rbf' is accepted")
    if kernel == "rbf":
        x = features.double()
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # that way loses digits of near ones
        return vendi_score_from_similarity(torch.exp(-0.5 * (distances / bandwidth).square()), order=order)
    return _effective(torch.linalg.eigvalsh(_cosines(features)), len(features), order)


@takes_arrays("similarity")
def vendi_score_from_similarity(similarity: Float[Tensor, "n n"], *, order: float = 1.0) -> float:
    """The same of any matrix of similarities, positive semidefinite with ones on its diagonal.

    Raises ValueError where it is not square, symmetric or of ones on the diagonal.
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
    """The scores of both sets, for the generated one's means little by itself; options of ``vendi_score``."""
    a, b = (vendi_score(x, order=order, kernel=kernel, bandwidth=bandwidth) for x in (real, fake))
    return VendiScores(a, b, b / a)


def _cosines(features: Float[Tensor, "n d"]) -> Float64[Tensor, "e e"]:
    """K / n, or the matrix of d x d that has the same eigenvalues but for zeros, whichever is smaller."""
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
    """The exponential of Rényi's entropy; eigenvalues within rounding of 0 are taken for 0."""
    if not order >= 0:
        raise ValueError(f"order is {order}; numbers from 0 to infinity are accepted")
    rounding = max(n, len(eigenvalues)) * torch.finfo(eigenvalues.dtype).eps
    kept = eigenvalues[eigenvalues > rounding * eigenvalues[-1]]
    kept = kept / kept.sum()
    if math.isinf(order):
        return float(1 / kept.max())
    if math.isclose(order, 1, abs_tol=1e-8):  # nearer, the quotient loses more than the limit is off
        return float(torch.special.entr(kept).sum().exp())
    return float((kept.pow(order).sum().log() / (1 - order)).exp())

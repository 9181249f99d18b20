"""Sliced Wasserstein distance of two samples, over orthonormal directions (1902.00434, sec. 2; 1903.03784)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from metrics.checks import check_finite, takes_arrays

_CHUNK = 2**23  # projected values in memory at once: 64 MiB in float64


@takes_arrays("x", "y")
def sliced_wasserstein(
    x: Float[Tensor, " n *shape"],
    y: Float[Tensor, " m *shape"],
    *,
    projections: int = 512,
    seed: int = 0,
    p: float = 2.0,
) -> float:
    """Sliced p-Wasserstein distance of two samples: the root mean over directions of the distance of projections.

        SW_p^p = mean over u of W_p^p(u'x, u'y),    W_p^p = integral over q in [0, 1] of |F^-1(q) - G^-1(q)|^p

    The distance along each direction is exact, and n and m may differ. Directions are uniform on the sphere and come as
    whole random orthonormal bases (the last is cut off where d does not divide ``projections``): a shift by s then
    gives SW_2 = |s| / sqrt(d) exactly, and results vary less over seeds than with independent directions. Computed in
    float64, in units of the samples; one seed gives the same result. Raises ValueError on empty samples, different
    shapes, values that are not finite, p < 1 and projections < 1.
    """
    if x.shape[1:] != y.shape[1:] or x.ndim < 2:
        given = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"samples have the shapes {given}; (n, *shape) and (m, *shape) are accepted")
    if not len(x) or not len(y):
        raise ValueError(f"there are {len(x)} and {len(y)} samples; at least 1 is accepted")
    if projections < 1 or not 1 <= p < math.inf:
        raise ValueError(f"projections is {projections} and p is {p}; projections >= 1 and finite p >= 1 are accepted")
    x, y = x.flatten(1).double(), y.flatten(1).double()
    for sample in (x, y):
        check_finite(sample, "samples")
    i, j, weight = (part.to(x.device) for part in _coupling(len(x), len(y)))
    at_once = max(1, _CHUNK // len(weight))
    costs = []
    for basis in draw_bases(x.shape[1], projections, seed):
        for u in basis.to(x.device).split(at_once, dim=1):
            a, b = (x @ u).sort(dim=0).values, (y @ u).sort(dim=0).values
            costs.append(weight @ (a[i] - b[j]).abs().pow(p))
    return float(torch.cat(costs).mean() ** (1 / p))


def _coupling(n: int, m: int) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"], Float64[Tensor, " k"]]:
    """Pairs of order statistics that the monotone coupling joins, and the mass of each, a multiple of 1/(n m)."""
    edges = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique()
    left = edges[:-1]
    return left // m, left // n, edges.diff().double() / (n * m)


def draw_bases(d: int, projections: int, seed: int) -> Iterator[Float64[Tensor, "d k"]]:
    """Draw random orthonormal directions (d, k) for sliced distances, many small bases side by side in one block.

    QR decides the signs of the columns, so that the bases are not Haar distributed; u and -u give the same distance.
    """
    generator = torch.Generator().manual_seed(seed)
    together = max(1, 256 // d)
    while projections > 0:
        gaussian = torch.randn(together, d, min(d, projections), dtype=torch.float64, generator=generator)
        block = torch.linalg.qr(gaussian).Q.transpose(0, 1).flatten(1)[:, :projections]
        yield block
        projections -= block.shape[1]

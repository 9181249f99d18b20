"""How coarsely a sampler rounds its state, read off samples that lie close together.

Samples that differ by 1/256 % each should come out on a smooth curve; what a cubic through them leaves is rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def staircase(dtype: torch.dtype = torch.float64, n: int = 64) -> Tensor:
    """Factors of a start (n, 1), each 1/25,600 above the one before."""
    return 1 + torch.arange(n, dtype=dtype)[:, None] / 25600


def roughness(y: Tensor) -> float:
    """Root mean square of what a cubic through the samples (n, d) leaves, relative to their largest."""
    n = len(y)
    basis = torch.linalg.qr(torch.linspace(-1, 1, n, dtype=torch.float64)[:, None] ** torch.arange(4)).Q
    rest = y.double() - basis @ (basis.T @ y.double())
    return float(rest.square().mean().sqrt() / y.double().abs().max())

"""How coarsely a sampler rounds its state, measured on samples that lie close together.

Starts that differ by 1/25,600 each should give outputs on a smooth curve; the residual of a cubic fit is rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def staircase(dtype: torch.dtype = torch.float64, n: int = 64) -> Tensor:
    """Factors for a start, (n, 1), each 1/25,600 larger than the one before, by whose outputs rounding is measured."""
    return 1 + torch.arange(n, dtype=dtype)[:, None] / 25600


def roughness(y: Tensor) -> float:
    """Relative rounding of outputs (n, d) of samples that lie close together: the RMS residual of a cubic fit.

    It is relative to their largest value.
    """
    n = len(y)
    basis = torch.linalg.qr(torch.linspace(-1, 1, n, dtype=torch.float64)[:, None] ** torch.arange(4)).Q
    rest = y.double() - basis @ (basis.T @ y.double())
    return float(rest.square().mean().sqrt() / y.double().abs().max())

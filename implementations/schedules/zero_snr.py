"""Zero terminal SNR: a table of betas rescaled so that its last timestep holds no signal (2305.08891)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.path import Path
from implementations.schedules.spacing import WHOLE, Levels, Times, bound_levels, lay_out

Betas: TypeAlias = Float[Tensor, " steps"]


def zero_snr(
    path: Path,
    steps: int,
    *,
    betas: Betas | Sequence[float] | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid from alpha = 0: equal steps of the timestep in a table of betas, rescaled to zero terminal SNR.

    The rescaling is that of 2305.08891. Where ``steps`` divides the table's length these are the noise levels of its
    ``trailing`` timesteps; between timesteps alpha is linear. ``betas`` default to the path's own on ``DiscreteVP``,
    elsewhere to Stable Diffusion's. The grid starts at alpha = 0, or at the path's own end where the path does not
    reach it. Raises ValueError on levels outside the path.
    """
    if betas is None:
        betas = path.betas if isinstance(path, DiscreteVP) else _stable_diffusion()
    bounds = bound_levels(path, steps, sigma_min, sigma_max, WHOLE)
    alphas = np.append(1.0, _zero_terminal(betas).numpy())  # of k = -1, the clean end, to N - 1
    shares = np.linspace(0, 1, len(alphas))

    def forward(r: Levels) -> Levels:
        return torch.from_numpy(np.asarray(np.interp(1 / np.hypot(1, r.numpy()), alphas[::-1], shares[::-1])))

    def inverse(share: Levels) -> Levels:
        alpha = torch.from_numpy(np.asarray(np.interp(share.numpy(), shares, alphas)))
        return ((1 - alpha) * (1 + alpha)).sqrt() / alpha

    return lay_out(path, steps, forward, inverse, bounds, clean)


def rescale_betas(betas: Betas | Sequence[float]) -> Betas:
    """Rescale a table of betas to zero terminal SNR: the last alpha becomes 0, and the first is unchanged.

    ``sqrt(alpha_bar)`` is shifted by its last value, then scaled (2305.08891, alg. 1); the last beta is 1, which
    ``DiscreteVP`` takes. Raises ValueError on betas outside (0, 1), but for a last one of 1.
    """
    bars = _zero_terminal(betas).square()
    return 1 - bars / torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])


def _zero_terminal(betas: Betas | Sequence[float]) -> Betas:
    """Give ``sqrt(alpha_bar)`` of the rescaled table."""
    betas = as_tensor(betas, torch.float64)
    if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas <= 1)).all() and (betas[:-1] < 1).all()):
        raise ValueError(f"betas must be at least 2 values in (0, 1), the last perhaps 1, got {betas.tolist()[:5]} ...")
    alphas = torch.log1p(-betas).cumsum(0).div(2).exp()
    return (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))


def _stable_diffusion() -> Betas:
    """The 1,000 betas of Stable Diffusion: equal steps of their root."""
    return torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()

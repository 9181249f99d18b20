"""Forward processes in discrete steps: DDPM and SMLD, of which VP and VE are the limit (2011.13456, app. B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.noise import Noise, draws
from implementations.diffusion.path import VE, VP, Images, Path

Table: TypeAlias = Float[Tensor, " steps"] | Sequence[float]


@dataclass(frozen=True)
class Chain:
    """A forward process in N discrete steps, ``x_i = scales[i] x_(i-1) + deviations[i] z_i`` with standard normal z."""

    scales: Float[Tensor, " steps"]
    deviations: Float[Tensor, " steps"]

    @classmethod
    def ddpm(cls, betas: Table) -> Chain:
        """The chain of DDPM, ``x_i = sqrt(1 - beta_i) x_(i-1) + sqrt(beta_i) z`` (2006.11239, eq. 2).

        Raises ValueError on betas outside (0, 1].
        """
        betas = as_tensor(betas, torch.float64)
        if not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError(f"betas must lie in (0, 1], got {betas.min():.6g} to {betas.max():.6g}")
        return cls((1 - betas).sqrt(), betas.sqrt())

    @classmethod
    def smld(cls, sigmas: Table) -> Chain:
        """The chain of SMLD, ``x_i = x_(i-1) + sqrt(sigma_i^2 - sigma_(i-1)^2) z``, sigma_0 = 0 (2011.13456, eq. 20).

        Raises ValueError where the sigmas do not rise.
        """
        squares = as_tensor(sigmas, torch.float64).square()
        rises = torch.cat([squares[:1], squares.diff()])
        if not bool((rises > 0).all()):
            raise ValueError("sigmas must rise from above 0")
        return cls(torch.ones_like(rises), rises.sqrt())

    @classmethod
    def of_path(cls, path: Path, times: Float[Tensor, " points"]) -> Chain:
        """The chain whose marginals at ascending ``times`` are exactly those of a continuous path.

        ``x' = (alpha'/alpha) x + sqrt(sigma'^2 - (alpha'/alpha)^2 sigma^2) z``, where a prime is the next time.
        """
        times = path.inside(times)
        scales = path.alpha(times[1:]) / path.alpha(times[:-1])
        # sigma'^2 - a^2 sigma^2 by the log-SNR, since its terms cancel over short steps
        share = -torch.expm1(2 * (path.log_snr(times[1:]) - path.log_snr(times[:-1])))
        return cls(scales, path.sigma(times[1:]) * share.sqrt())

    @draws("forward")
    def run(self, x: Images, *, noise: Noise) -> Images:
        """Carry a batch of data x_0 through all steps, and return the noised batch at the chain's end."""
        for k, (scale, deviation) in enumerate(zip(self.scales.tolist(), self.deviations.tolist(), strict=True)):
            x = (x * scale).add_(noise(k, x), alpha=deviation)
        return x

    def marginals(self) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
        """Give alpha and sigma of ``x_i = alpha x_0 + sigma eps`` after each of the N steps, by the exact recursion."""
        variance, variances = 0.0, []
        for scale, deviation in zip(self.scales.tolist(), self.deviations.tolist(), strict=True):
            variance = scale**2 * variance + deviation**2
            variances.append(variance)
        return self.scales.cumprod(0), torch.tensor(variances, dtype=torch.float64).sqrt()


def ddpm_betas(path: VP, steps: int) -> Float[Tensor, " steps"]:
    """The betas of the DDPM chain of N steps that tends to VP: ``beta(i/N) / N``, with an error of 1/N.

    The limit is that of 2011.13456, eq. 23 to 25.
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return -2 * path.drift(t) / steps


def smld_sigmas(path: VE, steps: int) -> Float[Tensor, " steps"]:
    """The sigmas of the SMLD chain of N steps that tends to VE: geometric, from sigma_min to sigma_max.

    The error is 1/N (2011.13456, eq. 30).
    """
    return path.sigma(torch.linspace(0, 1, steps, dtype=torch.float64))

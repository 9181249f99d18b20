"""The path of a table of betas, continued between its timesteps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import as_tensor
from implementations.diffusion.path import Path, Time, Values, as_float64

LEAST = -88.0  # of log alpha-bar: float32 has nothing below


class DiscreteVP(Path):
    """The variance-preserving path of a table of N betas (2006.11239), continued between its timesteps.

    ``t = k`` is timestep k as networks count it, with alpha-bar ``prod_{i<=k} (1 - beta_i)``. Between timesteps the
    log-SNR is linear in t; on [-1, 0] sigma/alpha is linear and starts from 0, so that ``t_min = -1`` is the clean end.
    At a timestep, derivatives are those of the piece to its right. The last beta may be 1 (zero terminal SNR,
    2305.08891): alpha/sigma then falls linearly to 0 over the last piece. Raises ValueError on other betas, and where
    they look like alphas or cumulative products: falling from above 1/2, or with an alpha-bar below e^-88.
    """

    t_min = -1.0
    variance_preserving = True

    def __init__(self, betas: Float[Tensor, " steps"] | Sequence[float]):
        betas = as_tensor(betas, torch.float64).detach().cpu()
        if betas.ndim != 1 or len(betas) < 2:
            raise ValueError(f"DiscreteVP: betas must be a vector of at least 2, got shape {tuple(betas.shape)}")
        self._terminal = float(betas[-1]) == 1
        regular = betas[:-1] if self._terminal else betas
        if len(regular) < 2 or not bool(((regular > 0) & (regular < 1)).all()):
            raise ValueError(
                f"DiscreteVP: betas must lie in (0, 1), the last of three or more may be 1, "
                f"got {betas.min():.6g} to {betas.max():.6g}"
            )
        alpha_bar = float(torch.log1p(-regular).sum())
        if bool((regular.diff() <= 0).all() and regular[0] > 0.5) or alpha_bar < LEAST:
            raise ValueError(
                f"DiscreteVP: betas are wanted, the variance added at each timestep, got {betas[0]:.6g} to "
                f"{betas[-1]:.6g}, which leave nothing of the data: these look like alphas or cumulative products; "
                "betas = 1 - alphas_cumprod[k] / alphas_cumprod[k - 1]"
            )
        self.betas = betas
        self.t_max = float(len(betas) - 1)
        betas = regular
        self._log_snr = -torch.expm1(-torch.log1p(-betas).cumsum(0)).log() / 2
        slopes = self._log_snr.diff()
        self._slopes = torch.cat([slopes, slopes[-1:]])  # of the piece to the right of a timestep, the last for the end

    def __repr__(self) -> str:
        return f"DiscreteVP({len(self.betas)} betas, {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    def log_snr(self, t: Time) -> Values:
        t = as_float64(t)
        start, first, slope = self._piece(t)
        inside = torch.where(
            self._last(t), self._log_snr[-1].to(t) + (self.t_max - t).log(), first + (t - start) * slope
        )
        return torch.where(t < 0, self._log_snr[0].to(t) - (t + 1).log(), inside)

    def network_time(self, t: Time) -> Values:
        """Give the timestep at which a network is asked for ``t``, ``max(t, 0)``.

        Times in [-1, 0) belong to the step to the clean end, where it is asked at its first timestep.
        """
        return as_float64(t).clamp(min=0)

    def alpha(self, t: Time) -> Values:
        return torch.sigmoid(2 * self.log_snr(t)).sqrt()

    def sigma(self, t: Time) -> Values:
        return torch.sigmoid(-2 * self.log_snr(t)).sqrt()

    def d_alpha(self, t: Time) -> Values:
        # on the last piece by q = alpha/sigma, q' = -q0: alpha' is finite where f is not
        last = -self._log_snr[-1].exp() * self.sigma(t) ** 3
        return torch.where(self._last(t), last, self._drift(t) * self.alpha(t))

    def d_sigma(self, t: Time) -> Values:
        last = self._log_snr[-1].exp() * self.alpha(t) * self.sigma(t) ** 2
        return torch.where(self._last(t), last, self._d_ratio(t) * self.alpha(t) ** 3)  # sigma = r / sqrt(1 + r^2)

    def drift(self, t: Time) -> Values:
        return torch.where(self._last(t), self.d_alpha(t) / self.alpha(t), self._drift(t))

    def _drift(self, t: Time) -> Values:
        return -self._d_ratio(t) * self.ratio(t) * self.alpha(t) ** 2  # alpha = 1 / sqrt(1 + r^2)

    def time(self, log_snr: Time) -> Values:
        log_snr = as_float64(log_snr)
        knots = self._log_snr.to(log_snr.device)
        start = (torch.searchsorted(-knots, -log_snr.contiguous()) - 1).clamp(0, len(knots) - 2)
        inside = start + (log_snr - knots[start]) / (knots[start + 1] - knots[start])
        if self._terminal:
            inside = torch.where(log_snr < knots[-1], self.t_max - (log_snr - knots[-1]).exp(), inside)
        return torch.where(log_snr > knots[0], (knots[0] - log_snr).exp() - 1, inside)

    def _last(self, t: Time) -> Tensor:
        """Say whether ``t`` lies on a last piece that ends at alpha = 0."""
        return (as_float64(t) >= self.t_max - 1) & self._terminal

    def _piece(self, t: Values) -> tuple[Tensor, Values, Values]:
        """Give the timestep at or before ``t``, its log-SNR, and the slope of the piece to its right."""
        start = t.long().clamp(0, len(self._log_snr) - 1)
        return start, self._log_snr.to(t.device)[start], self._slopes.to(t.device)[start]

    def _d_ratio(self, t: Time) -> Values:
        t = as_float64(t)
        return torch.where(t < 0, (-self._log_snr[0]).exp().to(t), -self._piece(t)[2] * self.ratio(t))

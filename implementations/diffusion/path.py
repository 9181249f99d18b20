"""Paths: isotropic Gaussian forward processes ``x_t = alpha(t) x_0 + sigma(t) eps``, noise growing with ``t``.

Everything is computed and returned in float64: a grid's coefficients are few, and a float32 ``1 - alpha^2`` has lost
its digits where samplers need them most. Closed forms stand wherever the generic one is 0/0 or cancels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from implementations.diffusion.checks import as_tensor

Values: TypeAlias = Float[Tensor, "*batch"]  # float64, of the shape of t
Time: TypeAlias = float | Float[Tensor, "*batch"] | Int[Tensor, "*batch"]
Images: TypeAlias = Float[Tensor, " n *shape"]


class Path(ABC):
    """A forward process ``x_t = alpha(t) x_0 + sigma(t) eps`` on ``[t_min, t_max]``, from clean data to noise.

    With ``f = d log alpha / dt`` and ``g^2 = d sigma^2 / dt - 2 f sigma^2``, ``dx = f x dt + g dw`` has these marginals
    (2107.00630; 2206.00927). Coefficients are float64; derivatives that do not exist at an end are infinite there.
    """

    t_min: float = 0.0
    t_max: float = 1.0
    variance_preserving: ClassVar[bool] = False  # alpha^2 + sigma^2 = 1

    @abstractmethod
    def alpha(self, t: Time) -> Values:
        """Scale alpha of the data in ``x_t = alpha x_0 + sigma eps``.

        It is float64, also where t is float32. ``noised(path, x_0, t, eps)`` of ``implementations.objectives`` makes
        ``x_t`` in the dtype of the data; ``per_sample(path.alpha(t), x_0)`` of this module gives alpha that and axes.
        """

    @abstractmethod
    def sigma(self, t: Time) -> Values:
        """Standard deviation sigma of the noise in ``x_t = alpha x_0 + sigma eps``.

        It is float64, also where t is float32. ``noised(path, x_0, t, eps)`` of ``implementations.objectives`` makes
        ``x_t`` in the dtype of the data; ``per_sample(path.sigma(t), eps)`` of this module gives sigma that and axes.
        """

    @abstractmethod
    def d_alpha(self, t: Time) -> Values:
        """Derivative in t of alpha, the scale of the data."""

    @abstractmethod
    def d_sigma(self, t: Time) -> Values:
        """Derivative in t of sigma, the standard deviation of the noise."""

    @abstractmethod
    def time(self, log_snr: Time) -> Values:
        """Time t at which the log-SNR is ``log_snr = log(alpha/sigma)``; it extrapolates beyond the path's range."""

    def network_time(self, t: Time) -> Values:
        """Time at which a network is asked for the path's ``t``: t itself, unless networks have not seen some times."""
        return as_float64(t)

    def drift(self, t: Time) -> Values:
        """Drift coefficient ``f = d log alpha / dt`` of the forward SDE ``dx = f x dt + g dw``."""
        return self.d_alpha(t) / self.alpha(t)

    def diffusion(self, t: Time) -> Values:
        """Diffusion coefficient ``g = sqrt(2 sigma (sigma' - f sigma))`` of the forward SDE ``dx = f x dt + g dw``."""
        if self.variance_preserving:  # sigma sigma' = -alpha alpha', so g^2 = -2 f, finite where sigma' is not
            return (-2 * self.drift(t)).sqrt()
        sigma = self.sigma(t)
        return (2 * sigma * (self.d_sigma(t) - self.drift(t) * sigma)).sqrt()

    def log_snr(self, t: Time) -> Values:
        """The log-SNR ``lambda = log(alpha / sigma)`` at t: +inf where sigma = 0, -inf where alpha = 0."""
        return self.alpha(t).log() - self.sigma(t).log()

    def ratio(self, t: Time) -> Values:
        """``sigma / alpha``, the noise level in units of the data: infinite where alpha = 0."""
        return self.sigma(t) / self.alpha(t)

    def prior(self, noise: Images, t: Time) -> Images:
        """Give the state from which a user starts at ``t``, the first time of the grid, which may lie below ``t_max``.

        It is the noise itself on a variance-preserving path, and ``sigma(t) noise`` on others.
        """
        sigma = float(self.sigma(self.inside(t)))
        return noise if self.variance_preserving else noise * sigma

    def inside(self, t: Time) -> Values:
        """Give the time ``t`` in float64; raises ValueError where it lies outside the path, beyond float32's rounding.

        alpha, sigma and the other coefficients are formulas that take any t.
        """
        t = as_float64(t)
        if t.is_cpu and t.numel():  # a GPU would have to be waited for
            low, high = (end.item() for end in t.detach().aminmax()) if t.ndim else (t.item(),) * 2
            least, most = self.t_min, self.t_max
            room = 1e-6 * (most - least)
            if not (least - room <= low and high <= most + room):
                wrong = low if not least - room <= low else high
                raise ValueError(f"t must lie in [{least}, {most}] of {self!r}, got {wrong}")
        return t


@dataclass(frozen=True)
class _LinearBeta(Path):
    """``alpha = exp(-B/2)``, ``B = beta_min t + (beta_max - beta_min) t^2 / 2``, the integral of beta."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"0 < beta_min <= beta_max is needed, got {self.beta_min} and {self.beta_max}")

    def alpha(self, t: Time) -> Values:
        return (-self._integral(t) / 2).exp()

    def d_alpha(self, t: Time) -> Values:
        return self.drift(t) * self.alpha(t)

    def drift(self, t: Time) -> Values:
        return -(self.beta_min + (self.beta_max - self.beta_min) * as_float64(t)) / 2

    def _integral(self, t: Time) -> Values:
        t = as_float64(t)
        return t * (self.beta_min + (self.beta_max - self.beta_min) / 2 * t)

    def _time(self, integral: Values) -> Values:
        """Solve B(t) = ``integral`` for t > 0, in the form whose terms do not cancel."""
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral).sqrt()
        return 2 * integral / (self.beta_min + root)


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance-preserving path: ``alpha = exp(-B/2)``, ``sigma^2 = 1 - exp(-B)`` (2011.13456, eq. 29).

    B is the integral of ``beta(t)`` from 0 to t, and beta is linear from ``beta_min`` to ``beta_max`` on [0, 1].
    """

    variance_preserving = True

    def sigma(self, t: Time) -> Values:
        return (-torch.expm1(-self._integral(t))).sqrt()

    def d_sigma(self, t: Time) -> Values:
        return -self.drift(t) * self.alpha(t) ** 2 / self.sigma(t)

    def time(self, log_snr: Time) -> Values:
        return self._time(torch.logaddexp(-2 * as_float64(log_snr), torch.zeros((), dtype=torch.float64)))


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-variance-preserving path: ``alpha = exp(-B/2)``, ``sigma = 1 - exp(-B)`` (2011.13456, eq. 29).

    B is the integral of ``beta(t)`` from 0 to t, and beta is linear from ``beta_min`` to ``beta_max`` on [0, 1].
    """

    def sigma(self, t: Time) -> Values:
        return -torch.expm1(-self._integral(t))

    def d_sigma(self, t: Time) -> Values:
        return -2 * self.drift(t) * (-self._integral(t)).exp()

    def diffusion(self, t: Time) -> Values:
        return (2 * self.drift(t) * torch.expm1(-2 * self._integral(t))).sqrt()

    def time(self, log_snr: Time) -> Values:
        return self._time(2 * torch.asinh((-as_float64(log_snr)).exp() / 2))  # sigma/alpha = 2 sinh(B/2)


@dataclass(frozen=True)
class Cosine(Path):
    """The squared-cosine path: ``alpha = cos a / cos b``, ``a = (t+s)/(1+s) pi/2``, b = a at 0 (2102.09672, eq. 17).

    It preserves variance. The paper clips its betas at 0.999; here alpha is 0 at t = 1, as the formula has it.
    """

    s: float = 0.008
    variance_preserving = True

    def __post_init__(self) -> None:
        if not self.s > 0:
            raise ValueError(f"Cosine: s must be positive, got {self.s}")

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.s)

    def alpha(self, t: Time) -> Values:
        return torch.sin((1 - as_float64(t)) * self._rate) / math.cos(self._rate * self.s)  # cos a, exactly 0 at t = 1

    def sigma(self, t: Time) -> Values:
        t, b = as_float64(t), self._rate * self.s
        # cos^2 b - cos^2 a = sin(a - b) sin(a + b): no cancellation near t = 0
        return (torch.sin(t * self._rate) * torch.sin(t * self._rate + 2 * b)).sqrt() / math.cos(b)

    def d_alpha(self, t: Time) -> Values:
        return -self._rate * torch.sin((as_float64(t) + self.s) * self._rate) / math.cos(self._rate * self.s)

    def d_sigma(self, t: Time) -> Values:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def time(self, log_snr: Time) -> Values:
        log_snr, b = as_float64(log_snr), self._rate * self.s
        alpha, sigma2 = torch.sigmoid(2 * log_snr).sqrt(), torch.sigmoid(-2 * log_snr)
        a = torch.atan2((math.sin(b) ** 2 + sigma2 * math.cos(b) ** 2).sqrt(), alpha * math.cos(b))
        # a - b by its sine, since the difference itself loses its digits near t = 0
        return torch.atan2(sigma2 * math.cos(b) ** 2 / torch.sin(a + b), torch.cos(a - b)) / self._rate


class _Exploding(Path):
    """``alpha = 1``: noise is added to data that keep their scale."""

    def alpha(self, t: Time) -> Values:
        return torch.ones_like(as_float64(t))

    def d_alpha(self, t: Time) -> Values:
        return torch.zeros_like(as_float64(t))


@dataclass(frozen=True)
class VE(_Exploding):
    """Variance-exploding path: ``alpha = 1``, ``sigma = sigma_min (sigma_max/sigma_min)^t``, with t in [0, 1].

    sigma is never 0: its clean end is ``sigma_min`` (2011.13456, app. C).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"VE: 0 < sigma_min < sigma_max is needed, got {self.sigma_min} and {self.sigma_max}")

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Time) -> Values:
        return self.sigma_min * (self._rate * as_float64(t)).exp()

    def d_sigma(self, t: Time) -> Values:
        return self._rate * self.sigma(t)

    def time(self, log_snr: Time) -> Values:
        return -(as_float64(log_snr) + math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class EDM(_Exploding):
    """The path of EDM, whose time is the noise level: ``alpha = 1``, ``sigma = t`` (2206.00364, table 1).

    It goes up to ``sigma_max``.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"EDM: sigma_max must be positive and finite, got {self.sigma_max}")

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    def sigma(self, t: Time) -> Values:
        return as_float64(t)

    def d_sigma(self, t: Time) -> Values:
        return torch.ones_like(as_float64(t))

    def time(self, log_snr: Time) -> Values:
        return (-as_float64(log_snr)).exp()


@dataclass(frozen=True)
class RectifiedFlow(Path):
    """The straight path from data to noise: ``alpha = 1 - t``, ``sigma = t``, t in [0, 1] (2209.03003).

    Data are at t = 0, the reverse of the paper's.
    """

    def alpha(self, t: Time) -> Values:
        return 1 - as_float64(t)

    def sigma(self, t: Time) -> Values:
        return as_float64(t)

    def d_alpha(self, t: Time) -> Values:
        return -torch.ones_like(as_float64(t))

    def d_sigma(self, t: Time) -> Values:
        return torch.ones_like(as_float64(t))

    def time(self, log_snr: Time) -> Values:
        return torch.sigmoid(-as_float64(log_snr))


@dataclass(frozen=True)
class TrigFlow(Path):
    """The circular path: ``alpha = cos t``, ``sigma = sin t``, t in [0, pi/2] (2410.11081, sec. 3).

    Its data are taken to have unit variance.
    """

    t_max = math.pi / 2
    variance_preserving = True

    def alpha(self, t: Time) -> Values:
        return torch.sin(math.pi / 2 - as_float64(t))  # cos(pi/2) would be 6e-17 and not the 0 that an end must be

    def sigma(self, t: Time) -> Values:
        return torch.sin(as_float64(t))

    def d_alpha(self, t: Time) -> Values:
        return -self.sigma(t)

    def d_sigma(self, t: Time) -> Values:
        return self.alpha(t)

    def time(self, log_snr: Time) -> Values:
        return torch.atan((-as_float64(log_snr)).exp())


def as_float64(t: Time) -> Values:
    """Make a float64 tensor of a time or a log-SNR."""
    return t if isinstance(t, Tensor) and t.dtype is torch.float64 else as_tensor(t, torch.float64)


def per_sample(value: Any, like: Tensor) -> Any:
    """Give values (n,) the axes of a batch, (n, 1, ..., 1), in its dtype and on its device; a number as it is.

    Truth values, such as those of a comparison, stay truth values.
    """
    if not isinstance(value, Tensor):
        return value
    value = value.to(like.device) if value.dtype is torch.bool else value.to(like)
    return value.reshape(-1, *(1,) * (like.ndim - 1)) if value.ndim else value

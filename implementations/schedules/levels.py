"""Schedules spaced in the noise level ``r = sigma/alpha``; ``spacing.py`` describes the options that they share."""

from __future__ import annotations

import math

import numpy as np
import scipy.stats
import torch

from implementations.diffusion.path import Cosine, Path
from implementations.schedules.spacing import EDM_RANGE, WHOLE, Levels, Times, bound_levels, lay_out, require_positive


def karras(
    path: Path,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Karras's time grid: equal steps of ``r^(1/rho)`` in the noise level r = sigma/alpha (2206.00364, eq. 5).

    Raises ValueError on levels outside the path.
    """
    require_positive("rho", rho)
    bounds = bound_levels(path, steps, sigma_min, sigma_max, EDM_RANGE)
    return lay_out(path, steps, lambda r: r ** (1 / rho), lambda c: c**rho, bounds, clean)


def log_snr(
    path: Path,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid of equal steps of the log-SNR, ``log(alpha/sigma)`` (2206.00927).

    Raises ValueError on levels outside the path.
    """
    bounds = bound_levels(path, steps, sigma_min, sigma_max, EDM_RANGE)
    return lay_out(path, steps, lambda r: r.log(), lambda c: c.exp(), bounds, clean)


def polyexponential(
    path: Path,
    steps: int,
    *,
    rho: float = 1.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid of the levels ``r = sigma_min (sigma_max/sigma_min)^(u^rho)`` at equal steps of u from 1 to 0.

    r is sigma/alpha (k-diffusion). rho = 1 is ``log_snr``; a greater rho puts more steps at low noise. Raises
    ValueError on levels outside the path.
    """
    require_positive("rho", rho)
    low, high = bound_levels(path, steps, sigma_min, sigma_max, EDM_RANGE)
    span = math.log(high / low)
    return lay_out(
        path,
        steps,
        lambda r: ((r / low).log() / span).clamp(min=0) ** (1 / rho),
        lambda c: low * (c**rho * span).exp(),
        (low, high),
        clean,
    )


def cosine(
    path: Path,
    steps: int,
    *,
    s: float = 0.008,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid of equal steps of the cosine path's own time u, in which ``alpha ~ cos((u + s)/(1 + s) pi/2)``.

    As s goes to 0 these are equal steps of the angle ``atan(sigma/alpha)`` (2102.09672, eq. 17). Raises ValueError on
    levels outside the path.
    """
    other = Cosine(s)
    bounds = bound_levels(path, steps, sigma_min, sigma_max, WHOLE)
    return lay_out(path, steps, lambda r: other.time(-r.log()), other.ratio, bounds, clean)


def kl_optimal(
    path: Path,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid of equal steps of ``arctan(sigma/alpha)``, which is best in a bound of the KL divergence (2404.14507).

    The paper derives it for data of unit variance. Its grid, and Forge's, end at ``sigma_min`` (``clean=False``);
    ComfyUI's goes to sigma = 0. Raises ValueError on levels outside the path.
    """
    bounds = bound_levels(path, steps, sigma_min, sigma_max, EDM_RANGE)
    return lay_out(path, steps, torch.atan, torch.tan, bounds, clean)


def beta_levels(
    path: Path,
    steps: int,
    *,
    a: float = 0.6,
    b: float = 0.6,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Time grid at equally spaced quantiles of Beta(a, b) in the noise level, ``r = r_min + q (r_max - r_min)``.

    r is sigma/alpha. AUTOMATIC1111 and diffusers (``use_beta_sigmas``) take the quantiles so; 2407.12173 takes them in
    t, as ``beta`` does. Raises ValueError on levels outside the path.
    """
    require_positive("a", a)
    require_positive("b", b)
    low, high = bound_levels(path, steps, sigma_min, sigma_max, EDM_RANGE)

    def share(r: Levels) -> Levels:
        return torch.from_numpy(np.asarray(scipy.stats.beta.cdf(((r - low) / (high - low)).numpy(), a, b)))

    def level(share: Levels) -> Levels:
        return low + (high - low) * torch.from_numpy(np.asarray(scipy.stats.beta.ppf(share.numpy(), a, b)))

    return lay_out(path, steps, share, level, (low, high), clean)

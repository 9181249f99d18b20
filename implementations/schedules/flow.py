"""Schedules of rectified flows, spaced in the flow's time ``tau = r / (1 + r)``, which is t on the straight path.

There the noise level sigma/alpha is ``r = tau / (1 - tau)``, by which the grids are carried to every other path; a
shift of tau by s multiplies r by s. ``spacing.py`` describes the options that they share.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from implementations.diffusion.path import Path
from implementations.schedules.spacing import WHOLE, Levels, Times, bound_levels, lay_out, require_positive


def sd3_shift(
    path: Path,
    steps: int,
    *,
    shift: float = 3.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Stable Diffusion 3's shifted time grid: equal steps of u in ``tau = s u / (1 + (s - 1) u)`` (2403.03206, eq. 23).

    tau is the time of the straight path, at which sigma/alpha is ``r = tau / (1 - tau)``, so that ``u = r / (s + r)``;
    s is ``shift``. Stable Diffusion 3.5's own code shifts the end of training, u = .001, twice before it goes to 0: its
    last tau is .00893, where one shift gives .00299. ``sigma_min=.00893/(1 - .00893)`` gives that grid. Raises
    ValueError on levels outside the path.
    """
    require_positive("shift", shift)
    bounds = bound_levels(path, steps, sigma_min, sigma_max, WHOLE)
    return lay_out(path, steps, lambda r: 1 / (1 + shift / r), lambda c: shift * c / (1 - c), bounds, clean)


def dynamic_shift(
    path: Path,
    steps: int,
    *,
    tokens: int = 4096,
    base_tokens: int = 256,
    max_tokens: int = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Flux's time grid, shifted by resolution: ``tau = s u / (1 + (s - 1) u)`` at equal steps of u, with ``s = e^mu``.

    tau is the time of the straight path, and mu is linear in the number of tokens of an image, from base to max.
    ``tokens`` are patches of the latent, 4096 for an image of 1024 x 1024 pixels. A shift by the square root of the
    ratio of two resolutions (2403.03206, eq. 23) is ``sd3_shift`` with that root. Raises ValueError on levels outside
    the path.
    """
    if not (tokens > 0 and 0 < base_tokens < max_tokens):
        raise ValueError(
            "tokens > 0 and 0 < base_tokens < max_tokens are needed, "
            f"got tokens {tokens}, base_tokens {base_tokens} and max_tokens {max_tokens}"
        )
    mu = base_shift + (max_shift - base_shift) * (tokens - base_tokens) / (max_tokens - base_tokens)
    return sd3_shift(path, steps, shift=math.exp(mu), sigma_min=sigma_min, sigma_max=sigma_max, clean=clean)


def logit_normal(
    path: Path,
    steps: int,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """Equally spaced quantiles of the training density ``logit tau ~ N(mean, std^2)`` (2403.03206, eq. 19).

    tau is the time of the straight path, so that logit tau = log(sigma/alpha). Raises ValueError on levels outside the
    path.
    """
    require_positive("std", std)
    bounds = bound_levels(path, steps, sigma_min, sigma_max, WHOLE)
    return lay_out(
        path,
        steps,
        lambda r: torch.special.ndtr((r.log() - mean) / std),
        lambda c: (mean + std * torch.special.ndtri(c)).exp(),
        bounds,
        clean,
    )


def linear_quadratic(
    path: Path,
    steps: int,
    *,
    threshold: float = 0.025,
    linear_steps: int | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    clean: bool = True,
) -> Times:
    """The ``steps + 1`` times of Movie Gen's schedule: equal steps in tau near the noise, then a parabola (2410.13720).

    tau is the time of the straight path, sigma/(alpha + sigma), between the levels ``sigma_max`` and ``sigma_min`` of
    sigma/alpha. ``linear_steps`` of the steps, by default half, cover the noisiest ``threshold`` of that range; the
    parabola begins with their slope. With ``clean`` the last time has no noise. Raises ValueError on levels outside the
    path, and where linear_steps are so few that the parabola would turn back.
    """
    bounds = bound_levels(path, steps, sigma_min, sigma_max, WHOLE)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), got {threshold}")
    positions = partial(_linear_quadratic, threshold=threshold, linear_steps=linear_steps)
    return lay_out(path, steps, lambda r: 1 / (1 + 1 / r), lambda c: c / (1 - c), bounds, clean, positions)


def _linear_quadratic(intervals: int, threshold: float, linear_steps: int | None) -> Levels:
    """Give positions from 0 to 1: n equal steps to ``threshold``, then a parabola of the same slope that ends at 1."""
    n = intervals // 2 if linear_steps is None else linear_steps
    i = torch.arange(intervals + 1, dtype=torch.float64)
    if intervals == 1 and linear_steps is None:
        return i
    if not 0 < n < intervals:
        raise ValueError(f"linear_steps must lie in 1 to {intervals - 1} of {intervals} intervals, got {linear_steps}")
    slope, rest = threshold / n, intervals - n
    bend = (1 - threshold - slope * rest) / rest**2
    positions = slope * i + bend * (i - n).clamp(min=0) ** 2
    if not bool((positions.diff() > 0).all()):
        raise ValueError(f"linear_steps {n} of {intervals} are too few for a threshold of {threshold}")
    return positions

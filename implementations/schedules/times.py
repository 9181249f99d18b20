"""Schedules spaced in ``t`` between ``start`` (default ``t_max``) and ``end`` (default ``t_min``)."""

from __future__ import annotations

import scipy.stats
import torch

from implementations.diffusion.path import Path
from implementations.schedules.spacing import Times, check_steps, require_positive, spread


def uniform(path: Path, steps: int, *, start: float | None = None, end: float | None = None) -> Times:
    """Time grid of equal steps of t, from ``start`` (default ``t_max``) to ``end`` (default ``t_min``).

    Raises ValueError on times outside the path.
    """
    return spread(path, steps, _shares(steps), start, end)


def quadratic(
    path: Path, steps: int, *, power: float = 2.0, start: float | None = None, end: float | None = None
) -> Times:
    """Time grid of equal steps of ``(t - end)^(1/power)`` (2010.02502, app. D.2).

    It goes from ``start`` (default ``t_max``) to ``end`` (default ``t_min``). Raises ValueError on times outside the
    path.
    """
    require_positive("power", power)
    return spread(path, steps, _shares(steps) ** power, start, end)


def beta(
    path: Path,
    steps: int,
    *,
    a: float = 0.6,
    b: float = 0.6,
    start: float | None = None,
    end: float | None = None,
) -> Times:
    """The ``steps + 1`` times at equally spaced quantiles of Beta(a, b), dense at both ends for a, b < 1 (2407.12173).

    A quantile q in [0, 1] lies at ``end + q (start - end)`` of the path's time, with ``start`` by default the noisiest,
    ``t_max``, and ``end`` the cleanest, ``t_min``; a smaller a puts more steps near the end. diffusers'
    ``use_beta_sigmas`` takes the quantiles in sigma. Raises ValueError on times outside the path.
    """
    require_positive("a", a)
    require_positive("b", b)
    quantiles = torch.from_numpy(scipy.stats.beta.ppf(_shares(steps).numpy(), a, b))
    return spread(path, steps, quantiles, start, end)


def _shares(steps: int) -> Times:
    check_steps(steps)
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

"""Schedules on the N timesteps that a network was trained on, k = 0 to N - 1 (2305.08891, table 2).

Timestep k is the time ``t_min + (k + 1)/N (t_max - t_min)``: on ``DiscreteVP`` the integer k itself, and there N is
the length of its table. With ``clean``, the last step goes from the last of ``steps`` timesteps to ``t_min``;
without it, there are ``steps + 1`` timesteps.
"""

from __future__ import annotations

import numpy as np
import torch

from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.path import Path
from implementations.schedules.spacing import Times, check_steps, require_descending


def linspace(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """Training timesteps equally spaced from the last to the first, ``round(linspace(N - 1, 0))``.

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes to ``t_min``
    (2305.08891, table 2).
    """
    n, points = _table(path, steps, train_steps, clean)
    return _times(path, np.linspace(0, n - 1, points).round()[::-1], n, clean)


def leading(path: Path, steps: int, *, train_steps: int | None = None, offset: int = 0, clean: bool = True) -> Times:
    """Training timesteps that are multiples of ``floor(N/points)``, plus ``offset`` (1 in Stable Diffusion).

    The grid so starts below the last timestep. Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With
    ``clean``, the last step goes to ``t_min`` (2305.08891, table 2).
    """
    n, points = _table(path, steps, train_steps, clean)
    timesteps = np.arange(points)[::-1] * (n // points) + offset
    if offset < 0 or timesteps[0] > n - 1:
        raise ValueError(f"offset must lie in 0 to {n - 1 - int(timesteps[0]) + offset} for these steps, got {offset}")
    return _times(path, timesteps, n, clean)


def trailing(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """Training timesteps ``round(N - i N/points) - 1``, which start at the last one (2305.08891, table 2).

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes to ``t_min``.
    """
    n, points = _table(path, steps, train_steps, clean)
    # diffusers counts down by arange, whose rounding gives one timestep more, -1, at 61 steps, 103, 121, ...
    return _times(path, np.round(n - np.arange(points) * (n / points)) - 1, n, clean)


def simple(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """ComfyUI's training timesteps ``N - 1 - floor(i N/points)``: ``trailing`` with the other rounding.

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes to ``t_min``.
    """
    n, points = _table(path, steps, train_steps, clean)
    return _times(path, n - 1 - np.floor(np.arange(points) * (n / points)), n, clean)


def sgm_uniform(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """Training timesteps ``linspace(N - 1, 0)`` without the last point, not rounded (ComfyUI, generative-models).

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes to ``t_min``.
    """
    n, points = _table(path, steps, train_steps, clean)
    return _times(path, np.linspace(n - 1, 0, points + 1)[:-1], n, clean)


def normal(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """Training timesteps ``linspace(N - 1, 0)``, not rounded: ComfyUI's, and k-diffusion's of a model of timesteps.

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes from timestep
    0 to ``t_min``. ``linspace`` is the same, rounded.
    """
    n, points = _table(path, steps, train_steps, clean)
    return _times(path, np.linspace(n - 1, 0, points), n, clean)


def ddim_uniform(path: Path, steps: int, *, train_steps: int | None = None, clean: bool = True) -> Times:
    """ComfyUI's training timesteps ``1 + i floor(N/points)``: ``leading`` with an offset of 1.

    Timestep k of N is the time ``t_min + (k + 1)/N (t_max - t_min)``. With ``clean``, the last step goes to ``t_min``.
    ComfyUI takes all of them up to N - 1, which may be more than asked for: 31 for 30 steps of 1000. Here there are as
    many as asked for, the cleanest ones. Raises ValueError where they reach beyond N - 1.
    """
    n, points = _table(path, steps, train_steps, clean)
    if (points - 1) * (n // points) + 1 > n - 1:
        raise ValueError(f"steps must be such that 1 + i floor({n}/points) is at most {n - 1}, got {steps}")
    return leading(path, steps, train_steps=train_steps, offset=1, clean=clean)


def _table(path: Path, steps: int, train_steps: int | None, clean: bool) -> tuple[int, int]:
    """Give N, and how many timesteps the grid takes."""
    check_steps(steps)
    n = train_steps or (len(path.betas) if isinstance(path, DiscreteVP) else 1000)
    points = steps if clean else steps + 1
    if not points <= n:
        raise ValueError(f"{steps} steps need {points} timesteps, and train_steps is {n}")
    return n, points


def _times(path: Path, timesteps: np.ndarray, n: int, clean: bool) -> Times:
    passed = torch.from_numpy(np.asarray(timesteps, dtype=np.float64) + 1)
    times = path.t_min + passed * (path.t_max - path.t_min) / n
    times = torch.where(passed == n, path.t_max, times)
    return require_descending(torch.cat([times, torch.tensor([path.t_min], dtype=torch.float64)]) if clean else times)

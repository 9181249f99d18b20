"""Picard's iteration on DDIM: many steps at once, over and over, until they agree (ParaDiGMS, 2305.16317)."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.grid import Callback, Grid, checked_start, costs
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler


@sampler
@costs(lambda touching, **_: None)
def picard(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    window: int = 16,
    tolerance: float = 1e-4,
    sweeps: int | None = None,
) -> Images:
    """DDIM's steps by sweeps over a sliding ``window`` of them, one evaluation of ``window`` times the batch a sweep.

    A sweep predicts x0 at every state of the window and takes all steps anew from its first. Each sample moves its own
    window past the states that the sweep moved by at most ``tolerance``, rms of ``x / hypot(alpha, sigma)``, and one
    further, whose step is then exact; so tolerance 0 gives DDIM in as many sweeps as steps at most. States swept
    ``sweeps`` times are passed as they are. A condition that is a tensor of one value a sample goes with its sample,
    any other is handed on as it is. ``callback`` is called when all is done: memory grows with the window, and with the
    steps only for it. A step from sigma = 0, up, is taken by itself. Raises ValueError on options out of range,
    and as ``Grid.solve``.
    """
    window = whole("window", window, 1)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be at least 0 and finite, got {tolerance}")
    sweeps = None if sweeps is None else whole("sweeps", sweeps, 1)
    grid, x = Grid(denoiser.path, times), checked_start(x)
    n, shape, steps = len(x), x.shape[1:], len(grid)
    sums, at = torch.zeros(steps, dtype=torch.float64, device=x.device), 0
    trail: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # steps, samples, states after them, x0 before them
    if grid.points[0].sigma == 0:  # x0 says nothing of eps there
        seen, there = denoiser(x, grid.times[0], condition), grid.points[1]
        x, at = seen.combine(there.alpha, there.sigma), 1
        sums[0] = x.sum()
        if callback is not None:
            callback(0, grid.times[1], x, seen)

    # x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) x0, of a step from sigma > 0
    pairs = list(zip(grid.points[:-1], grid.points[1:], strict=True))[at:]
    kept = _row([0.0] * at + [q.sigma / p.sigma for p, q in pairs], x)
    pulled = _row([0.0] * at + [q.alpha - p.alpha * q.sigma / p.sigma for p, q in pairs], x)
    radius, t = _row([point.radius for point in grid.points], x), torch.stack(grid.times)
    width = min(window, steps - at)
    inputs, rows = _tiled(condition, n, width), torch.arange(n, device=x.device)[:, None]
    offsets = torch.arange(width + 1, device=x.device)

    def radii(begin: Tensor, offset: Tensor) -> Tensor:
        return radius[(begin[:, None] + offset).clamp(max=steps)]

    start = x
    begin = torch.full((n,), at, device=x.device)  # of each sample's window
    states = _scaled(x[:, None], radii(begin, offsets) / radius[at])  # (n, width + 1, *shape)
    ages = torch.zeros(n, width + 1, dtype=torch.long, device=x.device)
    while bool((begin < steps).any()):
        index = (begin[:, None] + offsets[:-1]).clamp(max=steps - 1)
        seen = denoiser(states[:, :-1].reshape(n * width, *shape), t[index.flatten().cpu()], inputs)
        x0 = seen.x0.reshape(n, width, *shape)
        swept = [states[:, 0]]
        for j in range(width):
            swept.append(_scaled(swept[-1], kept[index[:, j]]) + _scaled(x0[:, j], pulled[index[:, j]]))
        new, ages = torch.stack(swept, 1), ages + 1
        change = _scaled(new - states, 1 / radii(begin, offsets)).reshape(n, width + 1, -1)
        settled = change.square().mean(2).sqrt() <= tolerance
        if sweeps is not None:
            settled = settled | (ages >= sweeps)
        leading = settled[:, 1:].long().cumprod(1).sum(1)
        stride = torch.minimum((leading + 1).clamp(max=width), steps - begin)

        passed = offsets[:-1] < stride[:, None]
        step, after = index[passed], new[:, 1:][passed]
        sums.index_add_(0, step, after.reshape(len(step), -1).double().sum(1))
        if callback is not None:
            trail.append((step, passed.nonzero()[:, 0], after, x0[passed]))

        # what the window has not reached yet starts where it ends, in units of the radius
        source = offsets + stride[:, None]
        last = source.clamp(max=width)
        states = _scaled(new[rows, last], radii(begin, source) / radii(begin, last))
        ages = torch.where(source > width, 0, ages[rows, last])
        begin = begin + stride
    grid.check(sums)
    if callback is not None:
        _replay(callback, grid, start, at, trail)
    return states[:, 0]


def _replay(
    callback: Callback, grid: Grid, x: Images, at: int, trail: list[tuple[Tensor, Tensor, Tensor, Tensor]]
) -> None:
    """Call back for each step from ``at``, in their order, with what passed when its samples did."""
    states, data = x.new_empty(len(grid), *x.shape), x.new_empty(len(grid), *x.shape)
    for step, sample, state, x0 in trail:
        states[step, sample], data[step, sample] = state, x0
    for i in range(at, len(grid)):
        callback(i, grid.times[i + 1], states[i], Prediction(grid.path, x, grid.times[i], x0=data[i]))
        x = states[i]


def _row(values: list[float], x: Images) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=x.device)


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    """Over the leading axes of ``factor``."""
    return x * factor.reshape(*factor.shape, *[1] * (x.ndim - factor.ndim)).to(x.dtype)


def _tiled(condition: Any, n: int, times: int) -> Any:
    """One value a sample, for each of its states."""
    if isinstance(condition, Tensor) and condition.ndim and len(condition) == n:
        return condition.repeat_interleave(times, 0)
    return condition

"""Picard's iteration on DDIM: many steps in parallel, repeated until they agree (ParaDiGMS, 2305.16317)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler


@sampler(count=lambda touching, **_: None)
def picard(problem: Problem, *, window: int = 16, tolerance: float = 1e-4, sweeps: int | None = None) -> Images:
    """ParaDiGMS: DDIM's steps in parallel, by Picard sweeps over a sliding ``window`` until they agree (2305.16317).

    A sweep is one evaluation of ``window`` times the batch. A sweep predicts x0 at every state of the window and takes
    all its steps again from the first. Each sample then moves its own window past the states that the sweep changed by
    at most ``tolerance``, rms of ``x / hypot(alpha, sigma)``, and one further, whose step is then exact; so tolerance 0
    gives DDIM in at most as many sweeps as steps. States swept ``sweeps`` times are passed as they are. A condition
    that is a tensor of one value per sample is repeated with its sample, any other is passed on as it is. The callback
    is called at the end, for every step: without it, memory grows with the window only. A first step from sigma = 0 is
    taken by itself. Raises ValueError on options out of range, and FloatingPointError as ``Problem.solve``.
    """
    window = check_integer("window", window, 1)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be at least 0 and finite, got {tolerance}")
    sweeps = None if sweeps is None else check_integer("sweeps", sweeps, 1)
    denoiser, points, x = problem.denoiser, problem.points, problem.x
    n, shape, steps = len(x), x.shape[1:], len(problem)
    sums, at = torch.zeros(steps, dtype=torch.float64, device=x.device), 0
    trail: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # steps, samples, states after them, x0 before them
    if points[0].sigma == 0:  # x0 says nothing of eps there
        prediction, there = problem.ask(x, points[0]), points[1]
        x, at = prediction.combine(there.alpha, there.sigma), 1
        sums[0] = x.sum()
        if problem.callback is not None:
            problem.callback(0, problem.times[1], x, prediction)

    # x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) x0, of a step from sigma > 0
    pairs = list(itertools.pairwise(points))[at:]
    decay = _row([0.0] * at + [q.sigma / p.sigma for p, q in pairs], x)
    pull = _row([0.0] * at + [q.alpha - p.alpha * q.sigma / p.sigma for p, q in pairs], x)
    radius, t = _row([point.radius for point in points], x), torch.stack(problem.times)
    width = min(window, steps - at)
    conditions, rows = _repeat(problem.condition, n, width), torch.arange(n, device=x.device)[:, None]
    offsets = torch.arange(width + 1, device=x.device)

    def radii(begin: Tensor, offset: Tensor) -> Tensor:
        return radius[(begin[:, None] + offset).clamp(max=steps)]

    start = x
    begin = torch.full((n,), at, device=x.device)  # of each sample's window
    states = _scale(x[:, None], radii(begin, offsets) / radius[at])  # (n, width + 1, *shape)
    ages = torch.zeros(n, width + 1, dtype=torch.long, device=x.device)
    while bool((begin < steps).any()):
        index = (begin[:, None] + offsets[:-1]).clamp(max=steps - 1)
        prediction = denoiser(states[:, :-1].reshape(n * width, *shape), t[index.flatten().cpu()], conditions)
        x0 = prediction.x0.reshape(n, width, *shape)
        sweep = [states[:, 0]]
        for j in range(width):
            sweep.append(_scale(sweep[-1], decay[index[:, j]]) + _scale(x0[:, j], pull[index[:, j]]))
        new, ages = torch.stack(sweep, 1), ages + 1
        change = _scale(new - states, 1 / radii(begin, offsets)).reshape(n, width + 1, -1)
        settled = change.square().mean(2).sqrt() <= tolerance
        if sweeps is not None:
            settled = settled | (ages >= sweeps)
        leading = settled[:, 1:].long().cumprod(1).sum(1)
        stride = torch.minimum((leading + 1).clamp(max=width), steps - begin)

        passed = offsets[:-1] < stride[:, None]
        step, after = index[passed], new[:, 1:][passed]
        sums.index_add_(0, step, after.reshape(len(step), -1).double().sum(1))
        if problem.callback is not None:
            trail.append((step, passed.nonzero()[:, 0], after, x0[passed]))

        # states that the window has not reached yet start where it ends, in units of the radius
        source = offsets + stride[:, None]
        last = source.clamp(max=width)
        states = _scale(new[rows, last], radii(begin, source) / radii(begin, last))
        ages = torch.where(source > width, 0, ages[rows, last])
        begin = begin + stride
    problem.grid.check_finite(sums)
    _replay(problem, start, at, trail)
    return states[:, 0]


def _replay(problem: Problem, x: Images, at: int, trail: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
    """Call back for each step from ``at``, in their order, with the states and data that the windows passed there."""
    if problem.callback is None:
        return
    states, data = x.new_empty(len(problem), *x.shape), x.new_empty(len(problem), *x.shape)
    for step, sample, state, x0 in trail:
        states[step, sample], data[step, sample] = state, x0
    for i in range(at, len(problem)):
        prediction = Prediction(problem.path, x, problem.times[i], x0=data[i])
        problem.callback(i, problem.times[i + 1], states[i], prediction)
        x = states[i]


def _row(values: list[float], x: Images) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=x.device)


def _scale(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply by a factor that has the leading axes of ``x`` only."""
    return x * factor.reshape(*factor.shape, *[1] * (x.ndim - factor.ndim)).to(x.dtype)


def _repeat(condition: Any, n: int, times: int) -> Any:
    """Give a condition of one value per sample ``times`` times, for each state of its sample."""
    if isinstance(condition, Tensor) and condition.ndim and len(condition) == n:
        return condition.repeat_interleave(times, 0)
    return condition

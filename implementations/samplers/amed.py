"""AMED: a midpoint method whose intermediate level and length of step are learnt, step by step (2312.00094)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.artifact import Artifact
from implementations.diffusion.checks import whole
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser
from implementations.diffusion.grid import Callback, Grid, ask
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.adams import transfer
from implementations.samplers.contract import sampler
from implementations.samplers.runge_kutta import midpoint

GOLDEN = (math.sqrt(5) - 1) / 2


@sampler
def amed(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    artifact: Artifact | None = None,
) -> Images:
    """AMED-Solver: Euler to ``lambda + r h``, and the whole step by c times the eps predicted there (2312.00094).

    r and c are those that ``prepare`` learnt on these times, a pair a step; the paper's network sees the model's
    features besides, which a denoiser does not show. Without an artifact they are 1/2 and 1: ``midpoint`` in sigma.
    Raises ValueError where the artifact is of another method or another grid.
    """
    grid = Grid(denoiser.path, times)
    pairs = _learnt(grid, artifact)

    def step(i: int, x: Images, prediction: Any) -> Images:
        share, scale = pairs[i]
        return _step(denoiser, grid, i, x, prediction.eps, share, condition)(scale)

    return grid.solve(denoiser, x, step, callback, condition)


def prepare(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    condition: Any = None,
    substeps: int = 6,
    trials: int = 12,
) -> Artifact:
    """Learn r and c for each step of ``times`` from the batch ``x`` at ``times[0]``.

    They bring the mean square of ``x/alpha`` nearest to a teacher's, ``midpoint`` with ``substeps`` in each step: c by
    least squares, r by golden section with ``trials`` evaluations, each step from where the last one led. Raises
    ValueError unless they are integers, of at least 1 and 2.
    """
    substeps, trials = whole("substeps", substeps, 1), whole("trials", trials, 2)
    grid, counted = Grid(denoiser.path, times), CountingDenoiser(denoiser)
    pairs = [(0.5, 1.0)] * len(grid)

    def step(i: int, x: Images, prediction: Any) -> Images:
        def tried(share: float) -> tuple[float, float, float, Images]:
            move = _step(counted, grid, i, x, prediction.eps, share, condition)
            still, whole = move(0.0), move(1.0)
            direction, wanted = (whole - still).double(), (targets[i] - still).double()
            scale = float((direction * wanted).sum() / direction.square().sum())
            left = float((wanted - scale * direction).square().mean())
            return left, share, scale, torch.lerp(still, whole, scale)

        low, high = 0.1, 0.9
        left, right = tried(high - GOLDEN * (high - low)), tried(low + GOLDEN * (high - low))
        best = min(left, right, key=lambda trial: trial[0])
        for _ in range(trials - 2):
            if left[0] < right[0]:
                high, right = right[1], left
                left = tried(high - GOLDEN * (high - low))
            else:
                low, left = left[1], right
                right = tried(low + GOLDEN * (high - low))
            best = min(best, left, right, key=lambda trial: trial[0])
        pairs[i] = best[1:3]
        return best[3]

    with torch.no_grad():
        targets = _teacher(counted, x, grid, substeps, condition)
        grid.solve(counted, x, step, None, condition)
    learnt = torch.tensor(pairs, dtype=torch.float64)
    return Artifact("amed", {"log_snr": _levels(grid), "share": learnt[:, 0], "scale": learnt[:, 1]}, counted.calls)


def _step(
    denoiser: Denoiser, grid: Grid, i: int, x: Images, eps: Images, share: float, condition: Any
) -> Callable[[float], Images]:
    """Step i as a function of c, its intermediate level at ``share`` of it."""
    here, there = grid.points[i], grid.points[i + 1]
    middle = grid.at(here.log_snr + share * (there.log_snr - here.log_snr))
    between = ask(denoiser, transfer(here, middle, x, [1.0], [eps]), middle, condition).eps
    return lambda scale: transfer(here, there, x, [scale], [between])


def _teacher(denoiser: Denoiser, x: Images, grid: Grid, substeps: int, condition: Any) -> list[Images]:
    """States after each step of the grid, of a finer one; a step that touches an end stays whole."""
    times, last = [grid.points[0].t], []
    for here, there in zip(grid.points, grid.points[1:], strict=False):
        if not (here.end or there.end):
            reach = there.log_snr - here.log_snr
            times += [grid.at(here.log_snr + reach * k / substeps).t for k in range(1, substeps)]
        times.append(there.t)
        last.append(len(times) - 2)
    states: dict[int, Images] = {}

    def keep(i: int, _: Tensor, state: Images, __: Any) -> None:
        if i in last:
            states[i] = state

    midpoint(denoiser, x, torch.tensor(times, dtype=torch.float64), callback=keep, condition=condition)
    return [states[i] for i in last]


def _learnt(grid: Grid, artifact: Artifact | None) -> list[tuple[float, float]]:
    if artifact is None:
        return [(0.5, 1.0)] * len(grid)
    tensors = artifact.of("amed")
    levels = tensors["log_snr"]
    if levels.shape != (len(grid) + 1,) or not torch.allclose(levels, _levels(grid), rtol=1e-9, atol=1e-9):
        raise ValueError(
            f"artifact must be prepared on the times of this call, {len(grid)} steps, got one of {len(levels) - 1} "
            "steps or other levels"
        )
    return list(zip(tensors["share"].tolist(), tensors["scale"].tolist(), strict=True))


def _levels(grid: Grid) -> Float[Tensor, " points"]:
    return torch.tensor([point.log_snr for point in grid.points], dtype=torch.float64)

"""AMED: a midpoint method that learns the intermediate level and the length of each step (2312.00094)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.artifact import Artifact
from implementations.diffusion.checks import check_integer
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser, Prediction
from implementations.diffusion.grid import Grid
from implementations.diffusion.path import Images
from implementations.samplers.adams import transfer
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.runge_kutta import midpoint

GOLDEN = (math.sqrt(5) - 1) / 2


@sampler
def amed(problem: Problem, *, artifact: Artifact | None = None) -> Images:
    """AMED-Solver: Euler to ``lambda + r h``, and the whole step by c times the eps predicted there (2312.00094).

    h is the step of lambda = log(alpha/sigma); r and c are those that ``prepare`` learnt on these times, one pair per
    step; the paper's network also sees the model's features, which a denoiser does not show. Without an artifact they
    are 1/2 and 1: ``midpoint`` in sigma. Raises ValueError where the artifact is of another method or another grid.
    """
    pairs = _read_pairs(problem.grid, artifact)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        share, scale = pairs[i]
        return _aim(problem, i, x, prediction.eps, share)(scale)

    return problem.solve(step)


def prepare(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    condition: Any = None,
    substeps: int = 6,
    trials: int = 12,
) -> Artifact:
    """Learn AMED-Solver's two numbers for each step of ``times``, from the batch ``x`` at ``times[0]``.

    They are r, the place of the step's inner evaluation as a share of its log-SNR, and c, the factor of the eps
    predicted there. They bring the mean square of ``x/alpha`` nearest to a teacher's, ``midpoint`` with ``substeps`` in
    each step: c by least squares, r by golden section with ``trials`` evaluations. Each step starts where the one
    before it led. Raises ValueError unless substeps and trials are integers of at least 1 and 2.
    """
    substeps, trials = check_integer("substeps", substeps, 1), check_integer("trials", trials, 2)
    grid, counting = Grid(denoiser.path, times), CountingDenoiser(denoiser)
    pairs = [(0.5, 1.0)] * len(grid)
    targets: list[Images] = []

    @sampler
    def fit(problem: Problem) -> Images:
        def step(i: int, x: Images, prediction: Prediction) -> Images:
            trial = _search(lambda share: _fit(_aim(problem, i, x, prediction.eps, share), share, targets[i]), trials)
            pairs[i] = trial.share, trial.scale
            return trial.x

        return problem.solve(step)

    with torch.no_grad():
        targets.extend(_teach(counting, x, grid, substeps, condition))
        fit(counting, x, times, condition=condition)
    share, scale = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    return Artifact("amed", {"log_snr": _levels(grid), "share": share, "scale": scale}, counting.calls)


class _Trial(NamedTuple):
    """A step with r = ``share``: its mean square error at the best c = ``scale``, and where it leads."""

    error: float
    share: float
    scale: float
    x: Images


def _search(fit: Callable[[float], _Trial], trials: int) -> _Trial:
    """Find the best of ``trials`` shares between 0.1 and 0.9 by golden section."""
    low, high = 0.1, 0.9
    left, right = fit(high - GOLDEN * (high - low)), fit(low + GOLDEN * (high - low))
    best = min(left, right, key=lambda trial: trial.error)
    for _ in range(trials - 2):
        if left.error < right.error:
            high, right = right.share, left
            left = fit(high - GOLDEN * (high - low))
        else:
            low, left = left.share, right
            right = fit(low + GOLDEN * (high - low))
        best = min(best, left, right, key=lambda trial: trial.error)
    return best


def _fit(move: Callable[[float], Images], share: float, target: Images) -> _Trial:
    """Fit c by least squares to a target."""
    still, full = move(0.0), move(1.0)
    direction, aim = (full - still).double(), (target - still).double()
    scale = float((direction * aim).sum() / direction.square().sum())
    error = float((aim - scale * direction).square().mean())
    return _Trial(error, share, scale, torch.lerp(still, full, scale))


def _aim(problem: Problem, i: int, x: Images, eps: Images, share: float) -> Callable[[float], Images]:
    """Evaluate step i at ``share`` of it in log-SNR, and give the step as a function of c."""
    here, there = problem.points[i], problem.points[i + 1]
    middle = problem.grid.at(here.log_snr + share * (there.log_snr - here.log_snr))
    inside = problem.ask(transfer(here, middle, x, [1.0], [eps]), middle).eps
    return lambda scale: transfer(here, there, x, [scale], [inside])


def _teach(denoiser: Denoiser, x: Images, grid: Grid, substeps: int, condition: Any) -> list[Images]:
    """States after each step of the grid by ``substeps`` within it; a step that touches an end stays whole."""
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


def _read_pairs(grid: Grid, artifact: Artifact | None) -> list[tuple[float, float]]:
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

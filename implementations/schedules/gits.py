"""GITS: the best grid of few steps within a fine one, by dynamic programming (2405.14326)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.artifact import Artifact
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser, Prediction
from implementations.diffusion.grid import Grid
from implementations.diffusion.path import Images, Path
from implementations.samplers.runge_kutta import heun
from implementations.schedules.spacing import Times, check_steps, require_positive, times_at


def prepare(denoiser: Denoiser, x: Images, times: Times, *, condition: Any = None) -> Artifact:
    """Learn for GITS what a step between any two times of a fine grid costs: how far Euler ends from a teacher's state.

    The teacher is Heun in sigma over ``times``, descending; ``x`` at ``times[0]`` is a warm-up batch, over which the
    distances in ``x/alpha`` are averaged. n steps take at most 2 n evaluations and hold n states in memory
    (2405.14326).
    """
    grid = Grid(denoiser.path, times)
    grid.require_descending()
    counting = CountingDenoiser(denoiser)
    predictions: list[Prediction] = []
    states: list[Images] = [x]

    def keep(_: int, __: Tensor, state: Images, prediction: Prediction) -> None:
        states.append(state)
        predictions.append(prediction)

    with torch.no_grad():
        heun(counting, x, times, callback=keep, condition=condition)
        cost = torch.full((len(states), len(states)), torch.inf, dtype=torch.float64)
        for i, prediction in enumerate(predictions):
            for j in range(i + 1, len(states)):
                there = grid.points[j]
                apart = prediction.combine(there.alpha, there.sigma) - states[j]
                cost[i, j] = apart.flatten(1).norm(dim=1).mean() / there.alpha
    levels = torch.tensor([point.ratio for point in grid.points], dtype=torch.float64)
    return Artifact("gits", {"levels": levels, "cost": cost}, counting.calls)


def gits(path: Path, steps: int, *, artifact: Artifact | None = None, gamma: float = 1.15) -> Times:
    """GITS's time grid: the levels of a fine grid whose steps cost least in total, by dynamic programming (2405.14326).

    ``V_k(i) = min_j cost(i, j) + gamma V_(k-1)(j)``, with the costs of the ``artifact``. ``gamma`` above 1 gives later
    steps more weight. Raises ValueError without an artifact, with one of another method, on more steps than the fine
    grid has and on levels outside the path.
    """
    if artifact is None:
        raise ValueError("gits needs artifact=prepare(denoiser, x, times), the costs on a fine grid of this denoiser")
    check_steps(steps)
    require_positive("gamma", gamma)
    tensors = artifact.of("gits")
    levels, cost = tensors["levels"], tensors["cost"]
    if steps >= len(levels):
        raise ValueError(f"steps must be at most the {len(levels) - 1} that were prepared, got {steps}")
    return times_at(path, levels[_cheapest(cost, steps, gamma)])


def _cheapest(cost: Float[Tensor, "n n"], steps: int, gamma: float) -> list[int]:
    """Give the indices of the cheapest way from the first point to the last in exactly ``steps`` steps."""
    value, choices = cost[:, -1], []
    for _ in range(steps - 1):
        value, choice = (cost + gamma * value).min(1)
        choices.append(choice)
    way = [0]
    for choice in reversed(choices):
        way.append(int(choice[way[-1]]))
    return [*way, len(cost) - 1]

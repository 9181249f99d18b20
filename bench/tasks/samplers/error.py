"""Error of a sampler at a budget of model evaluations, on oracles whose truth is known.

Path-wise to the exact flow of the same start: in closed form on the Gaussian, by a fine solve on the mixture, whose own
error is stated. There a path may end in another basin than its start's; one such path outweighs all others, so their
share is a figure of its own. In distribution to exact draws, beside the floor that other exact draws reach.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.samplers.problems import (
    COSTS,
    ORACLES,
    Budgeted,
    OracleName,
    Solution,
    floor_of,
    generator,
    make_path,
    marginal,
    seed_of,
    solve,
)
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import Path
from metrics import energy_distance, sliced_wasserstein

REFERENCE = 160  # steps of the fine solve; one of half as many tells its error
SHOWN = 24  # trajectories kept


class Parameters(Budgeted):
    """A sampler on an oracle with a budget."""

    oracle: OracleName = "gaussian"
    samples: int = Field(default=2000, ge=2)


@task(
    entry="sampler",
    catalogue="samplers",
    samples=True,
    measures=[
        Measure("rms_error", "RMS distance to the exact flow of the same start", window=0.02),
        Measure("rms_in_basin", "the same over the paths that end in the exact flow's basin", window=0.02),
        Measure("changed_basin", "share of paths that end in another basin", window=0.02, floor=1e-3),
        Measure("reference_error", "error of the exact flow, where a fine solve stands for it", direction="target"),
        Measure("sliced_w2", "sliced 2-Wasserstein distance to exact draws", window=0.02),
        Measure("sliced_w2_floor", "the same of other exact draws", direction="target", window=0.02),
        Measure("energy", "energy distance to exact draws", window=0.02, floor=1e-6),
        Measure("energy_floor", "the same of other exact draws", direction="target", window=0.02, floor=1e-6),
        *COSTS,
    ],
)  # fmt: skip
def sampler_error(parameters: Parameters, context: Context) -> Measurements:
    """Distance to the exact flow (samplers without noise) and to exact draws at the grid's last time."""
    oracle = ORACLES[parameters.oracle](make_path(parameters.path), context.device)
    states: list[Tensor] = []
    solution = solve(
        parameters, oracle, parameters.samples, context.seed, lambda i, t, x, prediction: states.append(x[:SHOWN])
    )
    key = (parameters.oracle, parameters.path, parameters.samples, context.seed, context.device)
    exact = truth(*key, float(solution.times[-1]))
    size = parameters.samples
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(_sliced(solution.samples, exact.draws, context.seed), n=size),
        "sliced_w2_floor": exact.sliced_w2,
        "energy": Value(energy_distance(solution.samples, exact.draws).value, n=size),
        "energy_floor": exact.energy,
        **solution.costs,
    }
    if not parameters.entry.draws_noise(parameters.options):
        measures |= _pathwise(oracle, solution, reference(*key, float(solution.times[0]), float(solution.times[-1])))
    if oracle.shape == (2,):
        _keep_trajectories(parameters, context, solution, states)
    if context.keep_samples:
        context.keep("samples", solution.samples)
    return measures


class Truth(NamedTuple):
    """Exact draws, and the floors of other exact draws against them."""

    draws: Float[Tensor, " n *shape"]
    sliced_w2: Value
    energy: Value


class Reference(NamedTuple):
    """Where the exact flow takes the start, its error (0 in closed form), and the first of its paths in between."""

    end: Float[Tensor, " n *shape"]
    error: float


@lru_cache(maxsize=16)
def truth(oracle: OracleName, path: str, samples: int, seed: int, device: str, t: float) -> Truth:
    """Exact draws at ``t``."""
    source, stream = ORACLES[oracle](make_path(path), device), generator(seed, "truth")
    draws = marginal(source, t, samples, stream)

    def draw() -> Tensor:
        return marginal(source, t, samples, stream)

    sliced = floor_of(lambda again: _sliced(again, draws, seed), draw)
    return Truth(draws, sliced, floor_of(lambda again: energy_distance(again, draws).value, draw))


@lru_cache(maxsize=16)
def reference(
    oracle: OracleName, path: str, samples: int, seed: int, device: str, start: float, end: float
) -> Reference:
    """The exact flow of the start that ``solve`` draws, in closed form or by fine solves."""
    source = ORACLES[oracle](make_path(path), device)
    x = marginal(source, torch.tensor(start, dtype=torch.float64), samples, generator(seed, "start"))
    if isinstance(source, GaussianOracle):
        return Reference(source.flow(x, start, end), 0.0)
    coarse, fine = (
        _fine(source, x, _levels(source.path, start, end, steps))[-1] for steps in (REFERENCE // 2, REFERENCE)
    )
    return Reference(fine, float((fine - coarse).square().mean().sqrt()))


def _fine(oracle: MixtureOracle, x: Tensor, times: Tensor) -> list[Tensor]:
    """The states of a fourth-order solve."""
    states = [x]
    end = SAMPLERS["rk4"](oracle, x, times, coordinate="angle", callback=lambda i, t, x, prediction: states.append(x))
    return [*states[:-1], end]


def _levels(path: Path, start: float, end: float, steps: int) -> Float[Tensor, " points"]:
    """Karras's levels between two times; before sigma = 0, down to 1e-4, where the last step is exact to 1e-6."""
    high, low = (float(path.ratio(t)) for t in (start, end))
    grid = SCHEDULES["karras"](path, steps, sigma_max=min(high, 1e4), sigma_min=max(low, 1e-4), clean=low == 0)
    grid[0] = start
    return grid


def _pathwise(oracle: MixtureOracle, solution: Solution, exact: Reference) -> dict[str, float | Value]:
    squares = (solution.samples - exact.end).square().flatten(1).mean(1)
    size = len(squares)
    measures: dict[str, float | Value] = {"rms_error": Value(float(squares.mean().sqrt()), n=size)}
    if isinstance(oracle, GaussianOracle):
        return measures
    found, expected = (_basins(oracle, x, solution.times[-1]) for x in (solution.samples, exact.end))
    kept = found == expected
    return measures | {
        "rms_in_basin": Value(float(squares[kept].mean().sqrt()), n=int(kept.sum())),
        "changed_basin": Value(float((~kept).double().mean()), n=size),
        "reference_error": exact.error,
    }


def _basins(oracle: MixtureOracle, x: Tensor, t: Tensor) -> Int64[Tensor, " n"]:
    """The component that a sample most probably is of."""
    return oracle._components(x, t, None)[2].argmax(1)


def _keep_trajectories(parameters: Parameters, context: Context, solution: Solution, states: list[Tensor]) -> None:
    """States of the first samples over ``hypot(alpha, sigma)``, in which noise and data have one scale."""
    path = make_path(parameters.path)

    def scaled(states: list[Tensor], times: Tensor) -> Float[Tensor, "paths points 2"]:
        radii = torch.hypot(path.alpha(times), path.sigma(times)).to(states[0])
        return (torch.stack(states, 1) / radii[:, None]).float()

    if len(states) == len(solution.times) - 1:  # a method that chooses its steps may call back at others
        context.keep("trajectories", scaled([solution.start[:SHOWN], *states], solution.times))
    if not parameters.entry.draws_noise(parameters.options):
        oracle = ORACLES[parameters.oracle](path, context.device)
        times = _levels(path, float(solution.times[0]), float(solution.times[-1]), REFERENCE // 2)
        context.keep("flow_lines", scaled(_fine(oracle, solution.start[:SHOWN], times), times))


def _sliced(x: Tensor, y: Tensor, seed: int) -> float:
    return sliced_wasserstein(x, y, seed=seed_of(seed, "directions"))

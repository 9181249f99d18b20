"""Error of a sampler at a budget of model evaluations, on oracles whose exact flow and law are known.

Pathwise, to the exact flow of the same start: in closed form on the Gaussian, and by a fine solve on the mixture, whose
error is reported. On the mixture a path may end in another basin than the exact one; a single such path dominates the
RMS error, so their share is reported separately. In distribution, to exact draws, together with the floor that other
exact draws reach. On a learned model, pathwise to its own converged solution (``learned_error``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.intervals import measure_floor
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.learned_error import learned_error
from bench.tasks.samplers.problems import (
    ORACLES,
    Solution,
    draw_at_level,
    generator,
    marginal,
    sampler_of,
    seed_of,
    solve,
)
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import VP, Path
from metrics import energy_distance, sliced_wasserstein

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import ErrorParameters

REFERENCE = 160  # steps of the fine solve; its error is estimated from one with half as many
SHOWN = 24  # trajectories that are stored


def sampler_error(parameters: ErrorParameters, context: Context) -> Measurements:
    """Distance to the exact flow (for samplers without noise) and to exact draws, at the last time of the grid.

    The oracle knows its exact flow and law, so that these are errors of the solver; exact draws give the floor. On a
    learned model the distance is to its own converged solution from the same starts.
    """
    if parameters.checkpoint:
        return learned_error(parameters, context)
    oracle = ORACLES[parameters.oracle](make_path(parameters.path), context.device)
    states: list[Tensor] = []
    solution = solve(
        parameters, oracle, parameters.samples, context.seed, lambda i, t, x, prediction: states.append(x[:SHOWN])
    )
    key = (parameters.oracle, parameters.path, parameters.samples, context.seed, context.device)
    exact = truth(*key, float(solution.times[-1]))
    size = parameters.samples
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(_sliced_w2(solution.samples, exact.draws, context.seed), n=size),
        "sliced_w2_floor": exact.sliced_w2,
        "energy": Value(energy_distance(solution.samples, exact.draws).value, n=size),
        "energy_floor": exact.energy,
        **solution.costs,
    }
    if not sampler_of(parameters).draws_noise(parameters.options):
        measures |= _pathwise(oracle, solution, exact_end(*key, float(solution.times[0]), float(solution.times[-1])))
    if oracle.shape == (2,):
        _keep_trajectories(parameters, context, solution, states)
    if context.keep_samples:
        context.keep("samples", solution.samples)
    return measures


class Truth(NamedTuple):
    """Exact draws to compare samples with, and the sliced W2 and energy distance of other exact draws to them.

    The two distances are the floors that a perfect sampler reaches.
    """

    draws: Float[Tensor, " n *shape"]
    sliced_w2: Value
    energy: Value


class ExactEnd(NamedTuple):
    """Where the exact flow takes a sampler's start, and the error of this (0 in closed form)."""

    end: Float[Tensor, " n *shape"]
    error: float


def truth(oracle: str, path: str, samples: int, seed: int, device: str, t: float) -> Truth:
    """Exact draws of an oracle on a path at time ``t``, with the floors that other exact draws reach against them."""
    where = make_path(path)
    return _truth_at_level(oracle, samples, seed, device, float(where.alpha(t)), float(where.sigma(t)))


@lru_cache(maxsize=16)
def _truth_at_level(oracle: str, samples: int, seed: int, device: str, alpha: float, sigma: float) -> Truth:
    """Exact draws and floors, by the two numbers through which they depend on the path.

    At the clean end all paths share them.
    """
    source, stream = ORACLES[oracle](VP(), device), generator(seed, "truth")
    level = torch.tensor([alpha, sigma], dtype=torch.float64)

    def draw() -> Tensor:
        return draw_at_level(source, level[0], level[1], samples, stream)

    draws = draw()
    sliced = measure_floor(lambda again: _sliced_w2(again, draws, seed), draw)
    return Truth(draws, sliced, measure_floor(lambda again: energy_distance(again, draws).value, draw))


@lru_cache(maxsize=16)
def exact_end(oracle: str, path: str, samples: int, seed: int, device: str, start: float, end: float) -> ExactEnd:
    """Where the exact flow takes a sampler's start from time ``start`` to ``end``, in closed form or by fine solves.

    The start is the one that ``solve`` draws for this seed.
    """
    source = ORACLES[oracle](make_path(path), device)
    x = marginal(source, torch.tensor(start, dtype=torch.float64), samples, generator(seed, "start"))
    if isinstance(source, GaussianOracle):
        return ExactEnd(source.flow(x, start, end), 0.0)
    coarse, fine = (
        _fine(source, x, _levels(source.path, start, end, steps))[-1] for steps in (REFERENCE // 2, REFERENCE)
    )
    return ExactEnd(fine, float((fine - coarse).square().mean().sqrt()))


def _fine(oracle: MixtureOracle, x: Tensor, times: Tensor) -> list[Tensor]:
    """The states of a fourth-order solve."""
    states = [x]
    end = SAMPLERS["rk4"](oracle, x, times, coordinate="angle", callback=lambda i, t, x, prediction: states.append(x))
    return [*states[:-1], end]


def _levels(path: Path, start: float, end: float, steps: int) -> Float[Tensor, " points"]:
    """Karras's levels between two times.

    If the last is sigma = 0, down to 1e-4, from where one step is exact to 1e-6.
    """
    high, low = (float(path.ratio(t)) for t in (start, end))
    grid = SCHEDULES["karras"](path, steps, sigma_max=min(high, 1e4), sigma_min=max(low, 1e-4), clean=low == 0)
    grid[0] = start
    return grid


def _pathwise(oracle: MixtureOracle, solution: Solution, exact: ExactEnd) -> dict[str, float | Value]:
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
    """The component to which a sample most probably belongs."""
    return oracle._components(x, t, None)[2].argmax(1)


def _keep_trajectories(parameters: ErrorParameters, context: Context, solution: Solution, states: list[Tensor]) -> None:
    """Store states of the first samples over ``hypot(alpha, sigma)``, so that noise and data have the same scale."""
    path = make_path(parameters.path)

    def scale(states: list[Tensor], times: Tensor) -> Float[Tensor, "paths points 2"]:
        radii = torch.hypot(path.alpha(times), path.sigma(times)).to(states[0])
        return (torch.stack(states, 1) / radii[:, None]).float()

    if len(states) == len(solution.times) - 1:  # an adaptive method may call back at other times
        context.keep("trajectories", scale([solution.start[:SHOWN], *states], solution.times))
    if not sampler_of(parameters).draws_noise(parameters.options):
        oracle = ORACLES[parameters.oracle](path, context.device)
        times = _levels(path, float(solution.times[0]), float(solution.times[-1]), REFERENCE // 2)
        context.keep("flow_lines", scale(_fine(oracle, solution.start[:SHOWN], times), times))


def _sliced_w2(x: Tensor, y: Tensor, seed: int) -> float:
    return sliced_wasserstein(x, y, seed=seed_of(seed, "directions"))

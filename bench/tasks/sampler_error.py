"""Error of a sampler at a budget of model evaluations, on oracles whose truth is known."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.problems import ORACLES, Budgeted, OracleName, floor_of, generator, make_path, marginal, seed_of, solve
from implementations.diffusion import GaussianOracle
from metrics import sliced_wasserstein


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
        Measure("sliced_w2", "sliced 2-Wasserstein distance to exact draws", window=0.05),
        Measure("sliced_w2_floor", "the same of other exact draws", direction="target", window=0.05),
        Measure("evaluations", "counted at the model", direction="target", window=0.0),
    ],
)
def sampler_error(parameters: Parameters, context: Context) -> Measurements:
    """Distance to the exact flow (Gaussian, deterministic samplers) and to exact draws at the grid's last time."""
    oracle = ORACLES[parameters.oracle](make_path(parameters.path), context.device)
    solution = solve(parameters, oracle, parameters.samples, context.seed)
    end = solution.times[-1]
    exact, floor = truth(
        parameters.oracle, parameters.path, float(end), parameters.samples, context.seed, context.device
    )
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(_distance(solution.samples, exact, context.seed), n=parameters.samples),
        "sliced_w2_floor": floor,
        "evaluations": solution.evaluations,
    }
    if isinstance(oracle, GaussianOracle) and not parameters.entry.draws_noise(parameters.options):
        flow = oracle.flow(solution.start, solution.times[0], end)
        measures["rms_error"] = Value(float((solution.samples - flow).square().mean().sqrt()), n=parameters.samples)
    if context.keep_samples:
        context.keep("samples", solution.samples)
    return measures


@lru_cache(maxsize=16)
def truth(oracle: OracleName, path: str, t: float, samples: int, seed: int, device: str) -> tuple[Tensor, Value]:
    """Exact draws at ``t``, and the floor of other exact draws against them."""
    source, stream = ORACLES[oracle](make_path(path), device), generator(seed, "truth")
    exact = marginal(source, t, samples, stream)
    floor = floor_of(lambda again: _distance(again, exact, seed), lambda: marginal(source, t, samples, stream))
    return exact, floor


def _distance(x: Tensor, y: Tensor, seed: int) -> float:
    return sliced_wasserstein(x, y, seed=seed_of(seed, "directions"))

"""Order of accuracy, measured: a ladder of step counts on a Gaussian whose flow and law are known exactly.

Grids lie strictly inside the path, and their first interval is graded, so that the low order at which a method of
several steps starts leaves no trace. A method that chooses its steps climbs a ladder of tolerances instead.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.laboratory import marginal_law, output_law, squared_w2
from bench.task import Context, Measure, Measurements, PathName, SamplerName, TaskParameters, Value, task
from bench.tasks.problems import gaussian, generator, make_path, marginal, prepared, require_samples
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion import CountingDenoiser, GaussianOracle, Path
from implementations.diffusion.schedule import graded
from implementations.entry import SamplerEntry
from metrics import fit_order

ROUNDING = 1e-11  # errors below it are none of the method's


class Parameters(TaskParameters):
    """A sampler on a grid whose ends lie strictly inside the path.

    ``steps`` default to 80, 160 and 320, and to 160, 320 and 640 from order 4. ``uniform``: equal steps of the
    sampler's coordinate in place of Karras's grid, and no graded start.
    """

    sampler: SamplerName
    options: dict[str, Any] = {}
    path: PathName = "vp"
    grid: Literal["karras", "uniform"] = "karras"
    steps: list[int] | None = Field(default=None, min_length=2)
    tolerances: list[float] = Field(default=[1e-3, 1e-4, 1e-5, 1e-6], min_length=2)  # their inverses whole numbers
    rho: float = 7.0
    sigma_min: float = 0.02  # of sigma/alpha; inside every path of the catalogue
    sigma_max: float = 40.0
    samples: int = Field(default=64, ge=1)


@task(
    kind="ladder",
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure(
            "order", "least-squares slope of log error over log steps", direction="target", window=0.02, floor=0.02
        ),
        Measure("theory", "nominal order of the method, weak if it is stochastic", direction="target", window=0.0),
        Measure("deviation", "order minus theory", direction="target", window=0.0, floor=0.02),
        Measure("reached", "whether order falls short of theory by .1 at most, .2 from 3, .15 if weak", unit="yes/no",
                direction="higher", window=0.0),
        Measure("follows", "slope of log error over log tolerance", direction="target", window=0.02, floor=0.02),
        Measure("residual", "RMS of the fit, in log error", direction="target", window=0.0, floor=0.02),
        Measure("finest_error", "error at the most steps, or the least tolerance", window=0.02),
    ],
)  # fmt: skip
def sampler_order(parameters: Parameters, context: Context) -> Measurements:
    """Strong order against the exact flow; weak order against the exact law where the sampler is stochastic."""
    entry = SAMPLERS[parameters.sampler].loaded()
    oracle = gaussian(make_path(parameters.path), device=context.device)
    if entry.adaptive:
        return _over_tolerances(entry, oracle, parameters, context)
    theory, weak = entry.theory(parameters.options, parameters.grid == "uniform"), entry.draws_noise(parameters.options)
    steps = parameters.steps or ([160, 320, 640] if (theory or 0) >= 4 else [80, 160, 320])
    error = weak_error if weak else strong_error
    errors = [error(entry, oracle, parameters, grid_of(entry, oracle.path, parameters, n), context) for n in steps]
    context.keep("steps", torch.tensor(steps, dtype=torch.float64))
    context.keep("errors", torch.tensor(errors, dtype=torch.float64))
    if max(errors) <= ROUNDING:  # exact, as few-step methods are on a flow map: there is no slope
        return {"finest_error": errors[-1]}
    fit = fit_order(steps, errors, floor=ROUNDING)
    measures: dict[str, float | Value] = {
        "order": Value(fit.slope, n=len(errors) - len(fit.below_floor)),
        "residual": fit.residual,
        "finest_error": errors[-1],
    }
    if theory is not None:
        room = 0.15 if weak else 0.1 if theory < 3 else 0.2
        measures |= {"theory": theory, "deviation": fit.slope - theory, "reached": fit.slope >= theory - room}
    return measures


def strong_error(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, times: Tensor, context: Context
) -> float:
    """RMS distance between the sampler's output and the exact flow of the same start."""
    x = marginal(oracle, times[0], parameters.samples, generator(context.seed, "start"))
    exact = oracle.flow(x, times[0], times[-1])
    options = _options(entry, oracle, parameters, times, context)
    found = require_samples(entry(oracle, x, times, **options), x)
    return float((found - exact).square().mean().sqrt())


def weak_error(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, times: Tensor, context: Context
) -> float:
    """Root mean square of the modes' W2 in deviations of the truth: exact and without Monte Carlo."""
    law = output_law(entry, oracle, times, _options(entry, oracle, parameters, times, context))
    truth = marginal_law(oracle, times[-1])
    return float((squared_w2(law, truth) / truth.variance).mean().sqrt())


def _over_tolerances(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, context: Context
) -> Measurements:
    """Error over the tolerance, relative and absolute; the ladder's steps are evaluations."""
    times = grid_of(entry, oracle.path, parameters, 1)
    errors, evaluations = [], []
    for tolerance in parameters.tolerances:
        counted = CountingDenoiser(oracle)
        x = marginal(oracle, times[0], parameters.samples, generator(context.seed, "start"))
        options = parameters.options | {"rtol": tolerance, "atol": tolerance}
        found = require_samples(entry(counted, x, times, **options), x)
        errors.append(float((found - oracle.flow(x, times[0], times[-1])).square().mean().sqrt()))
        evaluations.append(counted.calls)
    context.keep("steps", torch.tensor(evaluations, dtype=torch.float64))
    context.keep("errors", torch.tensor(errors, dtype=torch.float64))
    context.keep("tolerances", torch.tensor(parameters.tolerances, dtype=torch.float64))
    follows = fit_order([round(1 / tolerance) for tolerance in parameters.tolerances], errors, floor=ROUNDING)
    return {"follows": follows.slope, "residual": follows.residual, "finest_error": errors[-1]}


def _options(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, times: Tensor, context: Context
) -> dict[str, Any]:
    if not entry.prepare or "artifact" in parameters.options:
        return parameters.options
    return parameters.options | {"artifact": prepared(entry, oracle, times, context.seed)}


def grid_of(entry: SamplerEntry, path: Path, parameters: Parameters, steps: int) -> Tensor:
    """The ladder's grid, in the direction that the sampler takes."""
    low, high = parameters.sigma_min, parameters.sigma_max
    if parameters.grid == "karras":
        times = SCHEDULES["karras"](path, steps, rho=parameters.rho, sigma_min=low, sigma_max=high, clean=False)
    else:
        times = _uniform(
            entry.options(parameters.options).get("coordinate") or entry.coordinate, path, steps, low, high
        )
    times = times.flip(0) if entry.ascending else times
    return graded(times) if parameters.grid == "karras" and not entry.adaptive else times


def _uniform(coordinate: str | None, path: Path, steps: int, low: float, high: float) -> Tensor:
    """Equal steps of a coordinate between two levels sigma/alpha."""
    ramp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if coordinate == "t":
        start, end = (float(path.time(-math.log(level))) for level in (high, low))
        return start + ramp * (end - start)
    to, back = {
        "sigma": (lambda level: level, torch.log),
        "lambda": (math.log, lambda level: level),
        "angle": (math.atan, lambda level: level.tan().log()),
    }[coordinate or "sigma"]
    return path.time(-back(to(high) + ramp * (to(low) - to(high))))

"""Order of accuracy, measured: a ladder of step counts on a Gaussian whose flow and law are known exactly."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from bench.laboratory import marginal_law, output_law, variance_error
from bench.task import Context, Measure, Measurements, PathName, SamplerName, TaskParameters, Value, task
from bench.tasks.problems import gaussian, generator, make_path, marginal, require_samples
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion import GaussianOracle
from implementations.entry import SamplerEntry
from metrics import fit_order


class Parameters(TaskParameters):
    """A sampler on a Karras grid whose ends lie strictly inside the path."""

    sampler: SamplerName
    options: dict[str, Any] = {}
    path: PathName = "vp"
    steps: list[int] = Field(default=[80, 160, 320], min_length=2)
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
        Measure("residual", "RMS of the fit, in log error", direction="target", window=0.0, floor=0.02),
        Measure("finest_error", "error at the most steps", window=0.02),
    ],
)
def sampler_order(parameters: Parameters, context: Context) -> Measurements:
    """Strong order against the exact flow; weak order against the exact law where the sampler is stochastic."""
    entry = SAMPLERS[parameters.sampler].loaded()
    oracle = gaussian(make_path(parameters.path), device=context.device)
    error = weak_error if entry.draws_noise(parameters.options) else strong_error
    errors = [error(entry, oracle, parameters, steps, context) for steps in parameters.steps]
    context.keep("steps", torch.tensor(parameters.steps, dtype=torch.float64))
    context.keep("errors", torch.tensor(errors, dtype=torch.float64))
    fit = fit_order(parameters.steps, errors, floor=1e-11)  # below it lies rounding
    measures: dict[str, float | Value] = {
        "order": Value(fit.slope, n=len(errors)),
        "residual": fit.residual,
        "finest_error": errors[-1],
    }
    theory = entry.theory(parameters.options)
    if theory is not None:
        measures |= {"theory": theory, "deviation": fit.slope - theory}
    return measures


def strong_error(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, steps: int, context: Context
) -> float:
    """RMS distance between the sampler's output and the exact flow of the same start."""
    times = _grid(oracle, parameters, steps)
    x = marginal(oracle, times[0], parameters.samples, generator(context.seed, "start"))
    exact = oracle.flow(x, times[0], times[-1])
    found = require_samples(entry(oracle, x, times, **parameters.options), x)
    return float((found - exact).square().mean().sqrt())


def weak_error(
    entry: SamplerEntry, oracle: GaussianOracle, parameters: Parameters, steps: int, context: Context
) -> float:
    """RMS over the eigenmodes of the relative error of the output's variance, exact and without Monte Carlo."""
    times = _grid(oracle, parameters, steps)
    law = output_law(entry, oracle, times, parameters.options)
    return variance_error(law, marginal_law(oracle, times[-1]))


def _grid(oracle: GaussianOracle, parameters: Parameters, steps: int) -> Tensor:
    options = {
        "rho": parameters.rho,
        "sigma_min": parameters.sigma_min,
        "sigma_max": parameters.sigma_max,
        "clean": False,
    }
    return SCHEDULES["karras"](oracle.path, steps, **options)

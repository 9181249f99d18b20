"""Order of accuracy, measured: a ladder of step counts on a Gaussian whose flow and law are known exactly."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.task import Context, Measure, Measurements, PathName, SamplerName, TaskParameters, Value, task
from bench.tasks.problems import gaussian, gaussian_law, generator, make_path, marginal, require_samples
from implementations.catalogue import SAMPLERS, SCHEDULES, SamplerEntry
from implementations.diffusion import GaussianOracle
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
    if entry.order is not None:
        measures |= {"theory": entry.order, "deviation": fit.slope - entry.order}
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
    """RMS over the eigenmodes of the relative error of the output's variance, exact and without Monte Carlo.

    On a Gaussian the sampler is affine in its start and in each noise draw, and a diagonal covariance keeps the modes
    apart: unit impulses give the coefficients a, b_k of ``y = c + a x_T + sum_k b_k z_k``, and
    ``Var y = a^2 Var x_T + sum_k b_k^2``.
    """
    path, times = oracle.path, _grid(oracle, parameters, steps)
    draws = 0

    def count(draw: int, like: Tensor) -> Tensor:
        nonlocal draws
        draws = max(draws, draw + 1)
        return torch.zeros_like(like)

    data = gaussian_law()[1].to(context.device)  # variances
    zero = torch.zeros_like(data)[None]
    entry(oracle, zero, times, noise=count, **parameters.options)
    rows = torch.arange(draws + 2, device=context.device)  # row 0: nothing, row 1: the start, row k + 2: draw k

    def impulse(draw: int, like: Tensor) -> Tensor:
        return (rows == draw + 2).to(like)[:, None].expand_as(like)

    x = (rows == 1).to(zero)[:, None].expand(-1, zero.shape[1])
    output: Float[Tensor, "draws+2 modes"] = entry(oracle, x, times, noise=impulse, **parameters.options)
    response = (require_samples(output, x) - output[:1])[1:].square()
    before, after = (path.alpha(t) ** 2 * data + path.sigma(t) ** 2 for t in (times[0], times[-1]))
    variance = response[0] * before + response[1:].sum(0)
    return float((variance / after - 1).square().mean().sqrt())


def _grid(oracle: GaussianOracle, parameters: Parameters, steps: int) -> Tensor:
    options = {
        "rho": parameters.rho,
        "sigma_min": parameters.sigma_min,
        "sigma_max": parameters.sigma_max,
        "clean": False,
    }
    return SCHEDULES["karras"](oracle.path, steps, **options)

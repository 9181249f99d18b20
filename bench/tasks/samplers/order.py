"""The measured order of accuracy: a ladder of step counts on a Gaussian, with its exact flow and law, or on a mixture.

The grids lie strictly inside the path, and their first interval is graded, so that the lower order of a multistep
method's first steps leaves no trace. A method that chooses its steps climbs a ladder of tolerances instead.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import scipy.stats
import torch
from torch import Tensor

from bench.task import Context, Measurements, Value
from bench.tasks.samplers.coupled import REPLICATES, WeakErrors, weak_errors
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.problems import (
    gaussian,
    generator,
    integrated_flow,
    learn_artifact,
    marginal,
    require_samples,
    two_gaussians,
)
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion.denoiser import CountingDenoiser
from implementations.diffusion.law import marginal_law, output_law, squared_w2
from implementations.diffusion.noise import Noise
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import Path
from implementations.schedules.spacing import grade
from metrics import fit_order

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import OrderParameters

ROUNDING = 1e-11  # errors below this are rounding and not the method's
SETTLED = 0.1  # largest difference of the slopes of two doublings that count as equal
LONGEST, LONGEST_ON_PATHS = 1280, 640  # steps
WIDEST = 0.2  # half width of the interval of a slope, beyond which noise dominates
PROBLEMS: dict[str, Any] = {"gaussian": gaussian, "mixture": two_gaussians}


def sampler_order(parameters: OrderParameters, context: Context) -> Measurements:
    """Strong order against the exact flow; with noise, weak order against the exact law or along one Brownian path.

    The order is the slope of the error over a ladder of step counts.
    """
    entry, path = SAMPLERS[parameters.sampler].load(), make_path(parameters.path)
    oracle: Any = PROBLEMS[parameters.oracle](path, context.device)
    if entry.adaptive:
        return _over_tolerances(entry, oracle, parameters, context)
    theory, weak = entry.theory(parameters.options, parameters.grid == "uniform"), entry.draws_noise(parameters.options)
    if weak and parameters.oracle == "mixture":
        return _along_one_path(entry, path, parameters, theory, context)
    known = None if weak else _start_and_end(entry, oracle, parameters, context)

    def error(steps: int) -> float:
        times = ladder_grid(entry, path, parameters, steps)
        options = _options(entry, oracle, parameters, times, context)
        if known is None:
            return weak_error(entry, oracle, times, options)
        x, exact = known
        return float((require_samples(entry(oracle, x, times, **options), x) - exact).square().mean().sqrt())

    steps = parameters.steps or ([160, 320, 640] if (theory or 0) >= 4 else [80, 160, 320])
    errors = [error(n) for n in steps]
    while parameters.steps is None and not has_settled(errors) and 2 * steps[-1] <= LONGEST:
        steps = [*steps, 2 * steps[-1]]
        errors = [*errors, error(steps[-1])]
    context.keep("steps", torch.tensor(steps, dtype=torch.float64))
    context.keep("errors", torch.tensor(errors, dtype=torch.float64))
    if max(errors) <= ROUNDING:  # exact, like few-step methods on a flow map, so that there is no slope
        return {"finest_error": errors[-1]}
    rungs = slice(0 if parameters.steps else -3, None)
    fit = fit_order(steps[rungs], errors[rungs], floor=ROUNDING)
    return {
        "order": Value(fit.slope, n=len(steps[rungs]) - len(fit.below_floor)),
        "residual": fit.residual,
        "finest_error": errors[-1],
        **_judge(fit.slope, theory, weak),
    }


def has_settled(errors: list[float]) -> bool:
    """Whether a ladder of errors shows its order: the slopes of the last two doublings differ by at most ``SETTLED``.

    It also has settled where the errors have reached rounding.
    """
    if min(errors[-3:]) <= 10 * ROUNDING:
        return True
    first, last = (math.log2(a / b) for a, b in itertools.pairwise(errors[-3:]))
    return abs(last - first) <= SETTLED


def _judge(slope: float, theory: int | None, weak: bool, margin: float = 0.0) -> dict[str, float | Value]:
    """The measures that compare a slope with theory; it falls short only by more than ``margin`` explains."""
    if theory is None:
        return {}
    room = 0.15 if weak else 0.1 if theory < 3 else 0.2
    return {"theory": theory, "deviation": slope - theory, "reached": slope + margin >= theory - room}


def _start_and_end(
    entry: SamplerEntry, oracle: MixtureOracle, parameters: OrderParameters, context: Context
) -> tuple[Tensor, Tensor]:
    """Exact draws at the first time of the grids, and where the exact flow takes them by the last."""
    times = ladder_grid(entry, oracle.path, parameters, 1)
    x = marginal(oracle, times[0], parameters.samples, generator(context.seed, "start"))
    flow = oracle.flow if isinstance(oracle, GaussianOracle) else partial(integrated_flow, oracle)
    return x, flow(x, times[0], times[-1])


def weak_error(entry: SamplerEntry, oracle: GaussianOracle, times: Tensor, options: dict[str, Any]) -> float:
    """Exact weak error of a sampler on a Gaussian: RMS over the modes of W2 in units of the exact standard deviation.

    It is computed without Monte Carlo, from the law of the output.
    """
    law, truth = output_law(entry, oracle, times, options), marginal_law(oracle, times[-1])
    return float((squared_w2(law, truth) / truth.variance).mean().sqrt())


def _along_one_path(
    entry: SamplerEntry, path: Path, parameters: OrderParameters, theory: int | None, context: Context
) -> Measurements:
    """Weak order on the mixture of ``coupled``, with the 95 % interval over its scrambled points."""
    if parameters.grid == "uniform":
        raise ValueError("grid must be karras for a sampler that adds noise on a mixture: its grids must be nested")

    def grid(steps: int) -> Tensor:
        levels = {"sigma_min": parameters.sigma_min, "sigma_max": parameters.sigma_max}
        return SCHEDULES["karras"](path, steps, rho=parameters.rho, clean=False, **levels)  # type: ignore[no-any-return]

    def sample(oracle: MixtureOracle, x: Tensor, times: Tensor, noise: Noise) -> Tensor:
        return require_samples(entry(oracle, x, times, noise=noise, **parameters.options), x)

    def measure_slope(steps: list[int]) -> tuple[WeakErrors, float, float]:
        found = weak_errors(sample, path, grid, steps, parameters.points, context.seed)
        slope, spread = found.slope()
        return found, slope, float(scipy.stats.t.ppf(0.975, REPLICATES - 1)) * spread

    steps = parameters.steps or [20, 40, 80]
    found, slope, margin = measure_slope(steps)
    # On a longer ladder the differences are smaller, and may drown in the noise of the points.
    while not (parameters.steps or has_settled(found.errors) or margin > WIDEST or 2 * steps[-1] > LONGEST_ON_PATHS):
        steps = [2 * n for n in steps]
        found, slope, margin = measure_slope(steps)
    context.keep("steps", torch.tensor(steps, dtype=torch.float64))
    context.keep("errors", torch.tensor(found.errors, dtype=torch.float64))
    order = Value(slope, (slope - margin, slope + margin), n=REPLICATES)
    judged = _judge(slope, theory, True, margin)
    if judged and not found.consistent:
        judged["reached"] = False  # it converges, but not to the law of the data
    return {"order": order, "finest_error": found.errors[-1], **judged}


def _over_tolerances(
    entry: SamplerEntry, oracle: MixtureOracle, parameters: OrderParameters, context: Context
) -> Measurements:
    """Error over tolerance, which is relative and absolute; the steps of this ladder are evaluations."""
    times = ladder_grid(entry, oracle.path, parameters, 1)
    errors, evaluations = [], []
    x, exact = _start_and_end(entry, oracle, parameters, context)
    for tolerance in parameters.tolerances:
        counted = CountingDenoiser(oracle)
        options = parameters.options | {"rtol": tolerance, "atol": tolerance}
        found = require_samples(entry(counted, x, times, **options), x)
        errors.append(float((found - exact).square().mean().sqrt()))
        evaluations.append(counted.calls)
    context.keep("steps", torch.tensor(evaluations, dtype=torch.float64))
    context.keep("errors", torch.tensor(errors, dtype=torch.float64))
    context.keep("tolerances", torch.tensor(parameters.tolerances, dtype=torch.float64))
    follows = fit_order([round(1 / tolerance) for tolerance in parameters.tolerances], errors, floor=ROUNDING)
    return {"follows": follows.slope, "residual": follows.residual, "finest_error": errors[-1]}


def _options(
    entry: SamplerEntry, oracle: MixtureOracle, parameters: OrderParameters, times: Tensor, context: Context
) -> dict[str, Any]:
    if not entry.prepare or "artifact" in parameters.options:
        return parameters.options
    return parameters.options | {"artifact": learn_artifact(entry, oracle, times, context.seed)}


def ladder_grid(entry: SamplerEntry, path: Path, parameters: OrderParameters, steps: int) -> Tensor:
    """The time grid of ``steps`` on which a sampler's order is measured, in the direction in which the sampler runs."""
    low, high = parameters.sigma_min, parameters.sigma_max
    if parameters.grid == "karras":
        times = SCHEDULES["karras"](path, steps, rho=parameters.rho, sigma_min=low, sigma_max=high, clean=False)
    else:
        times = _uniform(
            entry.options(parameters.options).get("coordinate") or entry.coordinate, path, steps, low, high
        )
    times = times.flip(0) if entry.ascending else times
    return grade(times) if parameters.grid == "karras" and not entry.adaptive else times


def _uniform(coordinate: str | None, path: Path, steps: int, low: float, high: float) -> Tensor:
    """Equal steps of a coordinate between two levels of sigma/alpha."""
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

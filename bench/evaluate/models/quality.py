"""A sampler on a model of one's own: distance of its samples to data, the solver's error, and the time of a batch.

All samplers begin at the same starts, one stream per sample, so that they can be compared sample by sample and with the
model's own converged solution. The distance to that solution is the error of the solver alone, and 256 starts show it;
the distance to data has that of the model in it too, and needs thousands of samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluate.models.declarations import PAIRED
from bench.evaluate.models.inputs import (
    Data,
    data_features,
    find_extractor,
    find_shape,
    from_range,
    load_conditions,
    load_data,
    pictures_of,
    rows_of,
)
from bench.models.spec import load_model
from bench.task import Context, Measurements, Value
from bench.tasks.samplers.problems import check_budget, cost_measures, require_samples, sampler_of, seed_of, set_up
from bench.timing import clock_for, median_interval
from implementations.catalogue import SAMPLERS, SCHEDULES
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser, Prediction
from implementations.diffusion.noise import PerSampleNoise
from implementations.diffusion.path import Images, Time
from metrics import FeatureStatistics, energy_distance, frechet_distance, kid, sliced_wasserstein
from metrics.uncertainty import NORMAL, Estimate, Floor, bootstrap, extrapolated_floor, floor

if TYPE_CHECKING:
    from bench.evaluate.models.declarations import ModelParameters

REFERENCE = 80  # steps of order four of the converged solution; its error is the difference from half as many
TIMED = 7  # batches at least: the range of seven times covers their median in 98 % of repetitions
GRID = 12  # samples that are stored as a picture
RESAMPLES = 50


class Conditioned(Denoiser):
    """A denoiser with the conditions of one batch; a batch of another length gets the first of them, repeated."""

    def __init__(self, denoiser: Denoiser, rows: Tensor | None):
        self.denoiser, self.path, self.rows = denoiser, denoiser.path, rows

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        return self.denoiser(x, t, self._of(x))

    def flow_map(self, x: Images, t: Time, s: float | Tensor, condition: Any = None) -> Images:
        """Carry ``x`` from ``t`` to ``s`` by the denoiser's own flow map, with the batch's conditions."""
        return self.denoiser.flow_map(x, t, s, self._of(x))

    def _of(self, x: Images) -> Tensor | None:
        return None if self.rows is None else self.rows[torch.arange(len(x), device=self.rows.device) % len(self.rows)]


class Drawing(Conditioned):
    """A denoiser that draws rows of the data, as what learns before a run does of an oracle."""

    def __init__(self, denoiser: Denoiser, rows: Tensor | None, data: Float[Tensor, " n *shape"] | None):
        super().__init__(denoiser, rows)
        self.data = data  # on the device of the denoiser

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, " n *shape"]:
        """Draw n rows of the data with replacement; raises ValueError where there are none."""
        if self.data is None:
            raise ValueError("this sampler or schedule learns from data before it runs; give --data with rows")
        return self.data[torch.randint(len(self.data), (n,), generator=generator)]


class Start(NamedTuple):
    """Which samples are drawn: their model and its conditions, their shape, number and seed, and where."""

    model: str
    condition: str | None
    conditions: int
    shape: tuple[int, ...]
    n: int
    seed: int
    device: str
    batch: int

    @property
    def denoiser(self) -> Denoiser:
        """The model on the device."""
        return load_model(self.model).on(self.device)

    def rows(self, part: range) -> Tensor | None:
        """The conditions of some of the samples; None without conditions."""
        if self.condition is None:
            return None
        return load_conditions(self.condition, self.conditions)[part.start : part.stop].to(self.device)

    def parts(self) -> list[range]:
        """The samples in batches."""
        return [range(i, min(i + self.batch, self.n)) for i in range(0, self.n, self.batch)]

    def noise(self, part: range) -> PerSampleNoise:
        """The noise of some of the samples, which depends on neither batch nor sampler."""
        base = seed_of(self.seed, "start") << 32  # no two seeds share a sample's noise
        return PerSampleNoise(range(base + part.start, base + part.stop))

    def states(self, part: range, t: Tensor) -> Float[Tensor, " n *shape"]:
        """Where some of the samples start at time ``t``."""
        drawn = self.noise(part)(0, torch.empty(len(part), *self.shape))
        return self.denoiser.path.prior(drawn, t).to(self.device)


@torch.no_grad()
def model_quality(parameters: ModelParameters, context: Context) -> Measurements:
    """Distances of the samples to the data, the paired distance to the converged solution, and the time of a batch."""
    data = load_data(parameters.data, *parameters.ends) if parameters.data else None
    model = load_model(parameters.model)
    start = Start(
        parameters.model, parameters.condition, parameters.drawn, find_shape(model, data),
        parameters.drawn, context.seed, context.device, min(parameters.batch, parameters.drawn),
    )  # fmt: skip
    rows = rows_of(model, data, context.device, start.batch)
    drawing = Drawing(start.denoiser, start.rows(range(min(start.batch, start.n))), rows)
    setup = set_up(parameters.budget, drawing, context.seed)
    entry = sampler_of(parameters.budget)
    clock, handles, found, calls = clock_for(context.device), [], [], 0

    def call(part: range) -> Tensor:
        nonlocal calls
        counted = CountingDenoiser(Conditioned(start.denoiser, start.rows(part)))
        x = start.states(part, setup.times[0])
        drawn: Tensor = x

        def solve() -> None:
            nonlocal drawn
            drawn = entry(counted, x, setup.times, noise=start.noise(part), **setup.options)

        handles.append(clock.start(solve, 1))
        calls = max(calls, check_budget(parameters.budget, counted))
        return require_samples(drawn, x).cpu()

    parts = start.parts()
    for part in parts:
        found.append(call(part))
    whole = sum(len(part) == start.batch for part in parts)
    for _ in range(TIMED + 1 - whole):
        call(parts[0])
    seconds = clock.read(handles)
    if whole < len(parts):  # the last batch is smaller
        del seconds[len(parts) - 1]
    seconds = seconds[1:]  # the first warms up
    samples = torch.cat(found)
    pictures = pictures_of(model, samples, context.device, start.batch)
    measures: dict[str, float | Value] = {}
    if data is not None:
        measures |= _compare(parameters, pictures, data, context)
    if not entry.draws_noise(parameters.options):
        measures |= _pair(samples[:PAIRED], start, setup.times, context)
    low, high = median_interval(seconds, seed=context.seed)
    middle = float(torch.tensor(seconds, dtype=torch.float64).quantile(0.5))
    measures["latency"] = Value(1e3 * middle, (1e3 * low, 1e3 * high), n=len(seconds))
    context.keep("seconds", torch.tensor(seconds, dtype=torch.float64))
    _keep(parameters, pictures, context)
    return measures | cost_measures(calls, setup.artifacts)


def _compare(parameters: ModelParameters, samples: Tensor, data: Data, context: Context) -> dict[str, float | Value]:
    """The distances of the samples to the data, with their intervals, and the floor at this number of samples."""
    if data.kind == "points":
        return _compare_points(samples, data, context)
    if samples.ndim != 4:
        raise ValueError(f"samples are of shape {tuple(samples.shape[1:])}; images (c, h, w) have features")
    extractor = find_extractor(parameters.extractor_name, context.device)
    drawn = extractor.features(from_range(samples, *parameters.ends), parameters.batch)
    context.keep("features", drawn.float())
    about: dict[str, Any] = {"extractor": extractor.label, "reference": data.hash, "n": len(drawn)}
    if data.statistics is not None:
        own = FeatureStatistics.from_features(drawn, extractor=extractor.label, resize=extractor.resize)
        return {"fd": Value(frechet_distance(data.statistics, own), **about)}
    real = data_features(data, extractor, parameters.batch)
    value, interval = _with_interval(frechet_of_features, real, drawn, context.seed)
    kernel = kid(real, drawn)
    measures: dict[str, float | Value] = {
        "fd": Value(value, interval, **about),
        "kid": Value(kernel.value, _normal(kernel), **about)
    }  # fmt: skip
    if found := _floor(frechet_of_features, real, len(drawn), 1.0, context.seed):
        measures["fd_floor"] = Value(found.mean, (found.low, found.high), **about)
    return measures


def _compare_points(samples: Tensor, data: Data, context: Context) -> dict[str, float | Value]:
    assert data.rows is not None
    real = _thinned(data.rows, len(samples))  # unequal numbers would take ten times as long
    context.keep("features", samples.float())
    about: dict[str, Any] = {"reference": data.hash, "n": len(samples)}
    value, interval = _with_interval(sliced_wasserstein, real, samples, context.seed)
    energy = energy_distance(real, samples)
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(value, interval, **about), "energy": Value(energy.value, _normal(energy), **about)
    }  # fmt: skip
    rows = _thinned(data.rows, 3 * len(samples))  # of which two disjoint parts can be drawn
    if found := _floor(sliced_wasserstein, rows, len(samples), 0.5, context.seed):
        measures["sliced_w2_floor"] = Value(found.mean, (found.low, found.high), **about)
    return measures


@lru_cache(maxsize=4)
def _thinned(rows: Tensor, most: int) -> Tensor:
    """At most so many of the rows, drawn at random."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most]]


@lru_cache(maxsize=8)
def _floor(distance: Callable[[Tensor, Tensor], float], real: Tensor, n: int, power: float, seed: int) -> Floor | None:
    """The distance of the data to n further rows, of points that of n rows; None where the data are too few to say."""
    try:
        if distance is sliced_wasserstein and len(real) >= 2 * n:
            return floor(distance, real, n, seed=seed)
        return extrapolated_floor(distance, real, n, power=power, seed=seed)
    except ValueError:
        return None


def frechet_of_features(x: Tensor, y: Tensor) -> float:
    """The Frechet distance of two sets of features, (n, d) and (m, d)."""
    return frechet_distance(FeatureStatistics.from_features(x), FeatureStatistics.from_features(y))


def _with_interval(
    distance: Callable[[Tensor, Tensor], float], real: Tensor, drawn: Tensor, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """A distance and the 95 % interval of its mean over samples of these sizes; none where the halves are too small."""
    value = distance(real, drawn)
    try:
        low, high = bootstrap(distance, real, drawn, resamples=RESAMPLES, seed=seed)
    except ValueError:
        return value, None
    return value, (max(low, 0.0), high)


def _normal(found: Estimate) -> tuple[float, float]:
    return found.value - NORMAL * found.standard_error, found.value + NORMAL * found.standard_error


def _pair(samples: Tensor, start: Start, times: Tensor, context: Context) -> dict[str, float | Value]:
    """The RMS distance of samples to where the converged solution takes their starts, per coordinate."""
    end, error = converged(start._replace(n=len(samples)), float(times[0]), float(times[-1]))
    squares = (samples - end).double().square().flatten(1).mean(1)
    context.keep("squares", squares)

    def rms(rows: Tensor) -> float:
        return float(rows.mean().sqrt())

    interval = bootstrap(rms, squares, resamples=200, seed=context.seed, kind="percentile")
    return {"solver_error": Value(rms(squares), interval, n=len(squares)), "reference_error": error}


@lru_cache(maxsize=4)
def converged(start: Start, first: float, last: float) -> tuple[Float[Tensor, " n *shape"], float]:
    """Where the model's own probability flow takes the starts from time ``first`` to ``last``, and the error of this.

    It is solved by steps of order four; the error is the RMS difference from half as many.
    """
    fine, coarse = (
        torch.cat([_solve_finely(start, part, first, last, steps) for part in start.parts()])
        for steps in (REFERENCE, REFERENCE // 2)
    )
    return fine, float((fine - coarse).double().square().mean().sqrt())


def _solve_finely(start: Start, part: range, first: float, last: float, steps: int) -> Tensor:
    path = start.denoiser.path
    high, low = float(path.ratio(first)), float(path.ratio(last))
    options = {} if low == 0 else {"sigma_min": low, "clean": False}
    grid = SCHEDULES["karras"](path, steps, sigma_max=min(high, 1e4), **options)
    grid[0], grid[-1] = first, last
    x = start.states(part, grid[0])
    found: Tensor = SAMPLERS["rk4"](Conditioned(start.denoiser, start.rows(part)), x, grid, coordinate="angle")
    return found.cpu()


def _keep(parameters: ModelParameters, samples: Tensor, context: Context) -> None:
    """Store some samples as a picture, and all of them where that is asked for; images as uint8."""
    image = samples.ndim == 4 and samples.shape[1] in (1, 3)
    shown = from_range(samples, *parameters.ends) if image else samples.float()
    context.keep("grid", shown[: GRID if image else 2000])
    if context.keep_samples:
        context.keep("samples", shown)

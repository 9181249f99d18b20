"""A sampler on a model of one's own: distance of its samples to data, the solver's error, and the time of a batch.

Starts, batches and the converged solution are those of ``bench.tasks.model_samples``: 256 starts show the error of the
solver, and the distance to data needs thousands of samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
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
from bench.tasks.image_distances import distances, find_floor, normal, with_interval
from bench.tasks.model_samples import Start, draw, pair
from bench.tasks.samplers.problems import sampler_of
from metrics import FeatureStatistics, energy_distance, frechet_distance, sliced_wasserstein
from metrics.uncertainty import floor

if TYPE_CHECKING:
    from bench.evaluate.models.declarations import ModelParameters

GRID = 12  # samples that are stored as a picture


@torch.no_grad()
def model_quality(parameters: ModelParameters, context: Context) -> Measurements:
    """Distances of the samples to the data, the paired distance to the converged solution, and the time of a batch."""
    data = load_data(parameters.data, *parameters.ends) if parameters.data else None
    model = load_model(parameters.model)
    start = Start(
        model.on(context.device),
        load_conditions(parameters.condition, parameters.drawn) if parameters.condition else None,
        find_shape(model, data), parameters.drawn, context.seed, context.device,
        min(parameters.batch, parameters.drawn),
    )  # fmt: skip
    rows = rows_of(model, data, context.device, start.batch)
    drawn = draw(start, parameters.budget, rows)
    pictures = pictures_of(model, drawn.samples, context.device, start.batch)
    measures: dict[str, float | Value] = {}
    if data is not None:
        measures |= _compare(parameters, pictures, data, context)
    if not sampler_of(parameters.budget).draws_noise(parameters.options):
        error, reference = pair(drawn.samples[:PAIRED], start, drawn.setup.times, context)
        measures |= {"solver_error": error, "reference_error": reference}
    measures["latency"] = drawn.latency(context.seed)
    context.keep("seconds", torch.tensor(drawn.seconds, dtype=torch.float64))
    _keep(parameters, pictures, context)
    return measures | drawn.costs


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
    return {**distances("fd", data_features(data, extractor, parameters.batch), drawn, context.seed, **about)}


def _compare_points(samples: Tensor, data: Data, context: Context) -> dict[str, float | Value]:
    assert data.rows is not None
    real = _thinned(data.rows, len(samples))  # unequal numbers would take ten times as long
    context.keep("features", samples.float())
    about: dict[str, Any] = {"reference": data.hash, "n": len(samples)}
    value, interval = with_interval(sliced_wasserstein, real, samples, context.seed)
    energy = energy_distance(real, samples)
    measures: dict[str, float | Value] = {
        "sliced_w2": Value(value, interval, **about), "energy": Value(energy.value, normal(energy), **about)
    }  # fmt: skip
    rows = _thinned(data.rows, 3 * len(samples))  # of which two disjoint parts can be drawn
    if found := _floor_of_points(rows, len(samples), context.seed):
        measures["sliced_w2_floor"] = Value(found.mean, (found.low, found.high), **about)
    return measures


@lru_cache(maxsize=4)
def _thinned(rows: Tensor, most: int) -> Tensor:
    """At most so many of the rows, drawn at random."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most]]


@lru_cache(maxsize=8)
def _floor_of_points(real: Tensor, n: int, seed: int) -> Any:
    """The distance of n rows to n others, extrapolated where there are fewer."""
    if len(real) >= 2 * n:
        return floor(sliced_wasserstein, real, n, seed=seed)
    return find_floor(sliced_wasserstein, real, n, 0.5, seed)


def _keep(parameters: ModelParameters, samples: Tensor, context: Context) -> None:
    """Store some samples as a picture, and all of them where that is asked for; images as uint8."""
    image = samples.ndim == 4 and samples.shape[1] in (1, 3)
    shown = from_range(samples, *parameters.ends) if image else samples.float()
    context.keep("grid", shown[: GRID if image else 2000])
    if context.keep_samples:
        context.keep("samples", shown)

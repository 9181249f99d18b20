"""The time that a run on a model takes beside the network, estimated by one call of each of its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluate.models.declarations import ModelParameters
from bench.evaluate.models.inputs import Data, find_extractor, find_shape, from_range, pictures_of
from bench.models.spec import load_model
from bench.tasks.image_distances import RESAMPLES, frechet_of_features
from metrics import energy_distance, kid, sliced_wasserstein

FLOORS = 2 * 20  # draws of a floor at two sizes


@torch.no_grad()
def estimate_judging(parameters: ModelParameters, data: Data | None, device: str, cells: int, seeds: int) -> float:
    """Seconds that ``cells`` of a run take to compare their samples with the data, where floors are of ``seeds``.

    It covers the features of samples and data (also where the cache has the latter), the distances, their intervals and
    floors, and a latent model's decoder.
    """
    if data is None or not cells:
        return 0.0
    n = parameters.drawn
    if data.rows is not None and data.kind == "points":
        rows = data.rows[torch.randint(len(data.rows), (min(len(data.rows), n),))]
        drawn = rows[torch.randint(len(rows), (n,))]
        return _judge(sliced_wasserstein, energy_distance, rows, drawn, cells, seeds)
    model, batch = load_model(parameters.model), min(parameters.batch, n)
    latents = torch.randn(batch, *find_shape(model, data))
    extractor = find_extractor(parameters.extractor_name, device)
    pictures, decoding = _time(pictures_of, model, latents, device, batch)
    features, extraction = _time(extractor.features, from_range(pictures, *parameters.ends), batch)
    seconds = cells * n * (decoding + extraction) / batch
    if data.images is None:  # statistics: one distance, from moments
        return seconds
    many = data.images.count
    real, drawn = torch.randn(many, features.shape[1]).double(), torch.randn(n, features.shape[1]).double()
    return seconds + many * extraction / batch + _judge(frechet_of_features, kid, real, drawn, cells, seeds)


def _judge(
    distance: Callable[[Tensor, Tensor], Any], other: Callable[[Tensor, Tensor], Any], real: Float[Tensor, "n d"],
    drawn: Float[Tensor, "m d"], cells: int, seeds: int,
) -> float:  # fmt: skip
    """Seconds of two distances: of the first with its interval, by draws of half of the rows, and its floor."""
    distance(real[:8], drawn[:8])  # what a first call alone takes
    once = _time(distance, real, drawn)[1]
    half = _time(distance, real[: len(real) // 2 + 1], drawn[: len(drawn) // 2 + 1])[1]
    return cells * (2 * once + RESAMPLES * half + _time(other, real, drawn)[1]) + seeds * FLOORS * half


def _time(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    found = function(*arguments)
    return found, time.perf_counter() - began

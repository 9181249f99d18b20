"""A sampler on a learned model of Fashion-MNIST: the quality of its images, and the time of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.task import Context, Measurements
from bench.tasks.measures import BATCH
from bench.tasks.model_images import judge
from bench.tasks.model_samples import TIMED, draw
from bench.tasks.samplers.images import pixels
from bench.tasks.trained import SEEN, open_model, start_of

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import QualityParameters


def learned_quality(parameters: QualityParameters, context: Context) -> Measurements:
    """Distances of the samples to the test images with intervals and floors, and the time of a batch."""
    model = open_model(parameters.checkpoint, context.device, parameters.path)
    start = start_of(model, parameters.samples, context, BATCH)
    drawn = draw(start, parameters, pixels(SEEN), timed=0)
    measures = judge(drawn.samples, parameters.images, context)
    if len(drawn.seconds) >= TIMED:
        measures["latency"] = drawn.latency(context.seed)
        context.keep("seconds", torch.tensor(drawn.seconds, dtype=torch.float64))
    return measures | drawn.costs

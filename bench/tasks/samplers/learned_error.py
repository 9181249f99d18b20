"""A sampler on a learned model of Fashion-MNIST: the error of the solver alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.task import Context, Measurements
from bench.tasks.measures import BATCH
from bench.tasks.model_samples import draw, pair
from bench.tasks.samplers.images import pixels
from bench.tasks.samplers.problems import sampler_of
from bench.tasks.trained import SEEN, open_model, start_of

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import ErrorParameters


def learned_error(parameters: ErrorParameters, context: Context) -> Measurements:
    """The RMS distance to the converged solution; raises ValueError for a sampler that adds noise, which has none."""
    if sampler_of(parameters).draws_noise(parameters.options):
        raise ValueError(f"{parameters.sampler} adds noise, so that no solution of the model is its own to converge to")
    model = open_model(parameters.checkpoint, context.device, parameters.path)
    start = start_of(model, parameters.samples, context, min(BATCH, parameters.samples))
    drawn = draw(start, parameters, pixels(SEEN), timed=0)
    error, reference = pair(drawn.samples, start, drawn.setup.times, context)
    return {"rms_error": error, "reference_error": reference, **drawn.costs}

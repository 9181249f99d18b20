"""How a figure of generated images depends on n alone: real images against real ones, or against noisy ones.

Each side has n features, drawn anew for each draw from the 10,000 test images. The change of the mean over n is bias,
the spread over draws is chance. Draws share images, the more the larger n is, so that they vary less than draws of new
images would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data import fashion_mnist
from bench.data.disturbances import disturb
from bench.task import Context, Measurements, Value
from bench.tasks.intervals import measure_floor
from bench.tasks.metrics.calls import bind
from bench.tasks.metrics.sensitivity import EXTRACTOR, features_of, real_features
from metrics import frechet_distance_from_features
from metrics.catalogue import find_metric
from metrics.samples.balls import prdc
from metrics.samples.energy import energy_distance
from metrics.samples.extrapolation import fd_infinity
from metrics.samples.kernel import cmmd, kid

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import BiasParameters

FIGURES = {
    "fd_fmnist": frechet_distance_from_features,
    "fd_infinity": lambda x, y: fd_infinity(x, y, vary="both", smallest=max(len(x) // 4, 65)).value,
    "kid_fmnist": lambda x, y: kid(x, y).value,
    "cmmd_fmnist": lambda x, y: cmmd(x, y).value,
    "energy_fmnist": lambda x, y: energy_distance(x, y).value,
    "precision": lambda x, y: prdc(x, y).precision,
    "recall": lambda x, y: prdc(x, y).recall,
    "density": lambda x, y: prdc(x, y).density,
    "coverage": lambda x, y: prdc(x, y).coverage,
}


def metric_bias(parameters: BiasParameters, context: Context) -> Measurements:
    """Measure the mean of a figure of images over several draws of n features per side, as it depends on n.

    Both sides are real images, or one is noisy. A change of the mean over n is bias.
    """
    images, labels = fashion_mnist.load("test")
    generator = torch.Generator().manual_seed(context.seed)
    real = real_features()
    noisy = real
    if parameters.noise:
        noisy = features_of(disturb(images, labels, "noise", parameters.noise, reference=images, seed=context.seed))
    figure, n = FIGURES.get(parameters.figure) or _named(parameters.figure, context.seed), parameters.n

    def draw() -> Float[Tensor, "2 n d"]:
        order = torch.randperm(len(real), generator=generator)
        return torch.stack([real[order[:n]], noisy[order[n : 2 * n]]])

    found = measure_floor(lambda drawn: float(figure(*drawn)), draw, sets=parameters.draws)
    return {
        "value": Value(found.value, found.interval, n=n, extractor=EXTRACTOR, reference=fashion_mnist.data_hash("test"))
    }


def _named(name: str, seed: int) -> Callable[[Tensor, Tensor], float]:
    """The first quantity of a metric of the catalogue, or of the user's."""
    metric = find_metric(name)
    function, first = bind(metric, seed), next(iter(metric.quantities))
    return lambda x, y: function(x, y)[first]

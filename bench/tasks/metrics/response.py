"""What one metric of images responds to: real images with one kind of fault against images without.

The sets are those of ``metric_sensitivity``, so that a metric of the user's can be read beside fidmap's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.data import fashion_mnist
from bench.data.disturbances import disturb
from bench.task import Context, Measurements, Value
from bench.tasks.metrics.calls import bind
from bench.tasks.metrics.sensitivity import EXTRACTOR, features_of, real_features
from metrics.catalogue import find_metric

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import ResponseParameters


def metric_response(parameters: ResponseParameters, context: Context) -> Measurements:
    """A metric of real images with one kind of fault, against real ones without; level 0 gives its floor at this n."""
    images, labels = fashion_mnist.load("test")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(context.seed))
    clean, changed = order[: parameters.n], order[parameters.n : 2 * parameters.n]
    faulty = disturb(
        images[changed], labels[changed], parameters.disturbance, parameters.level,
        reference=images[clean], seed=context.seed,
    )  # fmt: skip
    metric = find_metric(parameters.metric)
    value = bind(metric, context.seed)(real_features()[clean], features_of(faulty))[next(iter(metric.quantities))]
    data = f"{fashion_mnist.data_hash('test')}[{parameters.n} of seed {context.seed}]"
    return {"value": Value(value, n=parameters.n, extractor=EXTRACTOR, reference=data)}

"""What each figure of generated images responds to: real images with one kind of fault against images without.

The test images are divided at random into a reference, the images that get the fault, and held-out images. At level 0
both sides are real, so that this row has the floor of every figure at this n.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from bench.data import fashion_mnist
from bench.data.disturbances import disturb
from bench.task import Context, Measure, Measurements, TaskParameters, Value, task
from metrics import FeatureStatistics, frechet_distance
from metrics.extractors import fmnist
from metrics.samples.balls import prdc, precision_recall
from metrics.samples.kernel import kid
from metrics.samples.memorisation import authenticity, data_copying, nearest_neighbour_ratio
from metrics.samples.vendi import vendi_score

EXTRACTOR = f"fmnist@{fmnist.extractor_hash()}"


class Parameters(TaskParameters):
    """A fault of images whose effect on every figure is measured, at a level from 0 to 1; ``n`` is per side."""

    disturbance: Literal["blur", "noise", "class_drop", "mode_drop", "memorised"]
    level: float = Field(0.5, ge=0, le=1)
    n: int = Field(2000, ge=100, le=3333)


@task(
    entry="disturbance",
    measures=[
        Measure("fd_fmnist", "Frechet distance of Fashion-MNIST features"),
        Measure("kid_fmnist", "kernel distance of the same, over all pairs"),
        Measure("precision", "of prdc: k = 5, open balls", direction="higher"),
        Measure("recall", "of prdc: k = 5, open balls", direction="higher"),
        Measure("density", "of prdc: k = 5, open balls", direction="higher"),
        Measure("coverage", "of prdc: k = 5, open balls", direction="higher"),
        Measure("precision_k3", "of 1904.06991: k = 3, closed balls", direction="higher"),
        Measure("recall_k3", "of 1904.06991: k = 3, closed balls", direction="higher"),
        Measure("c_t", "data copying against held-out images, far below 0: copies", direction="target", floor=0.1),
        Measure("authenticity", "share farther from the reference than it is from itself", direction="higher"),
        Measure("memorised", "share three times nearer to one image of the reference than to a second"),
        Measure("vendi", "effective number of images in the set (cosine, of the features)", direction="target"),
    ],
)
def metric_sensitivity(parameters: Parameters, context: Context) -> Measurements:
    """Figures of real images with one kind of fault, against real ones without.

    It shows what each figure of generated images responds to; level 0 gives the floor of every figure at this n.
    """
    images, labels = fashion_mnist.load("test")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(context.seed))
    parts = [order[i * parameters.n : (i + 1) * parameters.n] for i in range(3)]
    reference, held_out = (real_features()[part] for part in (parts[0], parts[2]))
    faulty = disturb(
        images[parts[1]], labels[parts[1]], parameters.disturbance, parameters.level,
        reference=images[parts[0]], seed=context.seed,
    )  # fmt: skip
    found = features_of(faulty)
    context.keep("features", found.float())
    shares, closed = prdc(reference, found), precision_recall(reference, found)
    values = {
        "fd_fmnist": frechet_distance(*(FeatureStatistics.from_features(each) for each in (reference, found))),
        "kid_fmnist": kid(reference, found).value,
        **shares._asdict(),
        "precision_k3": closed.precision,
        "recall_k3": closed.recall,
        "c_t": data_copying(reference, found, test=held_out, seed=context.seed).statistic,
        "authenticity": authenticity(reference, found),
        "memorised": nearest_neighbour_ratio(reference, found).memorised,
        "vendi": vendi_score(found),
    }
    data = f"{fashion_mnist.data_hash('test')}[{parameters.n} of seed {context.seed}]"
    return {
        name: Value(float(value), n=parameters.n, extractor=EXTRACTOR, reference=data) for name, value in values.items()
    }


def features_of(images: UInt8[Tensor, "n 28 28"]) -> Float[Tensor, "n 64"]:
    """The 64 features of uint8 images by the Fashion-MNIST classifier, by which figures are computed."""
    return fmnist.extract(images[:, None].float() / 255)


@lru_cache(maxsize=1)
def real_features() -> Float[Tensor, "10000 64"]:
    """The 64 features of all Fashion-MNIST test images by the shipped classifier."""
    return features_of(fashion_mnist.load("test")[0])

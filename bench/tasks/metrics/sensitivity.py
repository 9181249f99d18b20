"""What each figure of generated images responds to: real images with one kind of fault against images without.

The test images are divided at random into a reference, the images that get the fault, and held-out images. At level 0
both sides are real, so that this row has the floor of every figure at this n.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bench.data import fashion_mnist
from bench.data.disturbances import disturb
from bench.task import Context, Measurements, Value
from metrics import FeatureStatistics, frechet_distance
from metrics.extractors import fmnist
from metrics.samples.balls import prdc, precision_recall
from metrics.samples.kernel import kid
from metrics.samples.memorisation import authenticity, data_copying, nearest_neighbour_ratio
from metrics.samples.vendi import vendi_score

if TYPE_CHECKING:
    from bench.tasks.metrics.declarations import SensitivityParameters

EXTRACTOR = f"fmnist@{fmnist.extractor_hash()}"


def metric_sensitivity(parameters: SensitivityParameters, context: Context) -> Measurements:
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

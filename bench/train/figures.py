"""What a card says of a model's samples: distances to the data with floors, accuracy, nearest neighbours."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from scipy import stats
from torch import Tensor

from bench.tasks.image_distances import RESAMPLES, normal
from bench.train.data import Images, read_fashion_mnist
from bench.train.recipe import Recipe
from metrics.extractors import load_extractor
from metrics.samples.accuracy import conditional_accuracy, share
from metrics.samples.balls import precision_recall
from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.kernel import kid
from metrics.samples.memorisation import nearest_neighbour_ratio
from metrics.samples.neighbours import find_nearest
from metrics.samples.subsets import share_precision_recall
from metrics.uncertainty import bootstrap, split_figures

COMPARED = 10_000  # images of each side, at most
SOUGHT = 2000  # samples whose neighbours are looked for
GROUPS = 10  # of these samples, whose deviation gives the interval of the mean ratio


class Judge:
    """Measures samples against the data of a recipe; what it needs of the data is computed when it is asked first.

    Samples on the way are compared with the held-out images, else with Fashion-MNIST's test set, else with the training
    images. Without an extractor there are no distances.
    """

    def __init__(self, recipe: Recipe, train: Images, held_out: Images):
        known = recipe.data == "fashion_mnist"
        self.extractor_name = recipe.extractor or ("fmnist" if known else "")
        self.train, self.held_out, self.known = train, held_out, known

    @property
    def measures(self) -> str:
        """The name of the distance, such as fd_fmnist; empty where there is none."""
        return f"fd_{self.extractor_name.partition('@')[0]}" if self.extractor_name else ""

    def look(self, images: UInt8[Tensor, "n c h w"]) -> dict[str, float]:
        """The distance of samples on the way, by the name ``distance``."""
        if not self.extractor_name:
            return {}
        return {"distance": frechet_distance_from_features(self._features(images), self._reference)}

    def judge(self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"] | None) -> dict[str, dict[str, Any]]:
        """The figures of the card: each has a value, and where it can, an interval, a floor and n."""
        found: dict[str, dict[str, Any]] = {}
        if self.extractor_name:
            features = self._features(images)
            for side, reference in self._sides.items():
                real = self._real(side, len(images))
                for name, figure in _compare(features, reference, real).items():
                    found[f"{name.replace('fd', self.measures)} to {side}"] = figure
            if labels is not None and self.known:
                found["conditional accuracy"] = self._accuracy(features, labels)
        for name, side in {"samples": images, "real images": self._unseen}.items():
            if side is not None:
                ratio, memorised = self._copies(side[:SOUGHT])
                found[f"nearest-neighbour ratio of {name}"] = ratio
                found[f"memorised {name}"] = memorised
        return found

    def show_neighbours(self, images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "m c h w"]:
        """Rows of ten images: ten samples, then the training image nearest to each by pixels, then further samples."""
        near = find_nearest(images.flatten(1).float(), self._pixels, 1).rows[:, 0]
        rows = zip(images.split(10), self.train.images[near].split(10), strict=True)
        return torch.cat([part for pair in rows for part in pair])

    def _copies(self, images: UInt8[Tensor, "n c h w"]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The mean ratio of the distances to the two nearest training images, and the share that is memorised."""
        groups = [nearest_neighbour_ratio(self._pixels, part) for part in images.flatten(1).float().chunk(GROUPS)]
        means = torch.tensor([group.mean for group in groups], dtype=torch.float64)
        mean, reach = float(means.mean()), float(stats.t.ppf(0.975, len(means) - 1) * means.std()) / len(means) ** 0.5
        hits = sum(round(group.memorised * len(part)) for group, part in zip(groups, images.chunk(GROUPS), strict=True))
        held = share(hits, len(images))
        ratio = {"value": mean, "interval": [mean - reach, mean + reach], "n": len(images)}
        return ratio, {"value": held.value, "interval": [held.low, held.high], "n": held.n}

    @cached_property
    def _pixels(self) -> Float[Tensor, "n d"]:
        return self.train.images.flatten(1).float()

    def _accuracy(self, features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> dict[str, Any]:
        share = conditional_accuracy(self.extractor.logits(features), labels).overall
        real = conditional_accuracy(self.extractor.logits(self._sides["test"]), self._test.labels).overall
        return {"value": share.value, "interval": [share.low, share.high], "n": share.n, "of real images": real.value}

    def _real(self, side: str, n: int) -> Float[Tensor, "n d"] | None:
        """Features of real images beside a side: those of the other side, as many as there are samples."""
        others = [reference for name, reference in self._sides.items() if name != side]
        return others[0][:n] if others else None

    @cached_property
    def extractor(self) -> Any:
        """The extractor of the distance."""
        return load_extractor(self.extractor_name)

    @cached_property
    def _test(self) -> Images:
        return read_fashion_mnist("test")

    @property
    def _unseen(self) -> UInt8[Tensor, "n c h w"] | None:
        """Real images that were not trained on, where there are some."""
        return self.held_out.images if len(self.held_out.images) else self._test.images if self.known else None

    @cached_property
    def _reference(self) -> Float[Tensor, "n d"]:
        side = self._unseen if self._unseen is not None else self.train.images
        return self._features(side[:COMPARED])

    @cached_property
    def _sides(self) -> dict[str, Float[Tensor, "n d"]]:
        sides = {"train": self.train.images[:: max(len(self.train.images) // COMPARED, 1)][:COMPARED]}
        if self.known:
            sides = {"test": self._test.images, **sides}
        elif len(self.held_out.images):
            sides = {"held-out": self.held_out.images[:COMPARED], **sides}
        return {name: self._features(images) for name, images in sides.items()}

    def _features(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return self.extractor.features(images)


def _compare(
    features: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], real: Float[Tensor, "k d"] | None
) -> dict[str, dict[str, Any]]:
    """Distances and shares of samples against a reference, with intervals, each beside that of real images."""
    found: dict[str, dict[str, Any]] = {"fd": {"value": frechet_distance_from_features(features, reference)}}
    found["fd"]["interval"] = bootstrap(frechet_distance_from_features, features, reference, resamples=RESAMPLES)
    estimate = kid(features, reference)
    found["kid"] = {"value": estimate.value, "interval": normal(estimate)}
    of_rows = share_precision_recall(reference, features)
    rows = torch.arange(len(reference)), torch.arange(len(reference), len(reference) + len(features))
    for name, part in split_figures(lambda a, b: of_rows(a, b)._asdict(), ("precision", "recall")):
        found[name] = {"value": part(*rows), "interval": bootstrap(part, *rows, resamples=RESAMPLES)}
    if real is not None:
        found["fd"]["floor"] = frechet_distance_from_features(real, reference)
        found["kid"]["floor"] = kid(real, reference).value
        for name, value in precision_recall(reference, real)._asdict().items():
            found[name]["floor"] = value
    for figure in found.values():
        figure["n"] = [len(features), len(reference)]
        if real is not None:
            figure["floor n"] = len(real)
    return found

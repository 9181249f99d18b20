"""What a card says of a model's samples: distances to the data with floors, accuracy, nearest neighbours."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from bench.train.data import Images, read_fashion_mnist
from bench.train.recipe import Recipe
from metrics.extractors import load_extractor
from metrics.samples.accuracy import conditional_accuracy
from metrics.samples.frechet import frechet_distance_from_features
from metrics.samples.memorisation import nearest_neighbour_ratio
from metrics.uncertainty import bootstrap

RESAMPLES = 50
COMPARED = 10_000  # images of each side, at most
SHOWN = 2000  # samples whose neighbours are looked for


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
                found[f"{self.measures} to {side}"] = _distance(features, reference, self._floor(side, len(images)))
            if labels is not None and self.known:
                found["conditional accuracy"] = self._accuracy(features, labels)
        flat = self.train.images.flatten(1).float()
        for name, side in {"samples": images, "real images": self._unseen}.items():
            if side is not None:
                ratio = nearest_neighbour_ratio(flat, side[:SHOWN].flatten(1).float())
                found[f"nearest-neighbour ratio of {name}"] = {"value": ratio.mean, "n": min(SHOWN, len(side))}
                found[f"memorised {name}"] = {"value": ratio.memorised, "n": min(SHOWN, len(side))}
        return found

    def _accuracy(self, features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> dict[str, Any]:
        share = conditional_accuracy(self.extractor.logits(features), labels).overall
        real = conditional_accuracy(self.extractor.logits(self._sides["test"]), self._test.labels).overall
        return {"value": share.value, "interval": [share.low, share.high], "n": share.n, "of real images": real.value}

    def _floor(self, side: str, n: int) -> dict[str, Any]:
        """Real images against the side: those of the other side, as many as there are samples."""
        others = [reference for name, reference in self._sides.items() if name != side]
        if not others:
            return {}
        real = others[0][:n]
        return {"floor": frechet_distance_from_features(real, self._sides[side]), "floor n": len(real)}

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


def _distance(features: Tensor, reference: Tensor, floor: dict[str, Any]) -> dict[str, Any]:
    low, high = bootstrap(frechet_distance_from_features, features, reference, resamples=RESAMPLES)
    value = frechet_distance_from_features(features, reference)
    return {"value": value, "interval": [low, high], "n": [len(features), len(reference)], **floor}

"""What a model is compared with: its data, their features, its conditions, and the hashes of all of these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from bench.catalogue import is_code
from bench.errors import UsageError
from bench.evaluate.features import features_of
from bench.evaluate.sides import Features, Images, Statistics, hold_images, read_side
from bench.models.spec import Model, call_named, hash_numbers, load_model
from bench.plan.reach import reach
from bench.plan.source import source_hash
from metrics.extractors import EXTRACTORS, load_extractor
from metrics.extractors.extractor import Extractor

if TYPE_CHECKING:
    from metrics.samples.frechet import FeatureStatistics

SHOWN = 256  # rows of images by which a model is probed


@dataclass(frozen=True, eq=False)
class Data:
    """The data that a model was trained on, or others of their law: images, points, or statistics of features.

    ``rows`` are points, or the first ``SHOWN`` images, in the model's range; None for statistics.
    """

    source: str
    kind: Literal["images", "points", "statistics"]
    hash: str
    rows: Float[Tensor, " n *shape"] | None = None
    images: Images | None = None
    statistics: FeatureStatistics | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one row; None for statistics."""
        return None if self.rows is None else tuple(self.rows.shape[1:])


@lru_cache(maxsize=2)
def load_data(source: str, low: float, high: float) -> Data:
    """Read data by their path, name or MODULE:FUNCTION; uint8 becomes [low, high], floats of a function stay.

    Raises UsageError that says what is wrong and what is accepted.
    """
    if is_code(source):
        return _from_function(source, low, high)
    side = read_side(source)
    if isinstance(side, Statistics):
        found = side.statistics
        return Data(source, "statistics", found.data or hash_numbers([found.mean, found.scatter]), statistics=found)
    if isinstance(side, Features):
        return Data(source, "points", side.hash, side.features.float())
    first = list(islice(side.read(), SHOWN))
    if len(sizes := {tuple(image.shape) for image in first}) > 1:
        raise UsageError(f"--data {source}: images of {len(sizes)} shapes, as {min(sizes)} and {max(sizes)}; one shape "
                         "is accepted")  # fmt: skip
    return Data(source, "images", side.hash, to_range(torch.stack(first), low, high), side)


def _from_function(source: str, low: float, high: float) -> Data:
    found = call_named("--data", source)
    if not isinstance(found, Tensor):
        raise UsageError(f"--data {source}: returned {type(found).__name__}; a tensor is accepted")
    image = found.ndim == 4 and found.shape[1] in (1, 3)
    if not len(found) or not (image or (found.ndim == 2 and found.is_floating_point())):
        raise UsageError(
            f"--data {source}: returned {found.dtype} of shape {tuple(found.shape)}; images (n, c, h, w) of 1 or 3 "
            "channels, or points (n, d) of floats, are accepted"
        )
    if found.is_floating_point() and not bool(found.isfinite().all()):
        raise UsageError(f"--data {source}: returned values that are not finite")
    held = hash_numbers(found)
    if found.ndim == 2:
        return Data(source, "points", held, found.detach().cpu().float())
    images = found.detach().cpu()
    if images.dtype is not torch.uint8:
        if not images.is_floating_point():
            raise UsageError(f"--data {source}: returned {images.dtype}; uint8, or floats in the model's range, are "
                             "accepted")  # fmt: skip
        images = from_range(images, low, high)
    side = hold_images(source, images, held)
    rows = found.detach().cpu()[:SHOWN]
    rows = rows.float() if rows.is_floating_point() else to_range(rows, low, high)
    return Data(source, "images", held, rows, side)


def to_range(images: UInt8[Tensor, " n *shape"], low: float, high: float) -> Float[Tensor, " n *shape"]:
    """Images of 0 to 255 as floats in [low, high]."""
    return low + images.float() * ((high - low) / 255)


def from_range(images: Float[Tensor, " n *shape"], low: float, high: float) -> UInt8[Tensor, " n *shape"]:
    """Images in [low, high] as uint8, rounded, as if they had been saved; what lies outside is clipped."""
    return ((images.double() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=2)
def find_extractor(name: str, device: str = "cpu") -> Extractor:
    """The feature extractor of a name; raises UsageError on an unknown one, and where its weights are missing."""
    try:
        return load_extractor(name, device=device)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise UsageError(f"--extractor: {error}") from None


@lru_cache(maxsize=2)
def data_features(data: Data, extractor: Extractor, batch: int) -> Float64[Tensor, "n d"]:
    """Features of all images of the data, from the cache if it has them."""
    assert data.images is not None
    return features_of(data.images, extractor, batch=batch, cache=True, skip_bad=False, notes=[])


@lru_cache(maxsize=2)
def load_conditions(spec: str, n: int) -> Tensor:
    """The conditions of n samples, one per row, by MODULE:FUNCTION of n; raises UsageError on a bad return."""
    if not is_code(spec):
        raise UsageError(f"--condition {spec!r}: MODULE:FUNCTION is accepted")
    found = call_named("--condition", spec, n)
    if not isinstance(found, Tensor) or not found.ndim or len(found) != n:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"--condition {spec}: returned {what} for n = {n}; a tensor with n rows is accepted")
    return found.detach().cpu()


def find_shape(model: Model, data: Data | None) -> tuple[int, ...]:
    """The shape of one sample: the data's, which has to be the model's where that is known; raises UsageError."""
    own = data.shape if data and model.autoencoder is None else None
    if own is None and model.shape is None:
        raise UsageError(
            f"model {model.spec}: nothing says what shape a sample has; --data with images or points does, or an "
            "attribute `shape` of the denoiser"
        )
    if data and own is not None and model.shape is not None and own != model.shape:
        raise UsageError(
            f"model {model.spec}: its samples are of shape {model.shape}, --data {data.source} of {own}; equal ones "
            "are accepted"
        )
    return own or model.shape  # type: ignore[return-value]


@torch.no_grad()
def rows_of(model: Model, data: Data | None, device: str, batch: int) -> Float[Tensor, " n *shape"] | None:
    """The rows of the data as the model sees them, on a device: of a latent model their latents; None without rows."""
    if data is None or data.rows is None:
        return None
    rows = data.rows.to(device)
    if model.autoencoder is None:
        return rows
    return torch.cat([model.autoencoder.to(device).encode(part) for part in rows.split(batch)])


@torch.no_grad()
def pictures_of(model: Model, samples: Float[Tensor, " n *shape"], device: str, batch: int) -> Tensor:
    """A model's samples as images or points, on the CPU: of a latent model decoded."""
    if model.autoencoder is None:
        return samples.cpu()
    decoder = model.autoencoder.to(device)
    return torch.cat([decoder.decode(part.to(device)).cpu() for part in samples.split(batch)])


def _source_of(extractor: str) -> str:
    """The hash of the source of an extractor that comes with fidmap; empty for others, whose code is the user's."""
    named = EXTRACTORS.get(extractor.partition("@")[0])
    return source_hash(reach((named[0],)).modules) if named else ""


def hash_inputs(
    model: str, data: str | None, range: tuple[float, float], extractor: str, condition: str | None, n: int
) -> dict[str, str]:
    """Hashes of all that is named beside a model: its weights, the data, n conditions and the extractor's weights."""
    found = {"model": load_model(model).hash}
    if data:
        loaded = load_data(data, *range)
        found["data"] = loaded.hash
        if loaded.kind != "points":
            found["extractor"] = f"{find_extractor(extractor).label} {_source_of(extractor)}"
    if condition:
        found["condition"] = hash_numbers(load_conditions(condition, n))
    return found

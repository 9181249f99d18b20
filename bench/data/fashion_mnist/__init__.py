"""Fashion-MNIST (1708.07747): 28x28 grey images of clothing in 10 classes; the 10,000 test images lie in this folder.

The 60,000 training images are looked for in ``$FIDMAP_DATA`` (or its subfolder ``fashion-mnist``), then in
``/usr/share/datasets/fashion-mnist`` (Debian's package ``dataset-fashion-mnist``), then downloaded by torchvision.

Conventions: stored images are uint8 (n, 28, 28); diffusion models see float (n, 1, 28, 28) in [-1, 1] (``to_unit``,
inverse ``from_unit``); the feature extractor sees [0, 1], which is ``from_unit(x) / 255``.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.files import digest

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int64, UInt8
    from torch import Tensor

OPENS = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
Split = Literal["train", "test"]

CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
LICENCE = "MIT, Copyright 2017 Zalando SE"

_COUNT = {"train": 60_000, "test": 10_000}
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def load(split: Split = "test") -> tuple[UInt8[Tensor, "n 28 28"], Int64[Tensor, " n"]]:
    """Load a split of Fashion-MNIST: images uint8 (n, 28, 28), where 0 is background, and labels int64 (n,) in 0..9.

    "test" (n = 10,000) comes with fidmap; "train" (n = 60,000) is looked for on this machine, then downloaded. Images
    are in the order of the files. Raises FileNotFoundError where "train" cannot be had, and ValueError on another split
    and on a damaged file.
    """
    import torch  # imported here, so that hashing a data set needs no torch

    images, labels = _read(split)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def data_hash(split: Split = "test") -> str:
    """A hash of a split of Fashion-MNIST: the bytes of its images, then those of its labels, unpacked."""
    images, labels = _read(split)
    return digest(images.tobytes() + labels.tobytes())


def to_unit(images: UInt8[Tensor, "n 28 28"], dtype: torch.dtype | None = None) -> Float[Tensor, "n 1 28 28"]:
    """Scale pixels k in 0..255 to ``2 k / 255 - 1`` in [-1, 1] and add a channel; float32 unless a dtype is given."""
    import torch

    return images[:, None].to(dtype or torch.float32) / 127.5 - 1


def from_unit(x: Float[Tensor, "n 1 28 28"]) -> UInt8[Tensor, "n 1 28 28"]:
    """Turn images in [-1, 1] into pixels 0..255: clamp and round to the nearest; the inverse of ``to_unit``."""
    import torch

    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def find_split(split: Split) -> Path | None:
    """The folder on this machine with the files of a split of Fashion-MNIST, or None; downloads nothing."""
    return next((place for place in _places(split) if all((place / name).is_file() for name in _files(split))), None)


def _read(split: Split) -> tuple[np.ndarray, np.ndarray]:
    if split not in _COUNT:
        raise ValueError(f"no split {split!r} of Fashion-MNIST; there are 'train' and 'test'")
    folder = find_split(split) or _download(split)
    images, labels = (folder / name for name in _files(split))
    return _read_idx(images, (_COUNT[split], 28, 28)), _read_idx(labels, (_COUNT[split],))


def _read_idx(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of bytes: 0, 0, 8 (uint8), the rank, the sizes as big-endian int32, the bytes."""
    try:
        content = gzip.decompress(file.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} is damaged ({error}); fetch it again") from error
    header = struct.pack(f">BBBB{len(shape)}i", 0, 0, 8, len(shape), *shape)
    if not content.startswith(header) or len(content) != len(header) + int(np.prod(shape)):
        raise ValueError(f"{file} is not the IDX file of {shape} bytes that Fashion-MNIST has there; fetch it again")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


def _files(split: Split) -> tuple[str, str]:
    prefix = {"train": "train", "test": "t10k"}[split]
    return f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"


def _places(split: Split) -> list[Path]:
    if split == "test":
        return [Path(__file__).parent]
    folder = os.environ.get("FIDMAP_DATA")
    own = [Path(folder) / "fashion-mnist", Path(folder)] if folder else []
    return [*own, _DEBIAN, _cache() / "FashionMNIST" / "raw"]  # the last is torchvision's own layout


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidmap"


def _download(split: Split) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(_cache()), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:  # no network, a proxy's error page, or a cache that cannot be written
        raise FileNotFoundError(
            f"the Fashion-MNIST {split} set is not in {', '.join(map(str, _places(split)))}, and downloading it failed "
            f"({error}); `apt-get install dataset-fashion-mnist`, or name the folder of its files in FIDMAP_DATA"
        ) from error
    return _cache() / "FashionMNIST" / "raw"

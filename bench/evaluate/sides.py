"""The two sides of ``fidmap evaluate images``: folders, .npy, .npz or .safetensors files, statistics, data sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.data import fashion_mnist
from bench.errors import UsageError
from bench.files import digest
from metrics.images import SUFFIXES, as_images, list_images
from metrics.reading import hash_files, load_files, read_file
from metrics.samples.frechet import FeatureStatistics

DATA_SETS = ("fashion_mnist", "fashion_mnist/test", "fashion_mnist/train")
MOMENTS = ("mu", "sigma")  # mean and covariance in the files of pytorch-fid, clean-fid and torch-fidelity
PREFERRED = ("images", "samples", "arr_0", "features")  # where a file holds several arrays


@dataclass
class Images:
    """One side of an evaluation, real or generated, that consists of images, which are decoded when they are read."""

    source: str
    count: int
    outline: str  # equal for equal content, and known without reading it
    find_hash: Callable[[], str]
    iterate: Callable[[Images, int], Generator[Tensor, None, None]]
    skipped: list[str] = field(default_factory=list)  # files that cannot be decoded, each with the reason
    seen: Counter[str] = field(default_factory=Counter)  # numbers of images by size, and by conversion if any
    left_out: Counter[str] = field(default_factory=Counter)  # numbers of other files in the folder, by reason

    @cached_property
    def hash(self) -> str:
        """The hash of the files' bytes, in order of name; reading all images makes it known."""
        return self.find_hash()

    def read(self, ahead: int = 64) -> Generator[Tensor, None, None]:
        """The images, uint8 (c, h, w), c = 1 or 3, with ``ahead`` more in memory; it fills ``skipped`` and ``seen``."""
        self.skipped.clear()
        self.seen.clear()
        return self.iterate(self, ahead)


@dataclass(frozen=True)
class Features:
    """One side of an evaluation, real or generated, that consists of features extracted earlier, read from a file."""

    source: str
    features: Tensor  # float64 (n, d)
    hash: str


@dataclass(frozen=True)
class Statistics:
    """One side of an evaluation as saved mean and covariance of features, which give Fréchet distances alone."""

    source: str
    statistics: FeatureStatistics


Side = Images | Features | Statistics


def read_side(source: str, *, skip_bad: bool = False, workers: int | None = None) -> Side:
    """Open one side of an evaluation of images, real or generated, by its path or the name of a data set.

    A path that exists comes before a data set of the same name. ``skip_bad`` leaves out the images of a folder that
    cannot be decoded, and counts them; ``workers`` threads read them (None: one per core, 8 at most). Raises UsageError
    that says what is wrong with the file.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, skip_bad, workers)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in (".npy", ".npz"):
            arrays = _numpy(path)
            return _moments(source, arrays) if set(MOMENTS) <= set(arrays) else _arrays(source, arrays)
        if suffix == ".safetensors":
            return _safetensors(path)
        raise UsageError(f"{source}: a folder of images, .npy, .npz or .safetensors is accepted")
    if source in DATA_SETS:
        return _data_set(source)
    import difflib

    near = difflib.get_close_matches(source, DATA_SETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; data sets are {', '.join(DATA_SETS)}"
    raise UsageError(f"{source}: no such file, folder or data set{hint}")


def _data_set(name: str) -> Images:
    split: Any = name.partition("/")[2] or "test"
    try:
        images = fashion_mnist.load(split)[0][:, None]
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    return hold_images(name, images, fashion_mnist.data_hash(split))


def hold_images(source: str, images: UInt8[Tensor, "n c h w"], content: str) -> Images:
    """A side of images (n, c, h, w) that are in memory; ``content`` is their hash."""

    def iterate(side: Images, ahead: int) -> Generator[Tensor, None, None]:
        side.seen[f"size {images.shape[3]}x{images.shape[2]}"] = len(images)
        yield from images

    return Images(source, len(images), content, lambda: content, iterate)


def _folder(folder: Path, skip_bad: bool, workers: int | None) -> Images:
    files, left_out = list_images(folder)
    if not files:
        held = "; ".join(f"{n} {what}" for what, n in left_out.items())
        raise UsageError(
            f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})" + (f", but {held}" if held else "")
        )

    first = read_file(files[0])  # of many formats all files have one size, and tell nothing by it

    def read(file: Path) -> bytes:
        return first if file is files[0] else read_file(file)

    def find_hash() -> str:
        return _join(hash_files(files, workers=workers, read=read))

    def iterate(side: Images, ahead: int) -> Generator[Tensor, None, None]:
        digests = []
        found = load_files(files, side.seen, workers=workers, ahead=ahead, read=read)
        for file, loaded in zip(files, found, strict=True):
            digests.append(loaded.digest)
            if loaded.image is not None:
                yield loaded.image
            elif skip_bad:
                side.skipped.append(f"{file}: {loaded.reason}")
            else:
                raise UsageError(f"{file}: cannot be read ({loaded.reason}); --skip-bad leaves such out")
        side.hash = _join(digests)

    outline = digest([digest(first), [file.stat().st_size for file in files]])
    return Images(str(folder), len(files), outline, find_hash, iterate, left_out=left_out)


def _join(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _numpy(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or the one of an .npy under an empty name; nothing is unpickled."""
    try:
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {"": stored}
        with stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # of many kinds, of NumPy and zipfile; MemoryError where the file claims too much
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{file}: cannot be read ({reason})") from None


def _safetensors(file: Path) -> Statistics | Images | Features:
    try:
        with safe_open(file, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if {"mean", "scatter"} <= set(tensors):
        try:
            return Statistics(str(file), FeatureStatistics.load(file))
        except (ValueError, TypeError) as error:  # TypeError for a mean that is a scalar
            raise UsageError(str(error)) from None
    # NumPy has no bfloat16 and float8
    arrays = {
        name: (tensor.double() if tensor.is_floating_point() else tensor).numpy() for name, tensor in tensors.items()
    }
    return _arrays(str(file), arrays)


def _moments(source: str, arrays: dict[str, np.ndarray]) -> Statistics:
    """Statistics of another program, which do not say of how many images and of which extractor they are."""
    try:
        return Statistics(source, FeatureStatistics.from_moments(*(arrays[name] for name in MOMENTS)))
    except ValueError as error:
        raise UsageError(f"{source}, arrays {' and '.join(MOMENTS)}: {error}") from None


def _arrays(source: str, arrays: dict[str, np.ndarray]) -> Images | Features:
    """A side from the arrays of a file: uint8 images, or float features (n, d).

    Of several arrays, one with a name in ``PREFERRED`` is taken. Raises UsageError on other shapes and types.
    """
    named = [name for name in PREFERRED if name in arrays] or list(arrays)
    if not arrays or (len(arrays) > 1 and named[0] not in PREFERRED):
        held = ", ".join(map(repr, arrays)) or "nothing"
        raise UsageError(f"{source}: holds {held}; one array, or one named {', '.join(PREFERRED)}, is accepted")
    name = named[0]
    array = np.ascontiguousarray(arrays[name])
    what = f"{source}, array {name!r}" if name else source
    found = hashlib.sha256(f"{array.dtype} {array.shape}\n".encode() + array.tobytes()).hexdigest()[:16]
    if array.ndim == 2 and array.dtype.kind == "f" and array.shape[1]:
        features = torch.from_numpy(array.astype(np.float64))  # torch knows neither other byte orders nor longdouble
        if wrong := int((~torch.isfinite(features).all(1)).sum()):
            raise UsageError(f"{what}: {wrong} of {len(features)} rows of features are not finite")
        return Features(source, features, found)
    try:
        images = as_images(array, what, ", or features float (n, d),")
    except ValueError as error:
        raise UsageError(str(error)) from None
    return hold_images(source, images, found)

"""The two sides of ``fidmap evaluate images``: folders, .npy, .npz or .safetensors files, statistics, data sets."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.data import fashion_mnist
from bench.errors import UsageError
from metrics.images import BROKEN, SUFFIXES, as_images, decode, explain, list_images
from metrics.samples.frechet import FeatureStatistics

DATA_SETS = ("fashion_mnist", "fashion_mnist/test", "fashion_mnist/train")
MOMENTS = ("mu", "sigma")  # mean and covariance in the files of pytorch-fid, clean-fid and torch-fidelity
PREFERRED = ("images", "samples", "arr_0", "features")  # where a file holds several arrays


@dataclass
class Images:
    """One side of an evaluation, real or generated, that consists of images, which are decoded when they are read."""

    source: str
    count: int
    hash: str  # of the files' bytes, in order of name
    read: Callable[[Images], Iterator[Tensor]]  # yields uint8 (c, h, w) with c = 1 or 3; fills ``skipped`` and ``seen``
    skipped: list[str] = field(default_factory=list)  # files that cannot be decoded, each with the reason
    seen: Counter[str] = field(default_factory=Counter)  # numbers of images by size, and by conversion if any
    left_out: Counter[str] = field(default_factory=Counter)  # numbers of other files in the folder, by reason


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


def read_side(source: str, *, skip_bad: bool = False) -> Side:
    """Open one side of an evaluation of images, real or generated, by its path or the name of a data set.

    A path that exists comes before a data set of the same name. ``skip_bad`` leaves out the images of a folder that
    cannot be decoded, and counts them. Raises UsageError that says what is wrong with the file.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, skip_bad)
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
    return _in_memory(name, images, fashion_mnist.data_hash(split))


def _in_memory(source: str, images: Tensor, content: str) -> Images:
    """A side of images (n, c, h, w) that are in memory; ``content`` is their hash."""

    def read(side: Images) -> Iterator[Tensor]:
        side.seen.clear()
        side.seen[f"size {images.shape[3]}x{images.shape[2]}"] = len(images)
        return iter(images)

    return Images(source, len(images), content, read)


def _folder(folder: Path, skip_bad: bool) -> Images:
    files, left_out = list_images(folder)
    if not files:
        held = "; ".join(f"{n} {what}" for what, n in left_out.items())
        raise UsageError(
            f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})" + (f", but {held}" if held else "")
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())

    def read(side: Images) -> Iterator[Tensor]:
        side.skipped.clear()
        side.seen.clear()
        for file in files:
            try:
                yield decode(file.read_bytes(), side.seen)
            except BROKEN as error:
                reason = explain(error)
                if not skip_bad:
                    raise UsageError(f"{file}: cannot be read ({reason}); --skip-bad leaves such out") from None
                side.skipped.append(f"{file}: {reason}")

    return Images(str(folder), len(files), digest.hexdigest()[:16], read, left_out=left_out)


def _numpy(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or the one of an .npy under an empty name; nothing is unpickled."""
    try:
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {"": stored}
        with stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None


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
    if array.ndim == 2 and array.dtype.kind == "f":
        features = torch.from_numpy(array.astype(np.float64))  # torch knows neither other byte orders nor longdouble
        if wrong := int((~torch.isfinite(features).all(1)).sum()):
            raise UsageError(f"{what}: {wrong} of {len(features)} rows of features are not finite")
        return Features(source, features, found)
    try:
        images = as_images(array, what, ", or features float (n, d),")
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _in_memory(source, images, found)

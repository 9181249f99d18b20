"""The two sides of ``fidmap evaluate images``: folders, .npy, .npz or .safetensors files, statistics, data sets."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.data import fashion_mnist
from bench.errors import UsageError
from metrics.samples.frechet import FeatureStatistics

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
DATA_SETS = ("fashion_mnist", "fashion_mnist/test", "fashion_mnist/train")
PREFERRED = ("images", "samples", "arr_0", "features")  # where a file holds several arrays
CHANNELS = (1, 3)
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


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
            return _arrays(source, _numpy(path))
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


def _files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The image files below a folder, sorted by name, and the numbers of other files, which are left out, by reason.

    Links are followed, to each folder once. Files and folders whose names begin with a dot are left out.
    """
    files, left_out, visited = [], Counter[str](), set()
    for root, folders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        if (real := here.resolve()) in visited:  # a link to a folder that has been read
            folders.clear()
            left_out["links to a folder that is read already"] += 1
            continue
        visited.add(real)
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            left_out[f"hidden folders ({name})"] += 1
        folders.sort()
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                left_out["hidden files"] += 1
            elif suffix not in SUFFIXES:
                left_out[f"files that end in {suffix}" if suffix else "files without an extension"] += 1
            elif (here / name).is_file():
                files.append(here / name)
            else:
                left_out["links to a file that is not there"] += 1
    return sorted(files), left_out


def _folder(folder: Path, skip_bad: bool) -> Images:
    files, left_out = _files(folder)
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
                yield _decode(file.read_bytes(), side.seen)
            except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
                reason = _why(error)
                if not skip_bad:
                    raise UsageError(f"{file}: cannot be read ({reason}); --skip-bad leaves such out") from None
                side.skipped.append(f"{file}: {reason}")

    return Images(str(folder), len(files), digest.hexdigest()[:16], read, left_out=left_out)


def _why(error: Exception) -> str:
    """An error in one line; for an unknown format in our words, as Pillow's name an object's address and no cause."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    return " ".join(str(error).split()) or type(error).__name__


def _decode(content: bytes, seen: Counter[str]) -> Tensor:
    """The first frame of an image file as uint8: grey stays grey, everything else becomes RGB."""
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = opened
        if getattr(image, "n_frames", 1) > 1:
            seen["animated: the first frame is taken"] += 1
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            seen["with an EXIF rotation: it is not applied"] += 1
        mode = image.mode
        if mode.startswith("I;16"):
            seen["of 16 bits: rounded to 8"] += 1
            array = np.rint(np.asarray(image).astype(np.float64) / 257).astype(np.uint8)
        elif mode in ("I", "F"):
            raise ValueError(f"pixels of mode {mode}, whose range is not known; 8 or 16 bits are accepted")
        else:
            if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
                seen["with transparency: it is dropped"] += 1
                image = image.convert(
                    "LA" if mode in ("L", "LA", "La") else "RGBA"
                )  # Pillow warns of one step for both
            array = np.array(image.convert("L" if mode in ("1", "L", "LA", "La") else "RGB"))
    seen[f"size {array.shape[1]}x{array.shape[0]}"] += 1
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


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
    accepted = (
        "images uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, or features float (n, d), are "
        "accepted"
    )
    if (
        array.dtype == np.uint8
        and array.ndim == 3
        and len(array) != 1
        and (array.shape[2] in (1, 3, 4) or len(array) == 3)
    ):
        raise UsageError(
            f"{what}: shape {array.shape} may be {len(array)} grey images or one image with channels; (n, h, w, c) or "
            "(n, c, h, w) says which"
        )
    last = array.ndim == 4 and array.shape[3] in CHANNELS  # (n, h, w, c) comes before (n, c, h, w)
    first = array.ndim == 4 and array.shape[1] in CHANNELS
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 3 or last or first):
        raise UsageError(f"{what}: {array.dtype} of shape {array.shape}; {accepted}")
    images = torch.from_numpy(array)
    images = images[:, None] if array.ndim == 3 else images.permute(0, 3, 1, 2) if last else images
    return _in_memory(source, images, found)

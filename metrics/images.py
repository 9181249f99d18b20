"""Images as uint8 tensors from whatever holds them: folders, arrays, data loaders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from metrics.reading import load_files

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
CHANNELS = (1, 3)


def read_images(data: Any, *, workers: int | None = None, ahead: int = 64) -> Iterator[UInt8[Tensor, "_c _h _w"]]:
    """Images one by one, uint8 (c, h, w), from a folder, a file .npy or .npz, an array, or an iterable.

    A folder is read with those below it, in order of name, by ``workers`` threads that keep ``ahead`` images waiting
    (``metrics.reading.load_files``). Arrays are what ``as_images`` takes. An iterable, as a ``DataLoader`` is, has
    images (c, h, w) or batches (n, c, h, w), each perhaps first in a tuple with labels. Raises ValueError on anything
    else, and on a file that cannot be decoded.
    """
    if isinstance(data, str | os.PathLike):
        yield from _read_path(Path(data), workers, ahead)
    elif isinstance(data, Tensor | np.ndarray):
        yield from as_images(np.asarray(data), "data")
    elif isinstance(data, Iterable):
        for part in data:
            images = torch.as_tensor(part[0] if isinstance(part, tuple | list) else part)
            yield from images if images.ndim == 4 else [images]
    else:
        raise ValueError(f"data is a {type(data).__name__}; a folder, an array or an iterable of images is accepted")


def _read_path(path: Path, workers: int | None, ahead: int) -> Iterator[Tensor]:
    if path.is_dir():
        files, _ = list_images(path)
        if not files:
            raise ValueError(f"{path}: holds no images ({', '.join(sorted(SUFFIXES))})")
        for file, loaded in zip(files, load_files(files, Counter(), workers=workers, ahead=ahead), strict=True):
            if loaded.image is None:
                raise ValueError(f"{file}: cannot be read ({loaded.reason})")
            yield loaded.image
        return
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"{path}: a folder of images, .npy or .npz is accepted")
    stored = np.load(path, allow_pickle=False)
    arrays = [stored] if isinstance(stored, np.ndarray) else list(stored.values())
    if len(arrays) != 1:
        raise ValueError(f"{path}: holds {len(arrays)} arrays; one is accepted")
    yield from as_images(arrays[0], str(path))


def as_images(array: np.ndarray, what: str, others: str = "") -> UInt8[Tensor, "n c h w"]:
    """An array uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels as images (n, c, h, w).

    ``what`` is the array's name in an error, ``others`` what else is accepted there. Raises ValueError on other arrays,
    and on three dimensions that may be grey images or one image with channels.
    """
    few = array.ndim == 3 and len(array) != 1 and (array.shape[2] in (1, 3, 4) or len(array) == 3)
    if array.dtype == np.uint8 and few:
        raise ValueError(
            f"{what}: shape {array.shape} may be {len(array)} grey images or one image with channels; (n, h, w, c) or "
            "(n, c, h, w) says which"
        )
    last = array.ndim == 4 and array.shape[3] in CHANNELS  # (n, h, w, c) comes before (n, c, h, w)
    first = array.ndim == 4 and array.shape[1] in CHANNELS
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 3 or last or first):
        raise ValueError(
            f"{what}: {array.dtype} of shape {array.shape}; images uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) with 1"
            f" or 3 channels{others} are accepted"
        )
    images = torch.from_numpy(np.ascontiguousarray(array))
    return images[:, None] if array.ndim == 3 else images.permute(0, 3, 1, 2) if last else images


def list_images(folder: Path) -> tuple[list[Path], Counter[str]]:
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
            file = here / name
            suffix = file.suffix.lower()
            if name.startswith("."):
                left_out["hidden files"] += 1
            elif suffix not in SUFFIXES:
                left_out[f"files that end in {suffix}" if suffix else "files without an extension"] += 1
            elif file.is_file():
                files.append(file)
            else:
                left_out["links to a file that is not there"] += 1
    return sorted(files, key=lambda file: file.parts), left_out  # paths themselves take several times as long

"""The data of a recipe, held in memory: Fashion-MNIST, a folder of images, or a Hugging Face data set on disk.

A folder of images has them in any depth; those that lie in sub-folders have the name of the first one as their class. A
Hugging Face data set is what ``save_to_disk`` writes (Arrow files) or parquet files, with a column of images and
perhaps one of labels; its files are read as tables, and no code of it is run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bench.data import fashion_mnist
from bench.errors import UsageError
from bench.files import digest
from metrics.decoding import decode, explain
from metrics.images import list_images
from metrics.reading import load_files

ACCEPTED = "fashion_mnist, a folder of images, or a folder with a Hugging Face data set (Arrow or parquet) is accepted"
LABELS = ("label", "labels", "fine_label", "class")  # columns of classes, the first of which counts


@dataclass(frozen=True, eq=False)
class Images:
    """Images uint8 (n, c, h, w) of one size, their classes where they have some, and the hash of both."""

    name: str
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]
    hash: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (c, h, w) of one image."""
        return tuple(self.images.shape[1:])

    def split(self, held_out: int) -> tuple[Images, Images]:
        """All but the last ``held_out`` images, and these; raises UsageError where none would be left."""
        if held_out >= len(self.images):
            raise UsageError(f"held_out is {held_out}; fewer than the {len(self.images)} images are accepted")
        edge = len(self.images) - held_out
        return self._rows(slice(None, edge)), self._rows(slice(edge, None))

    def _rows(self, rows: slice) -> Images:
        return replace(self, images=self.images[rows], labels=None if self.labels is None else self.labels[rows])


def read_data(data: str, size: int | None = None) -> Images:
    """Read the data that a recipe names; ``size`` crops images of a folder to a centred square and resizes them to it.

    Raises UsageError, one line, where they are missing, cannot be read, or are of several sizes.
    """
    if data == "fashion_mnist":
        return read_fashion_mnist("train")
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise UsageError(f"data {data}: no such folder; {ACCEPTED}")
    tables = sorted([*folder.rglob("*.arrow"), *folder.rglob("*.parquet")])
    images, labels, classes = _read_tables(folder, tables, size) if tables else _read_folder(folder, size)
    sizes = Counter(tuple(image.shape) for image in images)
    if len(sizes) > 1:
        found = ", ".join(f"{w}x{h} with {c} channels" for c, h, w in list(sizes)[:3])
        raise UsageError(f"data {data}: images of several sizes ({found}, ...); one is accepted: set the recipe's size")
    stacked = torch.stack(images)
    known = None if labels is None else torch.tensor(labels)
    content = stacked.numpy().tobytes() + (b"" if known is None else known.numpy().tobytes())
    return Images(folder.name, stacked, known, classes, digest(content))


def read_fashion_mnist(split: fashion_mnist.Split) -> Images:
    """A split of Fashion-MNIST; raises UsageError where it is not on this machine and cannot be downloaded."""
    try:
        images, labels = fashion_mnist.load(split)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    return Images(
        f"Fashion-MNIST, {split} set", images[:, None], labels, fashion_mnist.CLASSES, fashion_mnist.data_hash(split)
    )


def _read_folder(folder: Path, size: int | None) -> tuple[list[Tensor], list[int] | None, tuple[str, ...]]:
    files, _ = list_images(folder)
    if not files:
        raise UsageError(f"data {folder}: holds no images and no tables; {ACCEPTED}")
    images = []
    for file, loaded in zip(files, load_files(files, Counter()), strict=True):
        if loaded.image is None:
            raise UsageError(f"data {file}: cannot be read ({loaded.reason})")
        images.append(_fit(loaded.image, size))
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) == 1 for part in parts):  # some image has no class
        return images, None, ()
    classes = tuple(sorted({part[0] for part in parts}))
    return images, [classes.index(part[0]) for part in parts], classes


def _read_tables(
    folder: Path, files: list[Path], size: int | None
) -> tuple[list[Tensor], list[int] | None, tuple[str, ...]]:
    splits = [file for file in files if "train" in str(file.relative_to(folder)).lower()]
    images: list[Tensor] = []
    labels: list[int] = []
    classes: tuple[str, ...] = ()
    for file in splits or files:
        for table in _tables(file):
            image, label = _columns(file, table)
            classes = classes or _class_names(table, label)
            for row, cell in enumerate(table.column(image).to_pylist()):
                images.append(_fit(_decode_cell(file, row, cell), size))
            labels += table.column(label).to_pylist() if label else []
    if not images:
        raise UsageError(f"data {folder}: its tables have no rows; {ACCEPTED}")
    if not labels:
        return images, None, ()
    if any(not isinstance(value, int) or value < 0 for value in labels) or len(labels) != len(images):
        raise UsageError(f"data {folder}: a label that is no class number; int64 from 0, one per image, is accepted")
    return images, labels, classes or tuple(map(str, range(max(labels) + 1)))


def _tables(file: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ModuleNotFoundError:
        raise UsageError(f"data {file}: needs the package pyarrow: pip install 'fidmap[train]'") from None
    try:
        if file.suffix == ".parquet":
            yield parquet.read_table(file)
        else:
            with pyarrow.memory_map(str(file)) as source:
                yield ipc.open_stream(source).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"data {file}: cannot be read ({str(error).splitlines()[0]})") from None


def _columns(file: Path, table: Any) -> tuple[str, str]:
    """The columns of images (of bytes, or rows of pixels) and of labels, empty where there is none."""
    features = _features(table)
    images = [name for name in table.column_names if features.get(name, {}).get("_type") == "Image"]
    images += [name for name in ("image", "img") if name in table.column_names]
    if not images:
        raise UsageError(f"data {file}: no column image; there are {', '.join(table.column_names)}")
    named = [name for name in table.column_names if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = [*named, *(name for name in LABELS if name in table.column_names)]
    return images[0], labels[0] if labels else ""


def _class_names(table: Any, label: str) -> tuple[str, ...]:
    return tuple(_features(table).get(label, {}).get("names", ()))


def _features(table: Any) -> dict[str, dict[str, Any]]:
    """What the data set's own metadata say of its columns."""
    stored = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = json.loads(stored)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)}


def _decode_cell(file: Path, row: int, cell: Any) -> UInt8[Tensor, "c h w"]:
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    if isinstance(cell, list):  # rows of pixels
        array = np.asarray(cell)
        if array.ndim in (2, 3) and array.min() >= 0 and array.max() <= 255:
            return torch.from_numpy(array.astype(np.uint8).reshape(*array.shape[:2], -1)).permute(2, 0, 1)
    elif isinstance(cell, bytes):
        try:
            return decode(cell, Counter())
        except Exception as error:  # Pillow's readers raise whatever a broken file leads to
            raise UsageError(f"data {file}, row {row}: no readable image ({explain(error)})") from None
    raise UsageError(f"data {file}, row {row}: a cell without an image's bytes or pixels")


def _fit(image: UInt8[Tensor, "c h w"], size: int | None) -> UInt8[Tensor, "c s s"]:
    """The centred square of an image, resized to ``size`` by Pillow's Lanczos filter; as it is without a size."""
    _, height, width = image.shape
    if size is None or (height, width) == (size, size):
        return image
    from PIL import Image

    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side].permute(1, 2, 0).squeeze(2).numpy()
    resized = np.array(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(resized.reshape(size, size, -1)).permute(2, 0, 1)

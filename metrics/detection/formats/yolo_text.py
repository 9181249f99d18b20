"""YOLO's text files as COCO's objects: one file per image, one line per object, numbers as shares of the image.

    dataset = read_yolo_truth("labels/val")                        # sizes from the images in images/val
    entries = read_yolo_detections("predictions", size=(480, 640))  # the last column is the score

A line is ``class cx cy w h`` or, of a polygon with three points or more, ``class x1 y1 x2 y2 x3 y3 ...``, which counts
as its bounding box; a prediction has its score as one more column. An image's id is its file's name without the suffix,
and an image without a label file is background. A category's id is the class number; names are read by
``metrics.detection.formats.yolo_names``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metrics.detection.formats.text_rows import files_with_suffix, number, rows
from metrics.detection.formats.yolo_names import LISTS, read_names

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SHARES = ("cx", "cy", "w", "h")
# How far a share may lie outside [0, 1]: truths are rounded, and not every detector clips its boxes to the image.
_SLACK = {False: 0.01, True: 0.5}

Tell = Callable[[str], object]
Folder = str | os.PathLike[str]


class _Line(NamedTuple):
    where: str
    image: str
    category: int
    shares: tuple[float, float, float, float]  # cx cy w h
    score: float
    polygon: bool


def read_yolo_truth(
    folder: Folder, *, images: Folder | None = None, size: tuple[int, int] | None = None, tell: Tell = warnings.warn
) -> dict[str, Any]:
    """A folder of labels as a COCO data set; ``size``: (height, width) of all images, else they are looked up.

    ``images`` defaults to the folder with its last ``labels`` replaced by ``images``, and to the folder itself.
    ``tell`` hears how many images are background and how many lines are polygons. Raises ValueError that names the
    file, line and field: columns of another number or order, a number that is no share of the image, a class that the
    file of names does not list, a label file without an image.
    """
    pictures = _Pictures(Path(folder), images, size)
    lines, files = _read(Path(folder), scored=False, tell=tell)
    names, source = read_names(Path(folder))
    for line in lines:
        if source and line.category not in names:
            raise ValueError(f"{line.where} has class {line.category}, which is none of the {len(names)} of {source}")
    ids = sorted(files.keys() | pictures.files.keys())
    if background := len(ids) - len(files):
        tell(f"{folder}: images without a label file: {background}; they count as background")
    shapes = {name: pictures.size(path) for name, path in files.items()}
    annotations = []
    for index, line in enumerate(lines, 1):
        box = _pixels(line, shapes[line.image])
        fields = {"id": index, "image_id": line.image, "category_id": line.category, "bbox": box}
        annotations.append({**fields, "area": box[2] * box[3], "iscrowd": 0})
    classes = sorted({line.category for line in lines} | names.keys())
    return {
        "images": [{"id": i} | dict(zip(("height", "width"), shapes.get(i, ()), strict=False)) for i in ids],
        "annotations": annotations,
        "categories": [{"id": k, "name": names.get(k, str(k))} for k in classes],
    }


def read_yolo_detections(
    folder: Folder, *, images: Folder | None = None, size: tuple[int, int] | None = None, tell: Tell = warnings.warn
) -> list[dict[str, Any]]:
    """A folder of predictions as COCO's result list; options and errors as for the truth, and on a score not in [0, 1].

    The order of the columns is checked by what they would mean: where many boxes leave the image as read, and none if
    the score stood second or the numbers were corners, it is refused.
    """
    pictures = _Pictures(Path(folder), images, size)
    lines, files = _read(Path(folder), scored=True, tell=tell)
    shapes = {name: pictures.size(path) for name, path in files.items()}
    return [
        {"image_id": x.image, "category_id": x.category, "bbox": _pixels(x, shapes[x.image]), "score": x.score}
        for x in lines
    ]


def _read(folder: Path, *, scored: bool, tell: Tell) -> tuple[list[_Line], dict[str, Path]]:
    """All lines, and the label file of each image that has one."""
    files = {path.stem: path for path in files_with_suffix(folder, ".txt") if path.name not in LISTS}
    if not files:
        within = sorted({str(path.parent) for path in folder.glob("*/*.txt")})[:3]
        hint = f"; {', '.join(within)} does, and one folder is accepted" if within else ""
        raise ValueError(f"{folder} holds no text file of boxes{hint}")
    lines = [_line(where, stem, words, scored) for stem, path in files.items() for where, words in rows(path)]
    _check_order(lines, scored)
    if polygons := sum(line.polygon for line in lines):
        tell(f"{folder}: lines that are polygons: {polygons}; they count as their bounding boxes")
    return lines, files


def _line(where: str, image: str, words: list[str], scored: bool) -> _Line:
    numbers = words[1 : len(words) - scored]
    polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(words) != 5 + scored and not polygon:
        columns = "class cx cy w h" + " score" * scored
        rest = "class and the points of a polygon" + " and score" * scored
        raise ValueError(f"{where} has {len(words)} columns; {columns} is accepted, or {rest}")
    category = number(where, "class", words[0])
    if category < 0 or category != int(category) or category >= 2**31:
        raise ValueError(f"{where} has class {words[0]!r}; a whole number from 0 is accepted")
    keys = [f"{axis}{i // 2 + 1}" for i in range(len(numbers)) for axis in "xy"[i % 2]] if polygon else _SHARES
    values = [number(where, key, word) for key, word in zip(keys, numbers, strict=True)]
    if not polygon and min(values[2:]) < 0:
        raise ValueError(f"{where} has w {values[2]}, h {values[3]}; neither may be negative")
    for key, value in zip(keys, values, strict=True):
        if not -_SLACK[scored] <= value <= 1 + _SLACK[scored]:
            raise ValueError(f"{where} has {key} {value:g}; a share of the image, from 0 to 1, is accepted, not pixels")
    if polygon:
        x1, x2, y1, y2 = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    score = number(where, "score", words[-1]) if scored else 0.0
    if not 0 <= score <= 1 + 1e-6:
        raise ValueError(f"{where} has score {score:g}; from 0 to 1 is accepted, in the last column")
    cx, cy, w, h = values
    return _Line(where, image, int(category), (cx, cy, w, h), score, polygon)


def _check_order(lines: list[_Line], scored: bool) -> None:
    """Refuses columns in another order, of which every number alone would pass.

    As read, some boxes of a file whose columns are shifted leave the image, and hardly any under the right order; of a
    file in the right order nearly all boxes leave the image under another. Corners take four lines as evidence, since
    a box that leaves the image at its upper left corner may pass for two corners.
    """
    boxes = [line for line in lines if not line.polygon]
    values = np.array([(*line.shares, line.score) for line in boxes]).reshape(-1, 5)
    wrong = _leaves(values[:, :4])
    corners = np.concatenate([(values[:, :2] + values[:, 2:4]) / 2, values[:, 2:4] - values[:, :2]], axis=1)
    orders = [("class x1 y1 x2 y2" + " score" * scored, corners, 4)]
    if scored:
        orders.append(("class score cx cy w h", values[:, 1:], 1))
    for order, other, least in orders:
        if wrong.sum() >= max(least, 0.2 * len(wrong)) and _leaves(other).sum() <= wrong.sum() / 5:
            first, told = boxes[int(wrong.argmax())].where, "class cx cy w h" + " score" * scored
            raise ValueError(
                f"{first}: read as {told}, {wrong.sum()} of {len(wrong)} boxes leave the image, and read as {order} "
                f"{_leaves(other).sum()} do; {told} is accepted, boxes clipped to the image"
            )


def _leaves(box: Float[np.ndarray, "n 4"]) -> np.ndarray:
    """Which boxes ``cx cy w h`` leave the image by more than a share of .01, or are none."""
    low, high = box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2
    return ((low < -0.01) | (high > 1.01) | (box[:, 2:] < 0)).any(axis=1)


def _pixels(line: _Line, shape: tuple[int, int]) -> list[float]:
    """The box ``xywh`` in pixels of an image of this height and width."""
    (cx, cy, w, h), (height, width) = line.shares, shape
    return [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]


class _Pictures:
    """The images of a folder of labels, by name without suffix; of those whose size is asked the header is read."""

    def __init__(self, labels: Path, images: Folder | None, size: tuple[int, int] | None) -> None:
        self.places = [Path(images)] if images is not None else image_folders(labels)
        self.files: dict[str, Path] = {}
        self._size = size
        for place in self.places:
            if not place.is_dir() and images is None:
                continue
            for path in files_with_suffix(place, *_SUFFIXES):
                other = self.files.setdefault(path.stem, path)
                if other.parent == path.parent and other != path:
                    raise ValueError(f"{other} and {path} have one name; a name per image is accepted")

    def size(self, label: Path) -> tuple[int, int]:
        """Height and width of the image of a label file, as it is shown (EXIF's rotation applied)."""
        from PIL import Image

        if self._size:
            return self._size
        if label.stem not in self.files:
            looked = ", ".join(map(str, self.places))
            accepted = "the folder of the images (images=, --images) or size=(height, width) is accepted"
            raise ValueError(f"{label} has no image {label.stem}.* in {looked}; {accepted}")
        picture = self.files[label.stem]
        try:
            with Image.open(picture) as image:
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return (image.width, image.height) if turned else (image.height, image.width)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{picture} is no image: {error}") from None


def image_folders(labels: Path) -> list[Path]:
    """Where the images of a folder of labels may lie: its last ``labels`` replaced by ``images``, and the folder."""
    parts = labels.parts
    for index in reversed(range(len(parts))):
        if parts[index] == "labels":
            return [Path(*parts[:index], "images", *parts[index + 1 :]), labels]
    return [labels]

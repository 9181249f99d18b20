"""YOLO's text files as COCO's objects: one file per image, one line per object, numbers as shares of the image.

    dataset = read_yolo_truth("labels/val")                        # sizes from the images in images/val
    entries = read_yolo_detections("predictions", size=(480, 640))  # the last column is the score

A line is ``class cx cy w h``, or ``class x1 y1 x2 y2 x3 y3 ...`` for a polygon of three points or more, of which the
bounding box is taken. A prediction has its score as one more column. The id of an image is the name of its file without
the suffix; an image without a label file is background. The id of a category is the class number; its name is read by
``metrics.detection.formats.yolo_names``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metrics.detection.formats.folders import Folder
from metrics.detection.formats.text_rows import parse_number, read_rows
from metrics.detection.formats.yolo_names import LISTS, ClassNames, read_names

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SHARES = ("cx", "cy", "w", "h")
# How far a share may lie outside [0, 1]: truths are rounded, and not every detector clips its boxes to the image.
_SLACK = {False: 0.01, True: 0.5}

Tell = Callable[[str], object]
Place = Folder | str | os.PathLike[str]


class Line(NamedTuple):
    """One object of a YOLO text file, with its place: class number, box ``cx cy w h`` and score.

    The box is in shares of the image.
    """

    where: str  # "FILE: line N"
    image: str
    category: int
    shares: tuple[float, float, float, float]  # cx cy w h
    score: float
    polygon: bool


class Labels(NamedTuple):
    """The text files of a folder of YOLO labels: all objects, and the label file of each image that has one."""

    folder: Folder
    lines: list[Line]
    files: dict[str, Path]


def read_yolo_truth(
    folder: Place, *, images: Place | None = None, size: tuple[int, int] | None = None, tell: Tell = warnings.warn
) -> dict[str, Any]:
    """Read a folder of YOLO labels as a COCO data set: one text file per image, one ``class cx cy w h`` per line.

    Numbers are shares of the image, and polygons count by their bounding boxes. ``size`` is the (height, width) of
    every image; without it the sizes are read from the files in ``images``, by default the folder with its last
    ``labels`` replaced by ``images``, and the folder itself. ``tell`` hears how many images are background and how many
    lines are polygons. Raises ValueError that names the file, the line and the field: columns of another number or
    order, a number that is no share of the image, a class that the file of names does not list, a label file without an
    image.
    """
    folder = Folder.at(folder)
    pictures = Pictures(find_pictures(folder, images), size)
    return make_truth(read_labels(folder, scored=False, tell=tell), read_names(folder.path), pictures, tell)


def read_yolo_detections(
    folder: Place, *, images: Place | None = None, size: tuple[int, int] | None = None, tell: Tell = warnings.warn
) -> list[dict[str, Any]]:
    """Read a folder of YOLO predictions as a COCO result list: one ``class cx cy w h score`` per line.

    Numbers are shares of the image. Options and errors are those of ``read_yolo_truth``; ValueError is raised too on a
    score outside [0, 1], and where the order of the columns shows to be another: where many boxes leave the image as
    they are read, and hardly any if the score stood second or the numbers were corners.
    """
    folder = Folder.at(folder)
    pictures = Pictures(find_pictures(folder, images), size)
    return make_detections(read_labels(folder, scored=True, tell=tell), pictures)


def read_labels(folder: Folder, *, scored: bool, tell: Tell) -> Labels:
    """Parse the text files of a folder of YOLO labels; ``scored``: each line ends with a score.

    Raises ValueError that names the file, the line and the field.
    """
    files = {path.stem: path for path in folder.files(".txt") if path.name not in LISTS}
    if not files:
        within = sorted({str(path.parent) for path in folder.path.glob("*/*.txt")})[:3]
        hint = f"; {', '.join(within)} does, and one folder is accepted" if within else ""
        raise ValueError(f"{folder} holds no text file of boxes{hint}")
    lines = [_line(where, stem, words, scored) for stem, path in files.items() for where, words in read_rows(path)]
    _check_order(lines, scored)
    if polygons := sum(line.polygon for line in lines):
        tell(f"{folder}: lines that are polygons: {polygons}; they count as their bounding boxes")
    return Labels(folder, lines, files)


def make_truth(labels: Labels, classes: ClassNames, pictures: Pictures, tell: Tell) -> dict[str, Any]:
    """Make a COCO data set of YOLO labels; raises ValueError as ``read_yolo_truth`` does."""
    names, source = classes
    for line in labels.lines:
        if source and line.category not in names:
            raise ValueError(f"{line.where} has class {line.category}, which is none of the {len(names)} of {source}")
    ids = sorted(labels.files.keys() | pictures.files.keys())
    if background := len(ids) - len(labels.files):
        tell(f"{labels.folder}: images without a label file: {background}; they count as background")
    shapes = {name: pictures.size(path) for name, path in labels.files.items()}
    annotations = []
    for index, line in enumerate(labels.lines, 1):
        box = _pixels(line, shapes[line.image])
        fields = {"id": index, "image_id": line.image, "category_id": line.category, "bbox": box}
        annotations.append({**fields, "area": box[2] * box[3], "iscrowd": 0})
    numbers = sorted({line.category for line in labels.lines} | names.keys())
    return {
        "images": [{"id": i} | dict(zip(("height", "width"), shapes.get(i, ()), strict=False)) for i in ids],
        "annotations": annotations,
        "categories": [{"id": k, "name": names.get(k, str(k))} for k in numbers],
    }


def make_detections(labels: Labels, pictures: Pictures) -> list[dict[str, Any]]:
    """Make a COCO result list of YOLO labels that have scores; raises ValueError on a label file without an image."""
    shapes = {name: pictures.size(path) for name, path in labels.files.items()}
    return [
        {"image_id": x.image, "category_id": x.category, "bbox": _pixels(x, shapes[x.image]), "score": x.score}
        for x in labels.lines
    ]


def _line(where: str, image: str, words: list[str], scored: bool) -> Line:
    numbers = words[1 : len(words) - scored]
    polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(words) != 5 + scored and not polygon:
        columns = "class cx cy w h" + " score" * scored
        rest = "class and the points of a polygon" + " and score" * scored
        raise ValueError(f"{where} has {len(words)} columns; {columns} is accepted, or {rest}")
    category = parse_number(where, "class", words[0])
    if category < 0 or category != int(category) or category >= 2**31:
        raise ValueError(f"{where} has class {words[0]!r}; a whole number from 0 is accepted")
    keys = [f"{axis}{i // 2 + 1}" for i in range(len(numbers)) for axis in "xy"[i % 2]] if polygon else _SHARES
    values = [parse_number(where, key, word) for key, word in zip(keys, numbers, strict=True)]
    if not polygon and min(values[2:]) < 0:
        raise ValueError(f"{where} has w {values[2]}, h {values[3]}; neither may be negative")
    for key, value in zip(keys, values, strict=True):
        if not -_SLACK[scored] <= value <= 1 + _SLACK[scored]:
            raise ValueError(f"{where} has {key} {value:g}; a share of the image, from 0 to 1, is accepted, not pixels")
    if polygon:
        x1, x2, y1, y2 = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    score = parse_number(where, "score", words[-1]) if scored else 0.0
    if not 0 <= score <= 1 + 1e-6:
        raise ValueError(f"{where} has score {score:g}; from 0 to 1 is accepted, in the last column")
    cx, cy, w, h = values
    return Line(where, image, int(category), (cx, cy, w, h), score, polygon)


def _check_order(lines: list[Line], scored: bool) -> None:
    """Refuse columns that stand in another order, where each number alone would pass.

    If the columns are shifted, some boxes leave the image as they are read, and hardly any do under the right order; if
    they are in order, nearly all boxes leave the image under another. For corners four such lines are asked for, since
    a box that leaves the image at its upper left may pass for two corners.
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


def _pixels(line: Line, shape: tuple[int, int]) -> list[float]:
    """The box ``xywh`` in pixels of an image of this height and width."""
    (cx, cy, w, h), (height, width) = line.shares, shape
    return [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]


class Pictures:
    """The images that YOLO labels belong to, by name without suffix; a header is read once, when its size is asked for.

    ``places``: the folders in which they lie, of which some may not exist; the first that has a name comes before the
    others. ``size``: the height and width of all. Raises ValueError where one folder has two images of one name.
    """

    def __init__(self, places: Sequence[Folder], size: tuple[int, int] | None = None) -> None:
        self.places = places
        self.files: dict[str, Path] = {}
        self._size = size
        self._sizes: dict[str, tuple[int, int]] = {}
        for path in (path for place in places if place.path.is_dir() for path in place.files(*_SUFFIXES)):
            other = self.files.setdefault(path.stem, path)
            if other.parent == path.parent and other != path:
                raise ValueError(f"{other} and {path} have one name; a name per image is accepted")

    def size(self, label: Path) -> tuple[int, int]:
        """Height and width in pixels of the image of a label file, as it is shown (EXIF's rotation applied)."""
        if self._size:
            return self._size
        if label.stem not in self.files:
            looked = ", ".join(map(str, self.places))
            accepted = "the folder of the images (images=, --images) or size=(height, width) is accepted"
            raise ValueError(f"{label} has no image {label.stem}.* in {looked}; {accepted}")
        if label.stem not in self._sizes:
            self._sizes[label.stem] = _shown_size(self.files[label.stem])
        return self._sizes[label.stem]


def find_pictures(labels: Folder, images: Place | None = None) -> list[Folder]:
    """Where the images of a folder of YOLO labels lie: in ``images``, or where data sets usually have them.

    That is the folder with its last ``labels`` replaced by ``images``, and the folder itself. Raises ValueError where
    ``images`` is no folder.
    """
    if images is not None:
        if not Folder.at(images).path.is_dir():
            raise ValueError(f"{images} is no folder of images")
        return [Folder.at(images)]
    parts = labels.path.parts
    for index in reversed(range(len(parts))):
        if parts[index] == "labels":
            return [Folder(Path(*parts[:index], "images", *parts[index + 1 :])), labels]
    return [labels]


def _shown_size(picture: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(picture) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{picture} is no image: {error}") from None

"""YOLO's text files as COCO's objects: one file an image, one line a box, ``class cx cy w h`` as shares of the image.

    dataset = read_yolo_truth("labels/val")                        # sizes from the images in images/val
    entries = read_yolo_detections("predictions", size=(480, 640))  # a sixth column is the score

An image's id is its file's name without the suffix; a category's id is the class number, its name the line of that
number in ``classes.txt`` (in the folder or above it), if there is one. An empty file is an image without boxes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metrics.text_rows import number, rows

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SHARES = ("cx", "cy", "w", "h")


def read_yolo_truth(
    folder: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """A folder of labels as a COCO data set; ``size``: (height, width) of all images, else they are looked up.

    ``images`` defaults to the folder with its last ``labels`` replaced by ``images``, or to the folder itself. Lines of
    more than five columns are refused, since polygons have no box of their own. Raises ValueError that names the file,
    line and field.
    """
    entries, shapes = _read(Path(folder), images, size, scored=False)
    annotations = [
        {"id": index, **entry, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for index, entry in enumerate(entries, 1)
    ]
    names = _names(Path(folder))
    classes = sorted({entry["category_id"] for entry in entries} | set(range(len(names))))
    return {
        "images": [{"id": name, "height": height, "width": width} for name, (height, width) in shapes.items()],
        "annotations": annotations,
        "categories": [{"id": k, "name": names[k] if k < len(names) else str(k)} for k in classes],
    }


def read_yolo_detections(
    folder: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None, size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """A folder of predictions ``class cx cy w h score`` as COCO's result list; options and errors as for the truth."""
    return _read(Path(folder), images, size, scored=True)[0]


def _read(
    folder: Path, images: str | os.PathLike[str] | None, size: tuple[int, int] | None, *, scored: bool
) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]]]:
    files = sorted(path for path in folder.glob("*.txt") if path.name != "classes.txt")
    if not files:
        raise ValueError(f"{folder} holds no text file of boxes")
    places = [Path(images)] if images is not None else _places(folder)
    entries, shapes = [], {}
    for path in files:
        height, width = shapes[path.stem] = size or _size(path, places)
        for where, words in rows(path):
            if len(words) != 5 + scored:
                raise ValueError(f"{where} has {len(words)} columns; class cx cy w h{' score' * scored} is accepted")
            cx, cy, w, h = (number(where, key, word) for key, word in zip(_SHARES, words[1:5], strict=True))
            if w < 0 or h < 0:
                raise ValueError(f"{where} has w {w}, h {h}; neither may be negative")
            box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
            entry = {"image_id": path.stem, "category_id": _class(where, words[0]), "bbox": box}
            entries.append(entry | ({"score": number(where, "score", words[5])} if scored else {}))
    return entries, shapes


def _class(where: str, word: str) -> int:
    value = number(where, "class", word)
    if value < 0 or value != int(value):
        raise ValueError(f"{where} has class {word!r}; a whole number from 0 is accepted")
    return int(value)


def _names(folder: Path) -> list[str]:
    path = next((p for p in (folder / "classes.txt", folder.parent / "classes.txt") if p.exists()), None)
    return [] if path is None else [" ".join(words) for _, words in rows(path)]


def _places(folder: Path) -> list[Path]:
    parts = folder.parts
    for index in reversed(range(len(parts))):
        if parts[index] == "labels":
            return [Path(*parts[:index], "images", *parts[index + 1 :]), folder]
    return [folder]


def _size(path: Path, places: list[Path]) -> tuple[int, int]:
    """Height and width of the image of a label file; only its header is read."""
    from PIL import Image

    for place in places:
        for suffix in _SUFFIXES:
            picture = place / (path.stem + suffix)
            if picture.exists():
                try:
                    with Image.open(picture) as image:
                        return image.height, image.width
                except OSError as error:
                    raise ValueError(f"{picture} is no image: {error}") from None
    looked = ", ".join(map(str, places))
    raise ValueError(f"{path} has no image {path.stem}.* in {looked}; images= or size=(height, width) is accepted")

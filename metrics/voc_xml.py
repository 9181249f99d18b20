"""PASCAL VOC's files as COCO's objects: a folder of XML annotations, and result files of detections.

    dataset = read_voc_truth("VOC2007/Annotations")
    entries = read_voc_detections("results")       # comp4_det_test_dog.txt, ... : image score xmin ymin xmax ymax

An image's id is its file's name without the suffix, a category's id is its name. Boxes are VOC's, whole pixels counted
from 1 with both ends inside, so that ``xywh`` is ``xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1`` and the
overlaps are the development kit's. Difficult objects carry ``difficult``: 1.

XML goes through ``xml.parsers.expat`` with document types refused, hence without entities to expand or fetch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from metrics.text_rows import number, rows


def read_voc_truth(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The XML files of a folder, in the order of their names, as a COCO data set; nested ``part`` objects are left.

    Raises ValueError that names the file and the field: broken XML, a document type, an object without a name or a
    box, a side that is not a number, a negative one, no file.
    """
    files = sorted(Path(folder).glob("*.xml"))
    if not files:
        raise ValueError(f"{folder} holds no XML file")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in files:
        root = _parse(path)
        size = root.find("size")
        shape = {key: int(_side(path, size, key)) for key in ("width", "height") if size is not None}
        images.append({"id": path.stem, **shape})
        for index, entry in enumerate(root.findall("object")):
            where = f"{path}: object[{index}]"
            annotations.append({"id": len(annotations) + 1, "image_id": path.stem, **_object(where, entry)})
    names = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": name, "name": name} for name in names],
    }


def read_voc_detections(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The result files ``*_det_*_CLASS.txt`` of a folder, in the order of their names, as COCO's result list.

    Raises ValueError that names the file and line of what is not ``image score xmin ymin xmax ymax``, and on no file.
    """
    files = sorted(Path(folder).glob("*_det_*_*.txt"))
    if not files:
        raise ValueError(f"{folder} holds no file <competition>_det_<set>_<class>.txt")
    return [
        {"image_id": image, "category_id": path.stem.split("_", 3)[3], "bbox": _box(where, corners), "score": score}
        for path in files
        for where, image, score, corners in _results(path)
    ]


def _results(path: Path) -> Any:
    for where, words in rows(path):
        if len(words) != 6:
            raise ValueError(f"{where} has {len(words)} words; image score xmin ymin xmax ymax is accepted")
        yield (
            where,
            words[0],
            number(where, "score", words[1]),
            [number(where, k, w) for k, w in zip(_ENDS, words[2:], strict=True)],
        )


_ENDS = ("xmin", "ymin", "xmax", "ymax")


def _object(where: str, entry: Element) -> dict[str, Any]:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{where} has no name")
    box = entry.find("bndbox")
    if box is None:
        raise ValueError(f"{where} ({name}) has no bndbox")
    bbox = _box(where, [_side(where, box, key) for key in _ENDS])
    fields = {"category_id": name, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
    return {**fields, "difficult": int((entry.findtext("difficult") or "0").strip() == "1")}


def _box(where: str, corners: list[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        raise ValueError(f"{where} has the box {corners}; xmin <= xmax, ymin <= ymax are accepted")
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]


def _side(where: Any, parent: Element, key: str) -> float:
    text = parent.findtext(key)
    if text is None:
        raise ValueError(f"{where} has no {parent.tag}/{key}")
    return number(where, key, text)


def _parse(path: Path) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, _Doctype) as error:
        raise ValueError(f"{path} is not XML of VOC: {error}") from None
    return builder.close()


class _Doctype(Exception):
    pass


def _refuse(*declared: Any) -> None:
    raise _Doctype("it declares a document type, which is refused")

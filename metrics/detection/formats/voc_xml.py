"""PASCAL VOC's files as COCO's objects: a folder of XML annotations, and detections as result files or as XML.

    dataset = read_voc_truth("VOC2007/Annotations")
    entries = read_voc_detections("results")       # comp4_det_test_dog.txt, ... : image score xmin ymin xmax ymax
    entries = read_voc_detections("predicted")     # XML whose objects have a <score> or <confidence>

The id of an image is the name of its file without the suffix, the id of a category is its name. VOC counts pixels from
1 and both ends belong to a box, so that ``xywh`` is ``xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1``; overlaps
are then those of the development kit. Difficult objects have ``difficult``: 1.

XML is parsed by ``xml.parsers.expat``, and document types are refused, so that no entity is expanded or fetched.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from metrics.detection.formats.folders import Folder
from metrics.detection.formats.text_rows import parse_number, read_rows

_ENDS = ("xmin", "ymin", "xmax", "ymax")
_SCORES = ("score", "confidence")
_FLAGS = {"": 0, "0": 0, "false": 0, "1": 1, "true": 1}
# Elements by which an annotation without objects is recognised.
_HEADER = {"folder", "filename", "path", "source", "owner", "size", "segmented"}

Tell = Callable[[str], object]


def read_voc_truth(folder: Folder | str | os.PathLike[str], *, tell: Tell = warnings.warn) -> dict[str, Any]:
    """Read a folder of PASCAL VOC's XML annotations as a COCO data set, files in the order of their names.

    A box is ``xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1``, since VOC counts pixels from 1. Nested ``part``
    objects are left out. ``tell`` hears of boxes that begin at pixel 0, which is outside the image in VOC. Raises
    ValueError that names the file and the field: broken XML, a document type, elements of another tool, an object
    without a name or a box, a coordinate that is not a number, a negative side, shares of the image in place of pixels,
    a folder without XML.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path, root in _documents(Folder.at(folder)):
        size = root.find("size")
        shape = {key: int(_side(path, size, key)) for key in ("width", "height") if size is not None}
        images.append({"id": path.stem, **shape})
        for where, entry in _objects(path, root):
            flag = (entry.findtext("difficult") or "").strip().lower()
            if flag not in _FLAGS:
                raise ValueError(f"{where} has difficult {flag[:40]!r}; 0 or 1 is accepted")
            fields = {"id": len(annotations) + 1, "image_id": path.stem, **_object(where, entry)}
            fields["area"] = fields["bbox"][2] * fields["bbox"][3]
            annotations.append({**fields, "iscrowd": 0, "difficult": _FLAGS[flag]})
    if zeros := sum(min(annotation["bbox"][:2]) < 0 for annotation in annotations):
        tell(f"{folder}: boxes that begin at pixel 0: {zeros}; VOC counts pixels from 1 with both ends inside the box")
    names = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": name, "name": name} for name in names],
    }


def read_voc_detections(folder: Folder | str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read PASCAL VOC detections as a COCO result list: result files ``*_det_SET_CLASS.txt`` or, without any, XML.

    Raises ValueError that names the file and the line that is not ``image score xmin ymin xmax ymax``, or the file and
    the object that has no score, and on a folder without such files.
    """
    entries, folder = [], Folder.at(folder)
    if files := result_files(folder):
        for path in files:
            category = path.stem.split("_det_", 1)[1].split("_", 1)[1]
            for image, score, box in _results(path):
                entries.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    else:
        for path, root in _documents(folder, ", and no file <competition>_det_<set>_<class>.txt"):
            for where, entry in _objects(path, root):
                key = next((key for key in _SCORES if entry.find(key) is not None), None)
                if key is None:
                    raise ValueError(f"{where} has no score; <score> or <confidence> in each object is accepted")
                score = parse_number(where, key, entry.findtext(key) or "")
                entries.append({"image_id": path.stem, **_object(where, entry), "score": score})
    return entries


def result_files(folder: Folder) -> list[Path]:
    """The files of a folder that are named as PASCAL VOC's results are, ``<competition>_det_<set>_<class>.txt``."""
    return [p for p in folder.files(".txt") if "_" in p.stem.partition("_det_")[2].strip("_")]


def _results(path: Path) -> Iterator[tuple[str, float, list[float]]]:
    for where, words in read_rows(path):
        if len(words) != 6:
            raise ValueError(f"{where} has {len(words)} words; image score xmin ymin xmax ymax is accepted")
        score = parse_number(where, "score", words[1])
        corners = [parse_number(where, key, word) for key, word in zip(_ENDS, words[2:], strict=True)]
        yield words[0], score, _box(where, corners)


def _documents(folder: Folder, nor: str = "") -> Iterator[tuple[Path, Element]]:
    files = folder.files(".xml")
    if not files:
        raise ValueError(f"{folder} holds no XML file{nor}")
    for path in files:
        yield path, _parse(path)


def _objects(path: Path, root: Element) -> list[tuple[str, Element]]:
    """The place and the element of each object; raises ValueError on a file of another tool."""
    if root.tag != "annotation":
        raise ValueError(f"{path} has the root <{_short(root.tag)}>; VOC's is <annotation>")
    objects = root.findall("object")
    # A file whose objects or boxes stand elsewhere, or under a namespace, would count as an image without objects.
    within = {id(element) for entry in objects for element in entry.iter() if element.tag != "object"}
    within |= {id(entry) for entry in objects}
    for element in root.iter():
        if _plain(element.tag) in ("object", "bndbox", "bbox", "box", "polygon") and id(element) not in within:
            raise ValueError(f"{path} has <{_short(element.tag)}> outside VOC's annotation/object/bndbox")
    if not objects and len(root) and not _HEADER & {child.tag for child in root}:
        children = ", ".join(f"<{_short(child.tag)}>" for child in root[:3])
        raise ValueError(f"{path} is no annotation of VOC: <annotation> holds {children}; <object> is accepted")
    return [(f"{path}: object[{index}]", entry) for index, entry in enumerate(objects)]


def _plain(tag: str) -> str:
    return tag.rpartition(":")[2].lower()


def _short(tag: str) -> str:
    return tag if len(tag) <= 40 else tag[:40] + "..."


def _object(where: str, entry: Element) -> dict[str, Any]:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{where} has no name")
    box = entry.find("bndbox")
    if box is None:
        raise ValueError(f"{where} ({_short(name)}) has no bndbox")
    return {"category_id": name, "bbox": _box(where, [_side(where, box, key) for key in _ENDS])}


def _box(where: str, corners: list[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        raise ValueError(f"{where} has the box {corners}; xmin <= xmax, ymin <= ymax are accepted")
    if min(corners) >= 0 and max(corners) <= 1 and not all(corner.is_integer() for corner in corners):
        raise ValueError(f"{where} has the box {corners}; pixels counted from 1 are accepted, not shares of the image")
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]


def _side(where: Any, parent: Element, key: str) -> float:
    text = parent.findtext(key)
    if text is None:
        raise ValueError(f"{where} has no {parent.tag}/{key}")
    return parse_number(where, key, text)


def _parse(path: Path) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (expat.ExpatError, _Doctype) as error:
        raise ValueError(f"{path} is not XML of VOC: {error}") from None
    except (ValueError, LookupError) as error:  # of the encoding that the file declares
        raise ValueError(f"{path} is not XML of VOC: {error}; UTF-8 is accepted") from None
    return builder.close()


class _Doctype(Exception):
    pass


def _refuse(*declared: Any) -> None:
    raise _Doctype("it declares a document type, which is refused")

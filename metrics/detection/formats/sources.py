"""Files and folders of detections and truths opened, whichever format they have.

    dataset, entries = open_sources("VOC2007/Annotations", "results")

A file is COCO's JSON, also compressed (``.json.gz``), or one result per line (``.jsonl``); a folder is VOC's XML or
result files, or YOLO's text files.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metrics.detection.formats import voc_xml, yolo_text
from metrics.detection.formats.json_files import load
from metrics.detection.formats.text_rows import files_with_suffix
from metrics.detection.formats.yolo_names import LISTS, YAML, read_names

FORMATS = ("auto", "coco", "voc", "yolo")


def open_sources(
    ground_truth: Any,
    detections: Any,
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> tuple[Any, Any]:
    """The contents of two paths as a COCO data set and a result list; what is not a path stays as it is.

    ``format`` is that of both sides (auto: each side's own). ``images`` is where YOLO's images lie, whose sizes its
    boxes are shares of; without it the truth's are looked for beside its labels, and serve both sides. Raises
    ValueError that names the file and in it the line or entry.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    sides = (ground_truth, detections)
    formats = [_format(Path(s), format) if isinstance(s, str | os.PathLike) else "objects" for s in sides]
    if images is not None and "yolo" not in formats:
        raise ValueError("images= is for YOLO's text files, whose boxes are shares of the image")
    if images is not None and not Path(images).is_dir():
        raise ValueError(f"{images} is no folder of images")
    if images is None and formats[1] == "yolo" and formats[0] in ("yolo", "voc"):
        images = next((p for p in yolo_text.image_folders(Path(ground_truth)) if p.is_dir()), None)
    truth, found = ground_truth, detections
    if formats[0] == "coco":
        truth = load(Path(ground_truth))
    elif formats[0] == "voc":
        truth = voc_xml.read_voc_truth(ground_truth, tell=tell)
    elif formats[0] == "yolo":
        truth = yolo_text.read_yolo_truth(ground_truth, images=images, tell=tell)
    if formats[1] == "coco":
        found = load(Path(detections))
    elif formats[1] == "voc":
        found = voc_xml.read_voc_detections(detections)
    elif formats[1] == "yolo":
        found = yolo_text.read_yolo_detections(detections, images=images, tell=tell)
        found = _in_classes_of(truth, found, Path(detections), ground_truth if formats[0] == "yolo" else None, tell)
    return truth, found


def _in_classes_of(
    truth: Any, found: list[dict[str, Any]], folder: Path, labels: Any, tell: Callable[[str], object]
) -> list[dict[str, Any]]:
    """YOLO's predictions with the names of their classes in place of numbers, where the numbers may differ in meaning.

    Class 1 of a YOLO model is the second name of its own list. Another list, and COCO's category ids, which usually
    begin at 1, may call another class so. ``labels`` is the truth's folder where that is YOLO's too.
    """
    names, source = read_names(folder)
    if labels is not None:
        of_truth, _ = read_names(Path(labels))
        number = {name: k for k, name in of_truth.items()}
        if all(number.get(name, k) == k for k, name in names.items()):  # no name has two numbers
            for k in sorted(names.keys() & of_truth.keys()):
                if names[k] != of_truth[k]:
                    tell(f"{folder}: class {k} is {names[k]!r} here and {of_truth[k]!r} in the truth; "
                         "classes are matched by number")  # fmt: skip
                    break
            return found
        tell(f"{folder}: {source} numbers the classes otherwise than the truth; they are matched by name")
    if source is not None:
        for entry in found:
            if (k := entry["category_id"]) not in names:
                where = f"{folder}: image {entry['image_id']} has class {k}"
                raise ValueError(f"{where}, which is none of the {len(names)} of {source}")
        return [{**entry, "category_id": names[entry["category_id"]]} for entry in found]
    listed = truth.get("categories") if isinstance(truth, dict) else None
    ids = [entry.get("id") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if found and ids and set(map(repr, ids)) != set(map(repr, range(len(ids)))):
        raise ValueError(
            f"{folder}: YOLO numbers its classes from 0, and the ground truth has the category ids "
            f"{', '.join(map(repr, ids[:5]))}{', ...' if len(ids) > 5 else ''}; a file of names beside the detections "
            f"({', '.join((*LISTS, *YAML))}) is accepted, by which the classes are matched"
        )
    return found


def _format(path: Path, asked: str) -> str:
    """The format of a path, as asked or recognised; raises ValueError where it cannot be the one that was asked for."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        if asked in ("voc", "yolo"):
            raise ValueError(f"{path} is a file; the format {asked} takes a folder")
        return "coco"
    if asked == "coco":
        raise ValueError(f"{path} is a folder; the format coco takes a JSON file")
    if asked != "auto":
        return asked
    xml, results, texts = files_with_suffix(path, ".xml"), voc_xml.result_files(path), files_with_suffix(path, ".txt")
    texts = [file for file in texts if file not in results and file.name not in yolo_text.LISTS]
    if (xml or results) and texts and not (xml and results):
        raise ValueError(f"{path} holds files of VOC ({(xml or results)[0].name}) and of YOLO ({texts[0].name}); "
                         "the format voc or yolo says which is meant")  # fmt: skip
    if xml or results:
        return "voc"
    if texts:
        return "yolo"
    raise ValueError(f"{path} holds neither VOC's XML or result files nor YOLO's text files")

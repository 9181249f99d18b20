"""Files and folders of truths and detections opened, whichever format they have.

    dataset, entries = open_sources("VOC2007/Annotations", "results")

A file is COCO's JSON, also compressed (``.json.gz``), or has one result per line (``.jsonl``). A folder holds VOC's XML
or result files, or YOLO's text files. Every file is opened once and every folder listed once: the format of a folder is
recognised by the list that its reader goes by, and YOLO's images and class names are found once for both sides.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metrics.detection.formats.folders import Folder
from metrics.detection.formats.json_files import load
from metrics.detection.formats.voc_xml import read_voc_detections, read_voc_truth, result_files
from metrics.detection.formats.yolo_names import LISTS, YAML, ClassNames, find_names, parse_names
from metrics.detection.formats.yolo_text import Pictures, find_pictures, make_detections, make_truth, read_labels

FORMATS = ("auto", "coco", "voc", "yolo")

Tell = Callable[[str], object]


def open_sources(
    ground_truth: Any,
    detections: Any,
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
    tell: Tell = warnings.warn,
) -> tuple[Any, Any]:
    """Open truths and detections that are paths, whatever their format, as a COCO data set and a COCO result list.

    A side that is no path stays as it is. ``format`` is that of both sides (auto: each side's own). ``images`` is the
    folder of YOLO's images, of whose sizes its boxes are shares; without it the images are looked for beside the labels
    of the truth, and serve both sides. Raises ValueError that names the file and in it the line or entry.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    (truth_format, truth), (found_format, found) = (_locate(side, format) for side in (ground_truth, detections))
    yolo = "yolo" in (truth_format, found_format)
    if images is not None and not yolo:
        raise ValueError("images= is for YOLO's text files, whose boxes are shares of the image")
    pictures = Pictures(_find_places(truth, found, found_format, images) if yolo else [])
    names = functools.cache(parse_names)
    classes = None

    if truth_format == "coco":
        truth = load(truth)
    elif truth_format == "voc":
        truth = read_voc_truth(truth, tell=tell)
    elif truth_format == "yolo":
        labels = read_labels(truth, scored=False, tell=tell)
        classes = names(find_names(truth.path))
        truth = make_truth(labels, classes, pictures, tell)
    if found_format == "coco":
        found = load(found)
    elif found_format == "voc":
        found = read_voc_detections(found)
    elif found_format == "yolo":
        labels = read_labels(found, scored=True, tell=tell)
        entries = make_detections(labels, pictures)
        found = _match_classes(truth, entries, labels.folder, names(find_names(found.path)), classes, tell)
    return truth, found


def _find_places(truth: Any, found: Any, found_format: str, images: str | os.PathLike[str] | None) -> list[Folder]:
    """Where the images of YOLO's boxes lie; beside the truth where that is a folder too, in one place for both."""
    if not isinstance(truth, Folder):
        return find_pictures(found, images)
    places = find_pictures(truth, images)
    return places if found_format != "yolo" else [place for place in places if place.path.is_dir()][:1]


def _match_classes(
    truth: Any,
    found: list[dict[str, Any]],
    folder: Folder,
    classes: ClassNames,
    of_truth: ClassNames | None,
    tell: Tell,
) -> list[dict[str, Any]]:
    """YOLO's detections with names in place of class numbers, where a number may mean another class in the truth.

    Class 1 of a YOLO model is the second name of its own list. Another list may number the classes otherwise, and
    COCO's category ids usually begin at 1. ``of_truth`` are the names of the truth where that is YOLO's too.
    """
    if of_truth is not None:
        number = {name: k for k, name in of_truth.names.items()}
        if all(number.get(name, k) == k for k, name in classes.names.items()):  # no name has two numbers
            for k in sorted(classes.names.keys() & of_truth.names.keys()):
                if classes.names[k] != of_truth.names[k]:
                    tell(f"{folder}: class {k} is {classes.names[k]!r} here and {of_truth.names[k]!r} in the truth; "
                         "classes are matched by number")  # fmt: skip
                    break
            return found
        tell(f"{folder}: {classes.file} numbers the classes otherwise than the truth; they are matched by name")
    if classes.file is not None:
        for entry in found:
            if (k := entry["category_id"]) not in classes.names:
                where = f"{folder}: image {entry['image_id']} has class {k}"
                raise ValueError(f"{where}, which is none of the {len(classes.names)} of {classes.file}")
        return [{**entry, "category_id": classes.names[entry["category_id"]]} for entry in found]
    listed = truth.get("categories") if isinstance(truth, dict) else None
    ids = [entry.get("id") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if found and ids and set(map(repr, ids)) != set(map(repr, range(len(ids)))):
        raise ValueError(
            f"{folder}: YOLO numbers its classes from 0, and the ground truth has the category ids "
            f"{', '.join(map(repr, ids[:5]))}{', ...' if len(ids) > 5 else ''}; a file of names beside the detections "
            f"({', '.join((*LISTS, *YAML))}) is accepted, by which the classes are matched"
        )
    return found


def _locate(source: Any, asked: str) -> tuple[str, Any]:
    """The format of a side, and its file or folder; raises ValueError where it cannot be the format that is asked for.

    What is no path has the format "objects".
    """
    if not isinstance(source, str | os.PathLike):
        return "objects", source
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        if asked in ("voc", "yolo"):
            raise ValueError(f"{path} is a file; the format {asked} takes a folder")
        return "coco", path
    if asked == "coco":
        raise ValueError(f"{path} is a folder; the format coco takes a JSON file")
    folder = Folder(path)
    return (_recognise(folder) if asked == "auto" else asked), folder


def _recognise(folder: Folder) -> str:
    """The format of the files in a folder; raises ValueError where they are of both formats or of none."""
    xml, results = folder.files(".xml"), result_files(folder)
    texts = [file for file in folder.files(".txt") if file not in results and file.name not in LISTS]
    if (xml or results) and texts and not (xml and results):
        raise ValueError(f"{folder} holds files of VOC ({(xml or results)[0].name}) and of YOLO ({texts[0].name}); "
                         "the format voc or yolo says which is meant")  # fmt: skip
    if xml or results:
        return "voc"
    if texts:
        return "yolo"
    raise ValueError(f"{folder} holds neither VOC's XML or result files nor YOLO's text files")

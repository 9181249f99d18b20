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

from metrics import voc_xml, yolo_text
from metrics.json_files import load
from metrics.text_rows import files_with_suffix

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
    return truth, found


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

"""Ground truth and detections of the user's, from COCO JSON, VOC or YOLO folders, as COCO's objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.errors import UsageError

FORMATS = ("auto", "coco", "voc", "yolo")


def read_sides(
    ground_truth: Path, detections: Path, format: str, images: Path | None, progress: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A data set and a result list; ``format`` (auto: each side's own) is that of both sides.

    ``images`` is where YOLO's pictures lie, whose sizes its boxes are shares of; without it the truth's are looked for
    beside its labels, and serve both sides. Raises UsageError that names the file, and in it line or entry.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r}: expected {', '.join(FORMATS)}")
    found_formats = [_format(path, format) for path in (ground_truth, detections)]
    if images and "yolo" not in found_formats:
        raise UsageError("--images is for YOLO's text files, whose boxes are shares of the image")
    sides = []
    for path, which, what in zip((ground_truth, detections), found_formats, ("truth", "detections"), strict=True):
        progress(f"reading {path}")
        try:
            sides.append(_read(path, which, what, images or _pictures_of(ground_truth)))
        except ValueError as error:
            raise UsageError(str(error)) from None
    return sides[0], sides[1]


def _format(path: Path, asked: str) -> str:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if path.is_file():
        if asked in ("voc", "yolo"):
            raise UsageError(f"{path} is a file; --format {asked} takes a folder")
        return "coco"
    if asked == "coco":
        raise UsageError(f"{path} is a folder; --format coco takes a JSON file")
    if asked != "auto":
        return asked
    if any(path.glob("*.xml")) or any(path.glob("*_det_*.txt")):
        return "voc"
    if any(path.glob("*.txt")):
        return "yolo"
    raise UsageError(f"{path} holds neither VOC's XML or result files nor YOLO's text files")


def _read(path: Path, format: str, what: str, images: Path) -> Any:
    from metrics import voc_xml, yolo_text
    from metrics.coco_json import load

    if format == "voc":
        return voc_xml.read_voc_truth(path) if what == "truth" else voc_xml.read_voc_detections(path)
    if format == "yolo":
        read = yolo_text.read_yolo_truth if what == "truth" else yolo_text.read_yolo_detections
        return read(path, images=images)
    content = load(path)
    if what == "truth":
        if not isinstance(content, dict):
            raise ValueError(f"{path}: a COCO data set, which has images, annotations and categories, is accepted")
        for key in ("images", "annotations", "categories"):
            if not isinstance(content.get(key), list):
                raise ValueError(f"{path}: no list of {key!r}; a COCO data set has images, annotations and categories")
            _check_ids(path, content[key], key, ("id",) if key != "annotations" else ("image_id", "category_id"))
    else:
        if not (isinstance(content, list) and all(isinstance(entry, dict) for entry in content)):
            raise ValueError(f"{path}: a list of image_id, category_id, bbox, score is accepted")
        _check_ids(path, content, "detections", ("image_id", "category_id"))
    return content


def _check_ids(path: Path, entries: list[Any], name: str, keys: tuple[str, ...]) -> None:
    """Ids are sorted and looked up: those of a kind are numbers, or they are texts."""
    for key in keys:
        ids = [(i, entry[key]) for i, entry in enumerate(entries) if isinstance(entry, dict) and key in entry]
        accepted = {str} if ids and isinstance(ids[0][1], str) else {int, float}
        if {type(value) for _, value in ids} <= accepted:
            continue
        index, value = next((i, value) for i, value in ids if type(value) not in accepted)
        words = "a text, as the first is" if accepted == {str} else "a whole number, or all of them texts"
        raise ValueError(f"{path}: {name}[{index}] has {key} {value!r}; accepted is {words}")


def _pictures_of(labels: Path) -> Path:
    """Where YOLO has the pictures: the folder whose path says images where this one's last says labels."""
    parts = list(labels.parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "labels" and (place := Path(*parts[:index], "images", *parts[index + 1 :])).is_dir():
            return place
    return labels

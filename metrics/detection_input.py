"""Ground truth and detections from whatever holds them, as two tables of boxes whose ids are positions.

    pair = read_pair("annotations.json", "detections.json")
    pair = read_pair(targets, outputs)     # lists of one mapping an image, as torchvision and torchmetrics have them

A side may be
- a COCO data set or result list, as objects or as the path of a JSON file (boxes ``xywh``);
- a folder of VOC XML files, of VOC result files, or of YOLO text files (``metrics.voc_xml``, ``metrics.yolo_text``);
- a list of mappings, one an image: ``boxes`` (n, 4) as ``xyxy``, ``labels`` (n,), and ``scores`` (n,) of detections,
  ``iscrowd`` and ``area`` (n,) of truths if there are any. Image ids are positions in the list;
- a mapping of flat arrays: the same keys and ``images`` (n,), the id of each box's image;
- a tuple of flat arrays: ``images, boxes, labels, scores`` of detections; ``images, boxes, labels`` of truths, and
  ``iscrowd`` and ``area`` after them if there are any.

Arrays are torch tensors or NumPy arrays. Where the truth is arrays, the categories are those of either side, and flat
arrays have the images of either side; a data set lists its own, and detections must be of one of them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from metrics.coco_json import Boxes, load, read_detections, read_truth
from metrics.detection_arrays import Columns, read_arrays

__all__ = ["Boxes", "Pair", "read_pair"]


class Pair(NamedTuple):
    """Both sides as columns, and the id of each position."""

    truth: Boxes
    found: Boxes  # of known categories
    images: dict[Any, int]  # id -> position, ascending
    categories: dict[Any, int]
    names: dict[Any, str]  # category id -> its name, or the id in words
    left_out: int  # detections of categories that the ground truth does not list
    id_zero: int  # annotations whose id is 0, which pycocotools takes for "unmatched"
    sizes: list[dict[str, int]] | None = None  # height and width of each image, for masks
    truth_masks: list[Any] | None = None  # with iou_type "segm"
    found_masks: list[Any] | None = None


def read_pair(ground_truth: Any, detections: Any, iou_type: str = "bbox") -> Pair:
    """Both sides as arrays (see the module); boxes are 0 for ``segm``.

    Raises ValueError that names the file or entry and the field: a missing key, an unknown image, a score that is NaN,
    a box that is not finite or has a negative side, arrays of unlike lengths.
    """
    truth_file, found_file = (_named(source) for source in (ground_truth, detections))
    ground_truth, detections = _open(ground_truth, "ground truth"), _open(detections, "detections")
    given, results = read_arrays(ground_truth, "ground truth"), read_arrays(detections, "detections")
    if iou_type == "segm" and (given or results):
        raise ValueError("iou_type 'segm' needs a COCO data set and result list; arrays hold boxes")
    if given is not None:
        return _from_arrays(given, results, detections)
    with _naming(truth_file):
        truth, images, categories = read_truth(ground_truth, iou_type)
    with _naming(found_file):
        if results is None:
            found, known = read_detections(detections, images, categories, iou_type)
        else:
            found, known = _look_up(results, images, categories)
    names = {entry["id"]: str(entry.get("name", entry["id"])) for entry in ground_truth["categories"]}
    zeros = sum(entry.get("id", 1) == 0 for entry in ground_truth["annotations"])
    pair = Pair(truth, found, images, categories, names, int(np.count_nonzero(~known)), zeros)
    if iou_type == "bbox":
        return pair
    sizes = {entry["id"]: {k: entry[k] for k in ("height", "width") if k in entry} for entry in ground_truth["images"]}
    masks = [entry["segmentation"] for entry in ground_truth["annotations"]]
    of_known = [detections[i]["segmentation"] for i in np.flatnonzero(known)]
    return pair._replace(sizes=[sizes[name] for name in images], truth_masks=masks, found_masks=of_known)


def _named(source: Any) -> str | None:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


@contextlib.contextmanager
def _naming(file: str | None) -> Iterator[None]:
    """Puts the file's name before what is wrong in it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if file else str(error)) from None


def _open(source: Any, what: str) -> Any:
    """The content of a path; anything else as it is."""
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if not path.is_dir():
        return load(path)
    from metrics import voc_xml, yolo_text

    if any(path.glob("*.xml")):
        return voc_xml.read_voc_truth(path) if what == "ground truth" else voc_xml.read_voc_detections(path)
    if any(path.glob("comp*_det_*.txt")):
        return voc_xml.read_voc_detections(path)
    if any(path.glob("*.txt")):
        return yolo_text.read_yolo_truth(path) if what == "ground truth" else yolo_text.read_yolo_detections(path)
    raise ValueError(f"{path} holds neither VOC XML nor VOC or YOLO text files")


def _from_arrays(given: Columns, results: Columns | None, detections: Any) -> Pair:
    if results is None:
        if not isinstance(detections, list | tuple) or len(detections):
            raise ValueError("the ground truth is arrays and the detections are not; give both as arrays")
        results = given.none()
    if given.n_images is not None and results.n_images not in (None, given.n_images):
        raise ValueError(f"{given.n_images} images in the ground truth, {results.n_images} in the detections")
    n = given.n_images if given.n_images is not None else results.n_images
    image_ids = np.union1d(given.image, results.image) if n is None else np.arange(n)
    for side, what in ((given, "ground truth"), (results, "detections")):
        for name in side.image[~np.isin(side.image, image_ids)][:1].tolist():
            raise ValueError(f"{what} has images {name}, while the other side is a list of {n} images")
    category_ids = np.union1d(given.category, results.category)
    images, categories = ({name: i for i, name in enumerate(ids.tolist())} for ids in (image_ids, category_ids))
    truth, found = (
        side.boxes(np.searchsorted(image_ids, side.image), np.searchsorted(category_ids, side.category))
        for side in (given, results)
    )
    return Pair(truth, found, images, categories, {name: str(name) for name in categories}, 0, 0)


def _look_up(
    results: Columns, images: dict[Any, int], categories: dict[Any, int]
) -> tuple[Boxes, Bool[np.ndarray, " n"]]:
    """Arrays of detections under the ids of a data set."""
    ids, image = np.unique(results.image, return_inverse=True)
    for name in ids.tolist():
        if name not in images:
            raise ValueError(
                f"detections have images {name}, which is none of the {len(images)} ids of the ground truth"
            )
    labels, category = np.unique(results.category, return_inverse=True)
    image = np.array([images[name] for name in ids.tolist()], dtype=np.int64)[image]
    category = np.array([categories.get(name, -1) for name in labels.tolist()], dtype=np.int64)[category]
    known = category >= 0
    return results.boxes(image, category).select(known), known

"""Ground truth and detections from whatever holds them, as two tables of boxes whose ids are positions.

    pair = read_pair("annotations.json", "detections.json")
    pair = read_pair(targets, outputs)     # lists of one mapping an image, as torchvision and torchmetrics have them

A side may be
- a COCO data set or result list, as objects or as the path of a JSON file (boxes ``xywh``), also ``.json.gz``; results
  also as ``.jsonl``, or under ``annotations`` of an object;
- a folder of VOC XML files, of VOC result files, or of YOLO text files (``voc_xml`` and ``yolo_text``
  in ``metrics.detection.formats``);
- a list of mappings, one an image: ``boxes`` (n, 4) as ``xyxy``, ``labels`` (n,), and ``scores`` (n,) of detections,
  ``iscrowd`` and ``area`` (n,) of truths if there are any. Image ids are positions in the list;
- a mapping of flat arrays: the same keys and ``images`` (n,), the id of each box's image;
- a tuple of flat arrays: ``images, boxes, labels, scores`` of detections; ``images, boxes, labels`` of truths, and
  ``iscrowd`` and ``area`` after them if there are any.

Arrays are torch tensors or NumPy arrays. Where the truth is arrays, the categories are those of either side, and flat
arrays have the images of either side; a data set lists its own, and detections must be of one of them.

What is read otherwise than a reader may expect (an ``area`` that lacks, polygons as boxes, ...) is said as a warning.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from metrics.detection.formats.arrays import Columns, read_arrays
from metrics.detection.formats.coco_json import Boxes, look_up, read_detections, read_truth, results_of
from metrics.detection.formats.coco_masks import image_sizes, read_masks
from metrics.detection.formats.sources import FORMATS, open_sources

__all__ = ["FORMATS", "Boxes", "Pair", "read_pair"]


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
    truth_masks: list[Any] | None = None  # with iou_type "segm": polygons or run-length encodings
    found_masks: list[Any] | None = None  # compressed run-length encodings
    class_agnostic: bool = False  # all boxes are of one category, "all"

    def merge_classes(self) -> Pair:
        """The pair without regard to categories, but that boxes come in their order, which decides about ties."""
        sides: list[Any] = []
        for side, masks in ((self.truth, self.truth_masks), (self.found, self.found_masks)):
            order = np.argsort(side.category, kind="stable")
            sides.append(side.select(order)._replace(category=np.zeros_like(order)))
            sides.append(None if masks is None else [masks[i] for i in order.tolist()])
        truth, truth_masks, found, found_masks = sides
        return self._replace(
            truth=truth, found=found, categories={"all": 0}, names={"all": "all classes"}, truth_masks=truth_masks,
            found_masks=found_masks, class_agnostic=True,
        )  # fmt: skip


def read_pair(
    ground_truth: Any,
    detections: Any = None,
    iou_type: str = "bbox",
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
    tell: Callable[[str], object] = warnings.warn,
    class_agnostic: bool = False,
) -> Pair:
    """Both sides as arrays (see the module); boxes are 0 for ``segm``. A pair that is read already stays as it is.

    ``class_agnostic`` puts all boxes into one category, as pycocotools' ``useCats = 0`` does: those of categories that
    the ground truth lists, in the order of these where scores are equal.

    ``format`` (auto, coco, voc, yolo) is that of paths, ``images`` the folder of YOLO's images, and ``tell`` hears what
    is odd. Raises ValueError that names the file or entry and the field: a missing key, an unknown image, a score that
    is NaN, a box that is not finite or has a negative side, arrays of unlike lengths.
    """
    if isinstance(ground_truth, Pair):
        if iou_type == "segm" and ground_truth.sizes is None:
            raise ValueError("the pair was read with iou_type 'bbox', and holds no masks")
        if class_agnostic != ground_truth.class_agnostic:
            raise ValueError(f"the pair was read with class_agnostic={ground_truth.class_agnostic}")
        return ground_truth
    truth_file, found_file = (_named(source) for source in (ground_truth, detections))
    ground_truth, detections = open_sources(ground_truth, detections, format=format, images=images, tell=tell)
    given, results = read_arrays(ground_truth, "ground truth"), read_arrays(detections, "detections")
    if iou_type == "segm" and (given or results):
        raise ValueError("iou_type 'segm' needs a COCO data set and result list; arrays hold boxes")
    if given is not None:
        return _merged(_from_arrays(given, results, detections), class_agnostic)
    with _naming(truth_file, tell) as tell_of_truth:
        truth, image_ids, categories = read_truth(ground_truth, iou_type, tell_of_truth)
    with _naming(found_file, tell) as tell_of_found:
        if results is None:
            detections = results_of(detections)
            found, known = read_detections(detections, ground_truth, image_ids, categories, iou_type, tell_of_found)
        else:
            found, known = _look_up(results, image_ids, categories)
    names = {entry["id"]: str(entry.get("name", entry["id"])) for entry in ground_truth["categories"]}
    zeros = sum(entry.get("id", 1) == 0 for entry in ground_truth["annotations"])
    pair = Pair(truth, found, image_ids, categories, names, int(np.count_nonzero(~known)), zeros)
    if iou_type == "bbox":
        return _merged(pair, class_agnostic)
    with _naming(truth_file, tell):
        sizes = image_sizes(ground_truth["images"], image_ids)
        of_truth = dict(enumerate(ground_truth["annotations"]))
        masks = read_masks(of_truth, truth.image, sizes, "annotations", compress=False)
    with _naming(found_file, tell):
        of_known = {int(i): detections[i] for i in np.flatnonzero(known)}
        found_masks = read_masks(of_known, found.image, sizes, "detections", compress=True)
    return _merged(pair._replace(sizes=sizes, truth_masks=masks, found_masks=found_masks), class_agnostic)


def _merged(pair: Pair, class_agnostic: bool) -> Pair:
    return pair.merge_classes() if class_agnostic else pair


def _named(source: Any) -> str | None:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


@contextlib.contextmanager
def _naming(file: str | None, tell: Callable[[str], object]) -> Iterator[Callable[[str], object]]:
    """Puts the file's name before what is wrong in it, and before what it gives to tell."""
    try:
        yield lambda note: tell(f"{file}: {note}" if file else note)
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if file else str(error)) from None


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
    labels, category = np.unique(results.category, return_inverse=True)
    position = look_up(ids.tolist(), images, "detections", "images")
    for name in ids[position < 0][:1].tolist():
        raise ValueError(f"detections have images {name}, which is none of the {len(images)} ids of the ground truth")
    image = position[image]
    category = look_up(labels.tolist(), categories, "detections", "labels")[category]
    known = category >= 0
    return results.boxes(image, category).select(known), known

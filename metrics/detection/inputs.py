"""Truths and detections from whatever holds them, as two tables of boxes whose ids are positions.

    inputs = read_inputs("annotations.json", "detections.json")
    inputs = read_inputs(targets, outputs)    # lists with one mapping per image, as torchvision and torchmetrics do

Each side may be
- a COCO data set or result list (boxes ``xywh``), as objects or as the path of a JSON file, also ``.json.gz``; results
  also as ``.jsonl``, or under ``annotations`` of an object;
- a folder of VOC XML files, of VOC result files, or of YOLO text files (``voc_xml`` and ``yolo_text``
  in ``metrics.detection.formats``);
- a list with one mapping per image: ``boxes`` (n, 4) as ``xyxy``, ``labels`` (n,), for detections also ``scores`` (n,),
  for truths optionally ``iscrowd`` and ``area`` (n,). Image ids are positions in the list;
- a mapping of flat arrays: the same keys, and ``images`` (n,), the image id of each box;
- a tuple of flat arrays: ``images, boxes, labels, scores`` for detections; for truths ``images, boxes, labels``, and
  optionally ``iscrowd`` and ``area`` after them.

Arrays are torch tensors or NumPy arrays. Where the truth is arrays, the categories are those of either side, and with
flat arrays so are the images. A COCO data set lists its own, and each detection must name one of its images.

What is read otherwise than a reader may expect (an ``area`` that is missing, polygons as boxes, ...) raises a warning.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from metrics.detection.formats.arrays import ArrayBoxes, read_arrays
from metrics.detection.formats.coco_json import Boxes, look_up, read_detections, read_truth, results_of
from metrics.detection.formats.coco_masks import image_sizes, read_masks
from metrics.detection.formats.sources import FORMATS, open_sources

__all__ = ["FORMATS", "Boxes", "Inputs", "read_inputs"]


class Inputs(NamedTuple):
    """Truths and detections as columns whose image and category ids are positions, and the id of each position.

    ``left_out`` counts the detections of categories that the truth does not list, ``id_zero`` the annotations with the
    id 0.
    """

    truths: Boxes
    detections: Boxes  # of known categories
    images: dict[Any, int]  # id -> position, ascending
    categories: dict[Any, int]
    names: dict[Any, str]  # category id -> its name, or the id in words
    left_out: int  # detections of categories that the ground truth does not list
    id_zero: int  # annotations whose id is 0, which pycocotools takes for "unmatched"
    sizes: list[dict[str, int]] | None = None  # height and width of each image, for masks
    truth_masks: list[Any] | None = None  # with iou_type "segm": polygons or run-length encodings
    detection_masks: list[Any] | None = None  # compressed run-length encodings
    class_agnostic: bool = False  # all boxes are of one category, "all"

    def merge_classes(self) -> Inputs:
        """Put all boxes in one category, for class-agnostic figures.

        Equal scores keep the order of the categories they had.
        """
        sides: list[Any] = []
        for boxes, masks in ((self.truths, self.truth_masks), (self.detections, self.detection_masks)):
            order = np.argsort(boxes.category, kind="stable")
            sides.append(boxes.select(order)._replace(category=np.zeros_like(order)))
            sides.append(None if masks is None else [masks[i] for i in order.tolist()])
        truths, truth_masks, detections, detection_masks = sides
        return self._replace(
            truths=truths, detections=detections, categories={"all": 0}, names={"all": "all classes"},
            truth_masks=truth_masks, detection_masks=detection_masks, class_agnostic=True,
        )  # fmt: skip


def read_inputs(
    ground_truth: Any,
    detections: Any = None,
    iou_type: str = "bbox",
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
    tell: Callable[[str], object] = warnings.warn,
    class_agnostic: bool = False,
) -> Inputs:
    """Read truths and detections from whatever holds them (files, folders, COCO's objects, arrays) as columns.

    Boxes are 0 for ``segm``. ``Inputs`` are returned as they are. ``class_agnostic`` puts all boxes of listed
    categories into one category, as pycocotools' ``useCats = 0`` does; equal scores keep the order of the categories.

    ``format`` (auto, coco, voc, yolo) is that of paths, ``images`` the folder of YOLO's images, and ``tell`` hears what
    a reader may not expect. Raises ValueError that names the file or entry and the field: a missing key, an unknown
    image, a score that is NaN, a box that is not finite or has a negative side, arrays of unlike lengths.
    """
    if isinstance(ground_truth, Inputs):
        if iou_type == "segm" and ground_truth.sizes is None:
            raise ValueError("the inputs were read with iou_type 'bbox', and hold no masks")
        if class_agnostic != ground_truth.class_agnostic:
            raise ValueError(f"the inputs were read with class_agnostic={ground_truth.class_agnostic}")
        return ground_truth
    inputs = _read(ground_truth, detections, iou_type, format, images, tell)
    return inputs.merge_classes() if class_agnostic else inputs


def _read(
    ground_truth: Any,
    detections: Any,
    iou_type: str,
    format: str,
    images: str | os.PathLike[str] | None,
    tell: Callable[[str], object],
) -> Inputs:
    truth_file, detections_file = (_path_of(source) for source in (ground_truth, detections))
    dataset, entries = open_sources(ground_truth, detections, format=format, images=images, tell=tell)
    truth_arrays, arrays = read_arrays(dataset, "ground truth"), read_arrays(entries, "detections")
    if iou_type == "segm" and (truth_arrays or arrays):
        raise ValueError("iou_type 'segm' needs a COCO data set and result list; arrays hold boxes")
    if truth_arrays is not None:
        return _from_arrays(truth_arrays, arrays, entries)
    with _naming(truth_file, tell) as tell_of_truth:
        truth = read_truth(dataset, iou_type, tell_of_truth)
    with _naming(detections_file, tell) as tell_of_detections:
        if arrays is None:
            entries = results_of(entries)
            boxes, known = read_detections(entries, truth, iou_type, tell_of_detections)
        else:
            boxes, known = _look_up(arrays.boxes, truth.images, truth.categories)
    left_out = int(np.count_nonzero(~known))
    inputs = Inputs(truth.boxes, boxes, truth.images, truth.categories, truth.names, left_out, truth.id_zero)
    if iou_type == "bbox":
        return inputs
    with _naming(truth_file, tell):
        sizes = image_sizes(dataset["images"], truth.images)
        of_truth = dict(enumerate(dataset["annotations"]))
        truth_masks = read_masks(of_truth, truth.boxes.image, sizes, "annotations", compress=False)
    with _naming(detections_file, tell):
        of_known = {int(i): entries[i] for i in np.flatnonzero(known)}
        masks = read_masks(of_known, boxes.image, sizes, "detections", compress=True)
    return inputs._replace(sizes=sizes, truth_masks=truth_masks, detection_masks=masks)


def _path_of(source: Any) -> str | None:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


@contextlib.contextmanager
def _naming(file: str | None, tell: Callable[[str], object]) -> Iterator[Callable[[str], object]]:
    """Puts the file's name before the message of an error, and before what ``tell`` hears."""
    try:
        yield lambda note: tell(f"{file}: {note}" if file else note)
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if file else str(error)) from None


def _from_arrays(truth_arrays: ArrayBoxes, arrays: ArrayBoxes | None, source: Any) -> Inputs:
    """Both sides from arrays; ``source`` is what the detections were before they were found to be no arrays."""
    truths, n = truth_arrays
    if arrays is None:
        if not isinstance(source, list | tuple) or len(source):
            raise ValueError("the ground truth is arrays and the detections are not; give both as arrays")
        arrays = ArrayBoxes(truths.select(np.zeros(0, int)), None)
    detections, n_detections = arrays
    if n is not None and n_detections not in (None, n):
        raise ValueError(f"{n} images in the ground truth, {n_detections} in the detections")
    n = n if n is not None else n_detections
    image_ids = np.union1d(truths.image, detections.image) if n is None else np.arange(n)
    for boxes, what in ((truths, "ground truth"), (detections, "detections")):
        for name in boxes.image[~np.isin(boxes.image, image_ids)][:1].tolist():
            raise ValueError(f"{what} has images {name}, while the other side is a list of {n} images")
    category_ids = np.union1d(truths.category, detections.category)
    images, categories = ({name: i for i, name in enumerate(ids.tolist())} for ids in (image_ids, category_ids))
    truths, detections = (
        boxes._replace(
            image=np.searchsorted(image_ids, boxes.image), category=np.searchsorted(category_ids, boxes.category)
        )
        for boxes in (truths, detections)
    )
    return Inputs(truths, detections, images, categories, {name: str(name) for name in categories}, 0, 0)


def _look_up(boxes: Boxes, images: dict[Any, int], categories: dict[Any, int]) -> tuple[Boxes, Bool[np.ndarray, " n"]]:
    """Arrays of detections under the ids of a COCO data set."""
    ids, image = np.unique(boxes.image, return_inverse=True)
    labels, category = np.unique(boxes.category, return_inverse=True)
    position = look_up(ids.tolist(), images, "detections", "images")
    for name in ids[position < 0][:1].tolist():
        raise ValueError(f"detections have images {name}, which is none of the {len(images)} ids of the ground truth")
    image = position[image]
    category = look_up(labels.tolist(), categories, "detections", "labels")[category]
    known = category >= 0
    return boxes._replace(image=image, category=category).select(known), known

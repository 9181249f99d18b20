"""COCO JSON, checked and turned into arrays; errors name the entry by its index.

dataset = load("instances_val2017.json")
truth, images, categories = read_truth(dataset, "bbox")
found, known = read_detections(load("detections.json"), images, categories, "bbox")
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Json = str | os.PathLike[str]


class Boxes(NamedTuple):
    """Truths or detections as columns, in the order of the file."""

    image: Int[np.ndarray, " n"]  # position of the image's id among the sorted ids
    category: Int[np.ndarray, " n"]  # position of the category's id among the sorted ids
    box: Float[np.ndarray, "n 4"]  # xywh
    area: Float[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]  # of a truth: 0
    crowd: Bool[np.ndarray, " n"]  # of a detection: False
    difficult: Bool[np.ndarray, " n"]  # VOC's mark, without effect on COCO's figures; of a detection: False

    def select(self, index: np.ndarray) -> Boxes:
        """Those at an index or under a mask."""
        return Boxes(*(column[index] for column in self))


def load(source: Any) -> Any:
    """The content of a JSON file, or the objects that are given; raises ValueError that names a broken file."""
    if not isinstance(source, str | os.PathLike):
        return source
    try:
        return json.loads(Path(source).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(source)} is not JSON: {error}") from None


def read_truth(dataset: Any, iou_type: str) -> tuple[Boxes, dict[Any, int], dict[Any, int]]:
    """The truths of a COCO data set, and the positions of its image and category ids; boxes are 0 for ``segm``.

    Raises ValueError at a missing key, an id that is not listed, an area or box that is not a number, a negative side.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(dataset, Mapping) or key not in dataset:
            raise ValueError(f"the ground truth has no {key!r}; a COCO data set has images, annotations and categories")
    images = _positions(_column(dataset["images"], "id", "images"), "images")
    categories = _positions(_column(dataset["categories"], "id", "categories"), "categories")
    entries = dataset["annotations"]
    image = _look_up(_column(entries, "image_id", "annotations"), images, "annotations", "image_id")
    category = _look_up(_column(entries, "category_id", "annotations"), categories, "annotations", "category_id")
    area = _numbers(entries, "area", "annotations")
    crowd, difficult = (
        np.fromiter((bool(entry.get(key, 0)) for entry in entries), bool, len(entries))
        for key in ("iscrowd", "difficult")
    )
    boxes = _shapes(entries, "annotations", iou_type)
    return Boxes(image, category, boxes, area, np.zeros(len(entries)), crowd, difficult), images, categories


def read_detections(
    entries: Any, images: dict[Any, int], categories: dict[Any, int], iou_type: str
) -> tuple[Boxes, Bool[np.ndarray, " n"]]:
    """The detections of known categories, and which of the entries those are; raises as ``read_truth`` does."""
    if not isinstance(entries, Sequence):
        kind = type(entries).__name__
        raise ValueError(f"detections are a {kind}; a list of image_id, category_id, bbox, score is accepted")
    image = _look_up(_column(entries, "image_id", "detections"), images, "detections", "image_id")
    names = _column(entries, "category_id", "detections")
    try:
        category = np.fromiter((categories.get(name, -1) for name in names), np.int64, len(names))
    except TypeError:
        _positions(names, "detections' category_id")
        raise
    score = _numbers(entries, "score", "detections")
    box = _shapes(entries, "detections", iou_type)
    known = category >= 0
    found = Boxes(image, category, box, box[:, 2] * box[:, 3], score, *np.zeros((2, len(names)), bool))
    return found.select(known), known


def _positions(ids: list[Any], what: str) -> dict[Any, int]:
    try:
        return {name: position for position, name in enumerate(sorted(set(ids)))}
    except TypeError:
        kinds = ", ".join(sorted({type(name).__name__ for name in ids}))
        raise ValueError(f"{what} have ids of the types {kinds}; all numbers or all words are accepted") from None


def _column(entries: Sequence[Mapping[str, Any]], key: str, what: str) -> list[Any]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"{what} are of the type {type(entries).__name__}; a list is accepted")
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError):
        index, entry = next((i, e) for i, e in enumerate(entries) if not isinstance(e, Mapping) or key not in e)
        holds = f"it has {', '.join(map(str, entry))}" if isinstance(entry, Mapping) else f"it is {entry!r}"
        raise ValueError(f"{what}[{index}] has no {key!r}; {holds}") from None


def _look_up(ids: list[Any], known: dict[Any, int], what: str, key: str) -> Int[np.ndarray, " n"]:
    try:
        return np.fromiter(map(known.__getitem__, ids), np.int64, len(ids))
    except (KeyError, TypeError):  # TypeError: an id that no mapping can hold, as a list
        listed = list(known)
        index = next(i for i, name in enumerate(ids) if name not in listed)
        raise ValueError(
            f"{what}[{index}] has {key} {ids[index]!r}, which is none of the {len(known)} ids of the ground truth"
        ) from None


def _numbers(entries: Sequence[Mapping[str, Any]], key: str, what: str) -> Float[np.ndarray, " n"]:
    values = _column(entries, key, what)
    try:
        numbers = np.fromiter(values, float, len(values))
    except (TypeError, ValueError):
        index = next(i for i, value in enumerate(values) if not _is_number(value))
        raise ValueError(f"{what}[{index}] has {key} {values[index]!r}, which is not a number") from None
    for index in np.flatnonzero(np.isnan(numbers))[:1]:
        raise ValueError(f"{what}[{index}] has {key} nan; a number is accepted")
    return numbers


def _shapes(entries: Sequence[Mapping[str, Any]], what: str, iou_type: str) -> Float[np.ndarray, "n 4"]:
    if iou_type == "segm":
        _column(entries, "segmentation", what)
        return np.zeros((len(entries), 4))
    values = _column(entries, "bbox", what)
    try:
        sized = set(map(len, values)) <= {4}
        boxes = np.fromiter(itertools.chain.from_iterable(values), float, 4 * len(values)).reshape(-1, 4)
        right = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1) if sized else None
    except (TypeError, ValueError):
        right = None
    if right is None:
        right = np.array([isinstance(v, Iterable) and len(list(v)) == 4 and all(map(_is_number, v)) for v in values])
    for index in np.flatnonzero(~right)[:1]:
        accepted = "x, y, width >= 0, height >= 0, all finite, are accepted"
        raise ValueError(f"{what}[{index}] has bbox {values[index]!r}; {accepted}")
    return boxes


def _is_number(value: Any) -> bool:
    try:
        float(value)
        return True
    except (TypeError, ValueError):
        return False

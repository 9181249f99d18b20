"""COCO's objects, checked and turned into arrays; errors name the entry by its index and the field.

    truth = read_truth(dataset, "bbox")
    boxes, known = read_detections(entries, truth, "bbox")

The ids of one field are whole numbers, or all of them are texts, and so are the ids that refer to them: 1 and "1" are
two ids. Where the ids of the data set are numbers, detections may also name an image by its ``file_name`` (with or
without folder and suffix) and a category by its ``name``.
"""

from __future__ import annotations

import itertools
import math
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST = 1e100  # of a coordinate, so that areas do not overflow
_LVIS = ("neg_category_ids", "not_exhaustive_category_ids")

Tell = Callable[[str], object]


class Boxes(NamedTuple):
    """Truths or detections as columns, in the order of the file: boxes ``xywh``, and positions in place of ids.

    ``image`` and ``category`` are positions among the sorted ids; the score of a truth is 0.
    """

    image: Int[np.ndarray, " n"]  # position of the image's id among the sorted ids
    category: Int[np.ndarray, " n"]  # position of the category's id among the sorted ids
    box: Float[np.ndarray, "n 4"]  # xywh
    area: Float[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]  # of a truth: 0
    crowd: Bool[np.ndarray, " n"]  # of a detection: False
    difficult: Bool[np.ndarray, " n"]  # VOC's mark, without effect on COCO's figures; of a detection: False

    def select(self, index: np.ndarray) -> Boxes:
        """The truths or detections at an index or under a mask."""
        return Boxes(*(column[index] for column in self))


class Truth(NamedTuple):
    """A COCO data set, checked: its truths as columns, and the positions of its ids, file names and category names.

    ``id_zero`` counts the annotations with the id 0, which pycocotools takes for "unmatched".
    """

    boxes: Boxes
    images: dict[Any, int]  # id -> position, ascending
    categories: dict[Any, int]
    files: dict[str, int]  # file name -> position of its image
    names: dict[Any, str]  # category id -> its name, or the id in words
    named: dict[str, int]  # category name -> position
    id_zero: int  # annotations whose id is 0, which pycocotools takes for "unmatched"


def read_truth(dataset: Any, iou_type: str, tell: Tell = warnings.warn) -> Truth:
    """Check a COCO data set and turn its annotations into columns of truths; boxes are 0 for ``segm``.

    Where ``area`` is missing, it is the width times the height of the box. ``tell`` hears of that and of fields that
    COCO's rules pass over. Raises ValueError at a missing key, an id that is listed twice, not at all or of another
    type, a number that is a text, a boolean or not finite, a negative side, an ``iscrowd`` or ``difficult`` other than
    0 and 1.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(dataset, Mapping) or key not in dataset:
            raise ValueError(f"the ground truth has no {key!r}; a COCO data set has images, annotations and categories")
    entries = dataset["annotations"]
    image_ids, category_ids = (_ids(dataset[what], "id", what) for what in ("images", "categories"))
    images, categories = _positions(image_ids, "images"), _positions(category_ids, "categories")
    category_names = [entry.get("name", name) for name, entry in zip(category_ids, dataset["categories"], strict=True)]
    image, category = (
        look_up(_ids(entries, key, "annotations"), known, "annotations", key, required=True)
        for key, known in (("image_id", images), ("category_id", categories))
    )
    boxes = _shapes(entries, "annotations", iou_type)
    area = _areas(entries, boxes, iou_type, tell)
    crowd, difficult = (_flags(entries, key) for key in ("iscrowd", "difficult"))
    if ignored := sum(bool(entry.get("ignore", 0)) for entry in entries):
        tell(f"annotations marked as ignore: {ignored}; they count as any other, as in pycocotools")
    if any(key in entry for entry in dataset["images"] for key in _LVIS):
        tell(
            f"images have LVIS's {' and '.join(_LVIS)}; COCO's rules pass over them, so that the figures are not LVIS's"
        )
    return Truth(
        Boxes(image, category, boxes, area, np.zeros(len(entries)), crowd, difficult),
        images,
        categories,
        _file_names([entry.get("file_name") for entry in dataset["images"]], image_ids, images),
        {name: str(text) for name, text in zip(category_ids, category_names, strict=True)},
        _unambiguous(zip(category_names, category_ids, strict=True), categories),
        sum(entry.get("id", 1) == 0 for entry in entries),
    )


def read_detections(
    entries: Any, truth: Truth, iou_type: str, tell: Tell = warnings.warn
) -> tuple[Boxes, Bool[np.ndarray, " n"]]:
    """Check a COCO result list and turn the entries of known categories into columns.

    The mask says which of the entries those are. Raises ValueError as ``read_truth`` does.
    """
    image_ids, category_ids = (_ids(entries, key, "detections") for key in ("image_id", "category_id"))
    image = look_up(image_ids, truth.images, "detections", "image_id", named=truth.files, required=True, tell=tell)
    category = look_up(category_ids, truth.categories, "detections", "category_id", named=truth.named, tell=tell)
    score = _numbers(entries, "score", "detections")
    box = _shapes(entries, "detections", iou_type)
    known = category >= 0
    boxes = Boxes(image, category, box, box[:, 2] * box[:, 3], score, *np.zeros((2, len(entries)), bool))
    return boxes.select(known), known


def results_of(content: Any) -> Any:
    """The list of COCO results in what a JSON file holds, or that under ``annotations``.

    Raises ValueError without either.
    """
    if isinstance(content, Mapping):
        content = content.get("annotations")
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise ValueError("detections are no list; a list of image_id, category_id, bbox, score is accepted, "
                         "or an object that has it under 'annotations'")  # fmt: skip
    return content


# Ids -----------------------------------------------------------------------------------------------------------------


def look_up(
    ids: list[Any],
    known: dict[Any, int],
    what: str,
    key: str,
    *,
    named: dict[str, int] | None = None,
    required: bool = False,
    tell: Tell = warnings.warn,
) -> Int[np.ndarray, " n"]:
    """The position of each id of an image or category, -1 for one that is not known.

    ``named`` has the positions of names, which texts are looked up among where the known ids are numbers. Raises
    ValueError where the ids are texts and the known ones numbers or the reverse, and, if ``required``, at the first id
    that is not known.
    """
    if ids and known and isinstance(ids[0], str) != isinstance(next(iter(known)), str):
        if not named or not any(name in named for name in ids if isinstance(name, str)):
            kind = _kind(next(iter(known)))
            raise ValueError(f"{what}[0] has {key} {shorten(ids[0])}, a {_kind(ids[0])}, which is none of the "
                             f"{len(known)} ids of the ground truth: each of those is a {kind}")  # fmt: skip
        tell(f"{what} have names for {key}; they are looked up among those of the ground truth")
        known = named
    try:
        return np.fromiter(map(known.__getitem__, ids), np.int64, len(ids))
    except KeyError:
        position = np.fromiter((known.get(name, -1) for name in ids), np.int64, len(ids))
    for index in np.flatnonzero(position < 0)[:1] if required else ():
        name = shorten(ids[index])
        raise ValueError(f"{what}[{index}] has {key} {name}, which is none of the {len(known)} ids of the ground truth")
    return position


def _file_names(files: list[Any], ids: list[Any], positions: Mapping[Any, int]) -> dict[str, int]:
    """Position by file name, with and without its folder and its suffix; a name that two images share is left out."""
    pairs = []
    for file, name in zip(files, ids, strict=True):
        if isinstance(file, str):
            base = file.replace("\\", "/").rpartition("/")[2]
            pairs += [(text, name) for text in {file, base, base.rpartition(".")[0] or base}]
    return _unambiguous(pairs, positions)


def _unambiguous(pairs: Iterable[tuple[Any, Any]], positions: Mapping[Any, int]) -> dict[str, int]:
    """The position of each text that stands for one id and spells no id: "1" may mean the id 1 or the file 1.png."""
    ids: dict[str, set[Any]] = {}
    for text, name in pairs:
        if isinstance(text, str):
            ids.setdefault(text, set()).add(name)
    taken = set(map(str, positions))
    return {text: positions[next(iter(names))] for text, names in ids.items() if len(names) == 1 and text not in taken}


def _ids(entries: Any, key: str, what: str) -> list[Any]:
    """A column of ids: whole numbers, or all of them texts."""
    values = _column(entries, key, what)
    if set(map(type, values)) in ({int}, {str}, set()):
        return values
    for index, value in enumerate(values):
        if not (isinstance(value, str) or _is_whole(value)):
            raise ValueError(f"{what}[{index}] has {key} {shorten(value)}; a whole number or a text is accepted")
        if isinstance(value, str) != isinstance(values[0], str):
            raise ValueError(f"{what}[{index}] has {key} {shorten(value)}, a {_kind(value)}, and {what}[0] "
                             f"{shorten(values[0])}, a {_kind(values[0])}; one of the two is accepted")  # fmt: skip
    return [int(value) for value in values]


def _positions(ids: list[Any], what: str) -> dict[Any, int]:
    positions = {name: position for position, name in enumerate(sorted(set(ids)))}
    if len(positions) < len(ids):
        first: dict[Any, int] = {}
        again, name = next((i, name) for i, name in enumerate(ids) if first.setdefault(name, i) != i)
        raise ValueError(
            f"{what}[{again}] has id {shorten(name)}, as {what}[{first[name]}] has; an id may be used once"
        )
    return positions


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and as a float below 2^53, where whole numbers are told apart."""
    if not _is_number(value):
        return False
    return isinstance(value, int | np.integer) or (float(value).is_integer() and abs(float(value)) < 2**53)


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "number"


# Fields --------------------------------------------------------------------------------------------------------------


def _column(entries: Any, key: str, what: str) -> list[Any]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"{what} are of the type {type(entries).__name__}; a list is accepted")
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError):
        index, entry = next((i, e) for i, e in enumerate(entries) if not isinstance(e, Mapping) or key not in e)
        holds = f"it has {', '.join(map(str, entry))}" if isinstance(entry, Mapping) else f"it is {shorten(entry)}"
        raise ValueError(f"{what}[{index}] has no {key!r}; {holds}") from None


def _numbers(entries: Any, key: str, what: str) -> Float[np.ndarray, " n"]:
    values = _column(entries, key, what)
    if set(map(type, values)) <= {float}:
        numbers = np.fromiter(values, float, len(values))
        if np.isfinite(numbers).all():
            return numbers
    for index, value in enumerate(values):
        if not _is_number(value):
            raise ValueError(f"{what}[{index}] has {key} {shorten(value)}, which is not a number")
        if not _is_finite(value):
            raise ValueError(f"{what}[{index}] has {key} {shorten(value)}; a finite number is accepted")
    return np.fromiter(map(float, values), float, len(values))


def _flags(entries: Sequence[Mapping[str, Any]], key: str) -> Bool[np.ndarray, " n"]:
    """A mark of each entry, 0 where it is missing."""
    values = [entry.get(key, 0) for entry in entries]
    if set(map(type, values)) <= {int, bool} and set(values) <= {0, 1}:
        return np.array(values, dtype=bool)
    for index, value in enumerate(values):
        if not (isinstance(value, bool | np.bool_) or (_is_number(value) and value in (0, 1))):
            raise ValueError(f"annotations[{index}] has {key} {shorten(value)}; 0 or 1 is accepted")
    return np.array(values, dtype=bool)


def _areas(
    entries: Sequence[Mapping[str, Any]], boxes: np.ndarray, iou_type: str, tell: Tell
) -> Float[np.ndarray, " n"]:
    lacking = np.array(["area" not in entry for entry in entries], dtype=bool)
    if not lacking.any() or iou_type == "segm":
        return _numbers(entries, "area", "annotations")
    tell(f"annotations without an area: {lacking.sum()}; it is taken as width x height of the box")
    given = _numbers([{"area": entry.get("area", 0)} for entry in entries], "area", "annotations")
    return np.where(lacking, boxes[:, 2] * boxes[:, 3], given)


def _shapes(entries: Sequence[Mapping[str, Any]], what: str, iou_type: str) -> Float[np.ndarray, "n 4"]:
    if iou_type == "segm":
        _column(entries, "segmentation", what)
        return np.zeros((len(entries), 4))
    values = _column(entries, "bbox", what)
    try:
        plain = set(map(len, values)) <= {4} and set(map(type, values)) <= {list, tuple}
        plain = plain and set(map(type, itertools.chain.from_iterable(values))) <= {int, float}
        boxes = (
            np.fromiter(itertools.chain.from_iterable(values), float, 4 * len(values)).reshape(-1, 4) if plain else None
        )
    except (TypeError, ValueError, OverflowError):
        boxes = None
    if boxes is None or not _are_boxes(boxes).all():
        index = next((i for i, value in enumerate(values) if not _is_box(value)), None)
        if index is not None:
            accepted = f"x, y, width >= 0, height >= 0, all finite and below {LARGEST:g}, are accepted"
            raise ValueError(f"{what}[{index}] has bbox {shorten(values[index])}; {accepted}")
        boxes = np.array([[float(x) for x in value] for value in values]).reshape(-1, 4)
    return boxes


def _are_boxes(boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    return (np.abs(boxes) < LARGEST).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)


def _is_box(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return False
    sides = list(value)
    if len(sides) != 4 or not all(_is_number(side) and _is_finite(side) for side in sides):
        return False
    return bool(_are_boxes(np.array([[float(side) for side in sides]]))[0])


def _is_number(value: Any) -> bool:
    """Whether a value is a number itself: no text or boolean that could be converted into one."""
    return not isinstance(value, str | bytes | bool | np.bool_) and (
        isinstance(value, int | float | np.number)
        or (hasattr(value, "__float__") and getattr(value, "ndim", None) == 0)
    )


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxdict = 6


def shorten(value: Any) -> str:
    """Write a value as an error message shows it: on one line, and cut where it is long."""
    return _SHORT.repr(value)

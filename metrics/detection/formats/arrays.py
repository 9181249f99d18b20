"""Boxes from tensors and arrays, with one mapping per image or flat, checked and put into columns.

Coordinates become float64 before widths and heights are computed as differences, so that float32 corners lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from metrics.detection.formats.coco_json import LARGEST, Boxes

FLAT = {
    "ground truth": ("images", "boxes", "labels", "iscrowd", "area"),
    "detections": ("images", "boxes", "labels", "scores"),
}
_NEEDED = {"ground truth": ("boxes", "labels"), "detections": ("boxes", "labels", "scores")}


class ArrayBoxes(NamedTuple):
    """Truths or detections from tensors or arrays: boxes with their own image ids, and the number of images.

    It is None where it is not known.
    """

    boxes: Boxes
    n_images: int | None  # of a list with one mapping per image


def read_arrays(source: Any, what: str) -> ArrayBoxes | None:
    """Give truths or detections that are tensors or arrays as columns; None where the source is something else.

    ``what`` is "ground truth" or "detections". Raises ValueError that names the mapping, the key and the row: a missing
    key, unlike lengths, another shape, an array that does not hold numbers, a score or area that is not finite, a box
    that is not finite or has a negative side, a label or image that is no whole number, an ``iscrowd`` other than 0 and
    1.
    """
    if isinstance(source, ArrayBoxes):
        return source
    if isinstance(source, Mapping) and "boxes" in source:
        return _flat(source, what)
    if isinstance(source, tuple) and source and hasattr(source[0], "shape"):
        if not 2 < len(source) <= len(FLAT[what]):
            raise ValueError(f"{what} is a tuple of {len(source)}; {', '.join(FLAT[what])} is accepted")
        return _flat(dict(zip(FLAT[what], source, strict=False)), what)
    if isinstance(source, Sequence) and source and isinstance(source[0], Mapping) and "boxes" in source[0]:
        return _per_image(source, what)
    return None


def _flat(source: Mapping[str, Any], what: str) -> ArrayBoxes:
    for key in ("images", *_NEEDED[what]):
        if key not in source:
            raise ValueError(f"{what} has no {key!r}; it has {', '.join(map(str, source))}")
    values = {key: _array(source[key]) for key in FLAT[what] if source.get(key) is not None}
    _check_lengths(values, what)
    image = _whole(values["images"], "images", lambda i: (what, i))
    return _columns(image, values, what, lambda i: (what, i), None)


def _per_image(source: Sequence[Mapping[str, Any]], what: str) -> ArrayBoxes:
    for i, entry in enumerate(source):
        for key in _NEEDED[what]:
            if not isinstance(entry, Mapping) or key not in entry:
                holds = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else repr(entry)
                raise ValueError(f"{what}[{i}] has no {key!r}; it has {holds}")
    count = [len(entry["labels"]) for entry in source]
    image = np.repeat(np.arange(len(source)), count)
    values = {}
    for key in FLAT[what][1:]:
        if key in _NEEDED[what]:
            parts = [entry[key] for entry in source]
        elif any(entry.get(key) is not None for entry in source):
            parts = [_optional(entry, key, n) for entry, n in zip(source, count, strict=True)]
        else:
            continue
        values[key] = _concatenate(
            [_checked(part, f"{what}[{i}]", key, n) for i, (part, n) in enumerate(zip(parts, count, strict=True)) if n]
        )
    first = np.cumsum(count) - np.array(count)

    def where(row: int) -> tuple[str, int]:
        return f"{what}[{image[row]}]", row - int(first[image[row]])

    return _columns(image, values, what, where, len(source))


def _checked(part: Any, name: str, key: str, n: int) -> Any:
    part = part if hasattr(part, "shape") else np.asarray(part)
    shape = (n, 4) if key == "boxes" else (n,)
    if part.shape != shape:
        raise ValueError(f"{name} has {key} of the shape {tuple(part.shape)} and {n} labels; {shape} is accepted")
    return part


def _optional(entry: Mapping[str, Any], key: str, n: int) -> Any:
    if entry.get(key) is not None:
        return _array(entry[key])
    if key == "iscrowd":
        return np.zeros(n)
    box = _array(entry["boxes"]).astype(float).reshape(-1, 4)
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def _columns(
    image: np.ndarray, values: dict[str, np.ndarray], what: str, where: Any, n_images: int | None
) -> ArrayBoxes:
    n = len(image)
    for key, column in values.items():
        shape = (n, 4) if key == "boxes" else (n,)
        if column.shape != shape and n:
            raise ValueError(f"{what} has {key} of the shape {column.shape}; {shape} is accepted")
        kinds = "fiu" if key in ("boxes", "scores", "area") else "fiub"
        if column.dtype.kind not in kinds and n:
            raise ValueError(f"{what} has {key} of the type {column.dtype}; numbers are accepted")
    corners = values["boxes"].astype(float).reshape(-1, 4)
    with np.errstate(invalid="ignore"):  # infinite corners are refused below
        box = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    # NaN and infinite corners give sides that are not >= 0, or boxes that are not below the bound
    for row in np.flatnonzero(~((box[:, 2:] >= 0).all(axis=1) & (np.abs(box) < LARGEST).all(axis=1)))[:1]:
        name, at = where(int(row))
        accepted = "x1 <= x2, y1 <= y2, all finite, are accepted"
        raise ValueError(f"{name} has boxes[{at}] {corners[row].tolist()}; {accepted}")
    score = values["scores"].astype(float) if "scores" in values else np.zeros(n)
    area = values["area"].astype(float) if "area" in values else box[:, 2] * box[:, 3]
    for key, column in (("scores", score), ("area", area)):
        for row in np.flatnonzero(~np.isfinite(column))[:1]:
            name, at = where(int(row))
            raise ValueError(f"{name} has {key}[{at}] {column[row]}; a finite number is accepted")
    crowd = np.asarray(values.get("iscrowd", np.zeros(n)))
    for row in np.flatnonzero((crowd != 0) & (crowd != 1))[:1]:
        name, at = where(int(row))
        raise ValueError(f"{name} has iscrowd[{at}] {crowd[row]}; 0 or 1 is accepted")
    label = _whole(values["labels"], "labels", where)
    return ArrayBoxes(Boxes(image, label, box, area, score, crowd.astype(bool), np.zeros(n, bool)), n_images)


def _whole(values: np.ndarray, key: str, where: Any) -> Int[np.ndarray, " n"]:
    """Ids as whole numbers; a float that is no whole number, or too large to be told from the next, is refused."""
    if values.dtype.kind in "iu":
        right = values <= np.iinfo(np.int64).max
    elif values.dtype.kind == "f":
        right = (np.abs(values) < 2**53) & (values == np.floor(values))
    else:
        right = np.zeros(len(values), bool)
    for row in np.flatnonzero(~right)[:1]:
        name, at = where(int(row))
        raise ValueError(f"{name} has {key}[{at}] {values[row]}; a whole number is accepted")
    return values.astype(np.int64)


def _check_lengths(values: dict[str, np.ndarray], what: str) -> None:
    lengths = {key: len(value) for key, value in values.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what} has columns of unlike lengths: {', '.join(f'{k} {n}' for k, n in lengths.items())}")


def _concatenate(parts: list[Any]) -> np.ndarray:
    if not parts:
        return np.zeros(0)
    if all(hasattr(part, "detach") for part in parts):
        import torch  # one copy to the host takes a tenth of the time of one per image

        return _array(torch.cat(parts))
    return np.concatenate([_array(part) for part in parts])


def _array(values: Any) -> np.ndarray:
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    return values.double().numpy() if values.is_floating_point() else values.numpy()  # NumPy knows no bfloat16

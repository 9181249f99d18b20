"""COCO's segmentations, checked before a library reads them, whose own messages name neither file nor entry.

A segmentation is a list of polygons ``[x1, y1, x2, y2, x3, y3, ...]``, or a run-length encoding (RLE) ``{"size":
[height, width], "counts": ...}`` of the size of the image. ``counts`` are the lengths of runs that alternate between 0
and 1, column by column: a list, or a text that compresses it. In the text each character, counted from "0", has five
bits of a number, low bits first, and a sixth bit that says whether more follow; numbers are in two's complement, and
from the fourth on each is the difference to the run two before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int


def image_sizes(images: Sequence[Mapping[str, Any]], positions: Mapping[Any, int]) -> list[dict[str, int]]:
    """Height and width of each image of a COCO data set, by position.

    Raises ValueError that names an image without them.
    """
    sizes: list[dict[str, int]] = [{}] * len(positions)
    for index, entry in enumerate(images):
        for key in ("height", "width"):
            value = entry.get(key)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value < 2**20:
                has = f"has {key} {str(value)[:40]}" if key in entry else f"has no {key!r}"
                raise ValueError(f"images[{index}] {has}; masks need that of every image, a whole number of pixels")
        sizes[positions[entry["id"]]] = {"height": int(entry["height"]), "width": int(entry["width"])}
    return sizes


def read_masks(
    entries: Mapping[int, Mapping[str, Any]],
    image: Int[np.ndarray, " n"],
    sizes: Sequence[Mapping[str, int]],
    what: str,
    *,
    compress: bool,
) -> list[Any]:
    """The segmentations of COCO entries by index, checked; ``compress`` turns all of them into compressed RLE.

    ``image`` has the position of each entry's image, ``sizes`` the height and width by position. Raises ValueError that
    names the entry: neither polygons nor an encoding, fewer than three points, an encoding of another size, or one
    whose runs do not fill the image.
    """
    masks = []
    for (index, entry), at in zip(entries.items(), image.tolist(), strict=True):
        height, width = sizes[at]["height"], sizes[at]["width"]
        value = entry["segmentation"]
        try:
            _check(value, height, width)
        except ValueError as error:
            raise ValueError(f"{what}[{index}] has a bad segmentation: {error}") from None
        masks.append(_compressed(value, height, width) if compress else value)
    return masks


def run_lengths(counts: str | bytes) -> Int[np.ndarray, " runs"]:
    """The lengths of the runs of 0 and 1, column by column, in COCO's compressed RLE.

    Raises ValueError on other text.
    """
    try:
        code = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64)
    except UnicodeEncodeError:
        raise ValueError("counts hold characters that no compressed run has") from None
    code -= 48
    if not len(code):
        return code
    if code.min() < 0 or code.max() > 63 or code[-1] & 32:
        raise ValueError("counts hold characters that no compressed run has, or end within a run")
    start = np.concatenate([[0], np.flatnonzero((code & 32) == 0)[:-1] + 1])
    place = np.arange(len(code)) - np.repeat(start, np.diff(start, append=len(code)))
    if place.max() > 5:
        raise ValueError("counts hold a run longer than any image")
    value = np.add.reduceat((code & 31) << (5 * place), start)
    last = np.append(start[1:], len(code)) - 1
    value -= np.where(code[last] & 16, 1 << (5 * (place[last] + 1)), 0)
    for parity in (1, 2):  # differences to the run two before, from the fourth on
        value[parity::2] = np.cumsum(value[parity::2])
    return value


def _check(value: Any, height: int, width: int) -> None:
    if isinstance(value, Mapping):
        if not {"size", "counts"} <= value.keys():
            raise ValueError("an RLE has size and counts")
        size = value["size"]
        if not isinstance(size, Sequence) or isinstance(size, str) or list(size) != [height, width]:
            raise ValueError(f"its RLE has the size {str(size)[:40]}, and the image's is [{height}, {width}]")
        counts = value["counts"]
        if isinstance(counts, str | bytes):
            runs = run_lengths(counts)
        elif isinstance(counts, Sequence) and all(type(count) is int and 0 <= count < 2**40 for count in counts):
            runs = np.array(counts, dtype=np.int64)
        else:
            raise ValueError("the counts of an RLE are whole numbers from 0, or one text")
        if runs.min(initial=0) < 0 or runs.sum() != height * width:
            raise ValueError(f"the runs of its RLE hold {runs.sum()} pixels, and the image {height * width}")
    elif isinstance(value, Sequence) and not isinstance(value, str) and len(value):
        for polygon in value:
            if not isinstance(polygon, Sequence) or isinstance(polygon, str) or len(polygon) < 6 or len(polygon) % 2:
                raise ValueError("a polygon is x1, y1, x2, y2, x3, y3, ...: three points or more")
            if not all(type(side) in (int, float) and abs(side) < 1e9 for side in polygon):
                raise ValueError("a polygon holds numbers in pixels")
    else:
        raise ValueError("a list of polygons, or an RLE with size and counts, is accepted")


def _compressed(value: Any, height: int, width: int) -> Any:
    from pycocotools import mask

    if not isinstance(value, Mapping):
        return mask.merge(mask.frPyObjects(list(value), height, width))
    if isinstance(value["counts"], str | bytes):
        return value
    return mask.frPyObjects(dict(value), height, width)

"""The parameters of COCO's evaluation: IoU thresholds, area ranges, numbers of detections (pycocotools' ``Params``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
EVERYTHING = (0.0, 1e5**2)  # the range "all", which is always COCO's
AREAS = {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e5**2)}


@dataclass(frozen=True)
class CocoParams:
    """The checked parameters of COCO's evaluation: IoU thresholds, area ranges, and numbers of detections.

    The numbers are those per image and class.
    """

    iou_thresholds: tuple[float, ...] = IOU_THRESHOLDS  # ascending
    area_names: tuple[str, ...] = ("all", *AREAS)
    area_ranges: tuple[tuple[float, float], ...] = (EVERYTHING, *AREAS.values())
    max_detections: tuple[int, ...] = (1, 10, 100)  # ascending; per image and class

    @property
    def least_ious(self) -> Float[np.ndarray, " iou"]:
        """The smallest IoU that meets each threshold: ``min(t, 1 - 1e-10)``, as COCO has it."""
        return np.minimum(self.iou_thresholds, 1 - 1e-10)

    def outside(self, area: Float[np.ndarray, " n"]) -> Bool[np.ndarray, "area n"]:
        """Which areas, in squared pixels, lie outside each range; both ends belong to the range."""
        ranges = np.array(self.area_ranges)
        return (area < ranges[:, :1]) | (area > ranges[:, 1:])

    def position(self, iou: float) -> int:
        """The index of an IoU threshold among the parameters; raises ValueError on an IoU that is none of them."""
        near = np.flatnonzero(np.isclose(self.iou_thresholds, iou, rtol=0, atol=1e-9))
        if not len(near):
            raise ValueError(f"iou {iou} is none of {', '.join(f'{t:g}' for t in self.iou_thresholds)}")
        return int(near[0])


def make_params(
    iou_thresholds: Sequence[float] | None = None,
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_detections: int | Sequence[int] = (1, 10, 100),
) -> CocoParams:
    """Check the parameters of COCO's evaluation and put them in order; what is not given is COCO's.

    ``area_ranges`` maps a name to the least and greatest area in pixels, both of which belong to the range; its figures
    are called ``AP`` and ``AR`` with that name behind. The range of all areas is always there, and first.
    ``max_detections`` are numbers of detections per image and class. Raises ValueError on thresholds outside (0, 1], on
    names that are not made of letters and digits, on ranges that are empty, on numbers of detections below 1, on
    duplicates, and where there is no threshold or no number of detections.
    """
    thresholds = IOU_THRESHOLDS if iou_thresholds is None else tuple(sorted(_numbers(iou_thresholds, "iou_thresholds")))
    if not thresholds or not all(0 < t <= 1 for t in thresholds) or min(np.diff(thresholds), default=1.0) < 1e-9:
        raise ValueError(f"iou_thresholds {thresholds} must be distinct and in (0, 1]")
    limits = [max_detections] if isinstance(max_detections, int | np.integer) else list(max_detections)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1 for n in limits)
    if not limits or not whole or len(set(limits)) < len(limits):
        raise ValueError(f"max_detections {max_detections} must be distinct positive numbers")
    ranges = {}
    for name, bounds in (AREAS if area_ranges is None else area_ranges).items():
        if not (isinstance(name, str) and name.isidentifier() and name != "all"):
            accepted = "a name of letters and digits, but for 'all', which always is there, is accepted"
            raise ValueError(f"area range {name!r}: {accepted}")
        pair = _numbers(bounds, f"area range {name!r}")
        if len(pair) != 2 or not pair[0] <= pair[1]:
            raise ValueError(f"area range {name!r} is {bounds}; the least and the greatest area are accepted")
        ranges[name] = (pair[0], pair[1])
    return CocoParams(thresholds, ("all", *ranges), (EVERYTHING, *ranges.values()), tuple(sorted(map(int, limits))))


def _numbers(values: Sequence[float], what: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{what} {values!r} is no list of numbers") from None

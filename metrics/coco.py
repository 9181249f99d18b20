"""COCO's average precision and recall of detections, from COCO JSON, by an array engine or by two library backends.

The rules are those of pycocotools' ``COCOeval``, ties and corners included:

- IoU thresholds .5, .55, ..., .95 (each ``min(t, 1 - 1e-10)``); 101 recalls, read off the right-to-left envelope of
  precision at the first detection whose recall reaches them.
- At most ``max_detections[-1]`` detections an image **and class** take part, best scores first. Equal scores keep the
  order of image ids, then of the file.
- A detection takes, among the free truths of its image and class that it overlaps enough, the one of greatest IoU (the
  later one on a tie); a truth that counts goes before an ignored one. Crowds are ignored truths, may be taken any
  number of times, and overlap by intersection over the *detection's* area.
- Area ranges (all, small, medium, large) include both ends, so that 32^2 is small and medium. They hold against a
  truth's ``area`` and a detection's width x height. A truth outside is ignored, and so is a detection outside that
  matches nothing.
- A field ``ignore`` of an annotation has no effect; a figure without ground truth is -1; detections of a category that
  the ground truth does not list are left out and counted in ``left_out``.

Annotations are renumbered from 1 before they reach a backend: in pycocotools an id of 0 means "unmatched", which turns
true positives into false ones. ``AP`` here is at ``max_detections[-1]``; pycocotools' first figure always is at 100.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.coco_json import Boxes, Json, load, read_detections, read_truth

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=float)  # all, small, medium, large


@dataclass(frozen=True)
class CocoResult:
    """The figures, also as attributes (``result.AP50``), with the arrays that they are means of."""

    figures: dict[str, float]  # AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; -1 without ground truth
    per_class: dict[Any, float]  # category id -> AP
    precision: Float[np.ndarray, "iou recall category area max_detections"] = field(repr=False)
    recall: Float[np.ndarray, "iou category area max_detections"] = field(repr=False)
    max_detections: tuple[int, ...]
    left_out: int  # detections of categories that the ground truth does not list

    def __getattr__(self, name: str) -> float:
        figures = self.__dict__.get("figures", {})  # not yet there while it is unpickled
        if name not in figures:
            raise AttributeError(f"no figure {name!r}; there are {', '.join(figures)}")
        return figures[name]


def evaluate_coco(
    ground_truth: Json | Mapping[str, Any],
    detections: Json | Sequence[Mapping[str, Any]],
    *,
    iou_type: Literal["bbox", "segm"] = "bbox",
    max_detections: Sequence[int] = (1, 10, 100),
    backend: Literal["fidmap", "faster_coco_eval", "pycocotools"] = "fidmap",
) -> CocoResult:
    """Average precision and recall under COCO's rules (see the module), boxes ``xywh`` in pixels.

    ``ground_truth`` is a COCO data set (images, annotations, categories), ``detections`` a list of ``image_id,
    category_id, bbox, score``; each as objects or as a JSON file. ``AR1, AR10, AR100`` are named by ``max_detections``.
    Masks (``segm``) need a library backend. Raises ValueError that names the entry, at a missing key, an unknown image,
    a score that is NaN, a box that is not finite or has a negative side. Paper: arXiv 1405.0312.
    """
    if backend not in ("fidmap", *_LIBRARIES):
        raise ValueError(f"backend {backend!r} is not one of fidmap, {', '.join(_LIBRARIES)}")
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type {iou_type!r} is not one of bbox, segm")
    if iou_type == "segm" and backend == "fidmap":
        raise ValueError("iou_type 'segm' needs backend='faster_coco_eval' or 'pycocotools'")
    limits = tuple(sorted(max_detections))
    if not limits or limits[0] < 1 or len(set(limits)) < len(limits):
        raise ValueError(f"max_detections {tuple(max_detections)} must be distinct positive numbers")

    dataset, entries = load(ground_truth), load(detections)
    truth, images, categories = read_truth(dataset, iou_type)
    found, known = read_detections(entries, images, categories, iou_type)
    if backend == "fidmap":
        precision, recall = _evaluate(truth, found, len(images), len(categories), limits)
    else:
        kept = [entries[i] for i in np.flatnonzero(known)]
        precision, recall = _evaluate_by_library(backend, dataset, kept, iou_type, limits)
    per_class = {category: _mean(precision[:, :, k, 0, -1]) for category, k in categories.items()}
    return CocoResult(
        _figures(precision, recall, limits), per_class, precision, recall, limits, int(np.count_nonzero(~known))
    )


def _figures(precision: np.ndarray, recall: np.ndarray, limits: tuple[int, ...]) -> dict[str, float]:
    figures = {"AP": _mean(precision[:, :, :, 0, -1])}
    figures |= {f"AP{t}": _mean(precision[i, :, :, 0, -1]) for i, t in ((0, 50), (5, 75))}
    figures |= {f"AP{size}": _mean(precision[:, :, :, a, -1]) for a, size in enumerate("sml", 1)}
    figures |= {f"AR{limit}": _mean(recall[:, :, 0, m]) for m, limit in enumerate(limits)}
    return figures | {f"AR{size}": _mean(recall[:, :, a, -1]) for a, size in enumerate("sml", 1)}


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


# The array engine ----------------------------------------------------------------------------------------------------


class _Matches(NamedTuple):
    detection: Int[np.ndarray, " candidate"]  # ascending; those that overlap some truth by .5 at least
    hit: Bool[np.ndarray, "candidate iou area"]  # matched
    ignored: Bool[np.ndarray, "candidate iou area"]  # matched to a truth that does not count


def _evaluate(
    truth: Boxes, found: Boxes, n_images: int, n_categories: int, limits: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    truth = truth.select(np.argsort(truth.category * n_images + truth.image, kind="stable"))
    found = found.select(np.lexsort((found.image, -found.score, found.category)))  # ties: image, then file order
    cell = found.category * n_images + found.image
    rank = _rank(cell)
    among = rank < limits[-1]
    found, cell, rank = found.select(among), cell[among], rank[among]

    unused = truth.crowd[:, None] | _outside(truth.area)  # truths that do not count, by area range
    matches = _match(truth, found, truth.category * n_images + truth.image, cell, unused)
    positives = np.stack([np.bincount(truth.category[~u], minlength=n_categories) for u in unused.T], axis=1)
    return _accumulate(found, rank, matches, positives, limits)


def _outside(area: Float[np.ndarray, " n"]) -> Bool[np.ndarray, "n area"]:
    return (area[:, None] < AREAS[:, 0]) | (area[:, None] > AREAS[:, 1])


def _rank(group: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Position of each element among those of its group, in their order."""
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = _position_in_run(group[order])
    return rank


def _position_in_run(values: np.ndarray) -> Int[np.ndarray, " n"]:
    index = np.arange(len(values))
    starts = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return index - np.maximum.accumulate(np.where(starts, index, 0))


def _match(
    truth: Boxes, found: Boxes, truth_cell: np.ndarray, cell: np.ndarray, unused: Bool[np.ndarray, "truth area"]
) -> _Matches:
    """COCO's greedy assignment; round r treats the r-th candidate of every image and class at once.

    A candidate's truths are sorted by preference (IoU, then the later), which depends on neither threshold nor area;
    so its match is the first free one, those that count before those that do not.
    """
    detection, gt, iou = _overlaps(truth, found, truth_cell, cell)
    candidates, candidate = np.unique(detection, return_inverse=True)
    turn = _rank(cell[candidates])
    order = np.lexsort((-gt, -iou, candidate, turn[candidate]))
    gt, iou, candidate = gt[order], iou[order], candidate[order]
    preference = _position_in_run(candidate).astype(np.int32)[:, None, None]
    rounds = np.searchsorted(turn[candidate], np.arange(turn.max(initial=-1) + 2))

    enough = (iou[:, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10))[:, :, None]
    last = np.int32(preference.max(initial=0) + 1)  # ignored truths stand behind all others
    nothing = 2 * last
    shape = len(IOU_THRESHOLDS), len(AREAS)
    taken = np.zeros((len(truth.area), *shape), bool)
    hit, ignored = np.zeros((2, len(candidates), *shape), bool)
    for start, end in itertools.pairwise(rounds):
        g, part = gt[start:end], slice(start, end)
        free = enough[part] & (~taken[g] | truth.crowd[g, None, None])
        cost = np.where(free, preference[part] + last * unused[g, None, :], nothing)
        first = np.flatnonzero(preference[part, 0, 0] == 0)
        best = np.minimum.reduceat(cost, first, axis=0)
        matched = best < nothing
        who, t, a = np.nonzero(matched)
        taken[g[first[who] + best[matched] % last], t, a] = True
        hit[candidate[start + first]] = matched
        ignored[candidate[start + first]] = matched & (best >= last)
    return _Matches(candidates, hit, ignored)


def _overlaps(
    truth: Boxes, found: Boxes, truth_cell: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of a detection and a truth of its image and class whose IoU reaches the lowest threshold."""
    low = np.searchsorted(truth_cell, cell, side="left")
    count = np.searchsorted(truth_cell, cell, side="right") - low
    detection = np.repeat(np.arange(len(cell)), count)
    gt = np.arange(len(detection)) + np.repeat(low - (np.cumsum(count) - count), count)
    d, g = found.box[detection], truth.box[gt]
    sides = np.minimum(d[:, :2] + d[:, 2:], g[:, :2] + g[:, 2:]) - np.maximum(d[:, :2], g[:, :2])
    intersection = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    areas = d[:, 2] * d[:, 3]
    union = np.where(truth.crowd[gt], areas, areas + g[:, 2] * g[:, 3] - intersection)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)
    near = iou >= IOU_THRESHOLDS[0]
    return detection[near], gt[near], iou[near]


def _accumulate(
    found: Boxes, rank: np.ndarray, matches: _Matches, positives: Int[np.ndarray, "category area"], limits: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Precision at the 101 recalls, and the last recall.

    Only candidates are walked: between two of them precision falls, so the envelope never needs the others; they enter
    as counts of false positives.
    """
    n_categories, n_areas = positives.shape
    shape = n_categories, n_areas, len(limits)
    precision = -np.ones((len(IOU_THRESHOLDS), len(RECALLS), *shape))
    recall = -np.ones((len(IOU_THRESHOLDS), *shape))
    bounds = np.searchsorted(found.category, np.arange(n_categories + 1))
    inner = np.searchsorted(matches.detection, bounds)
    inside = ~_outside(found.area)
    for k, a, m in itertools.product(*map(range, shape)):
        if positives[k, a] == 0:
            continue
        part, walked = slice(bounds[k], bounds[k + 1]), slice(inner[k], inner[k + 1])
        at = matches.detection[walked]
        among = rank[at] < limits[m]
        at = at[among]
        hit, ignored = (x[walked, :, a][among].T for x in (matches.hit, matches.ignored))
        counted = np.cumsum(inside[part, a] & (rank[part] < limits[m]))[at - bounds[k]]
        tp = np.cumsum(hit & ~ignored, axis=1)
        fp = counted - np.cumsum(hit & inside[at, a], axis=1)
        precise = np.zeros((len(tp), len(at) + 1))  # the column behind the last: recalls that are not reached
        precise[:, :-1] = tp / (fp + tp + np.spacing(1))
        envelope = np.maximum.accumulate(precise[:, ::-1], axis=1)[:, ::-1]
        reached = tp / positives[k, a]
        recall[:, k, a, m] = reached[:, -1] if len(at) else 0.0
        for t in range(len(tp)):
            precision[t, :, k, a, m] = envelope[t, np.searchsorted(reached[t], RECALLS)]
    return precision, recall


# Library backends ----------------------------------------------------------------------------------------------------

_LIBRARIES = ("faster_coco_eval", "pycocotools")


def _evaluate_by_library(
    name: str, dataset: Mapping[str, Any], entries: list[Mapping[str, Any]], iou_type: str, limits: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    if name == "faster_coco_eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    # Shallow copies, as both libraries write into the annotations.
    head = {"images": list(dataset["images"]), "categories": list(dataset["categories"])}
    truths = [_plain(e, i, iscrowd=int(bool(e.get("iscrowd", 0)))) for i, e in enumerate(dataset["annotations"], 1)]
    found = [_plain(e, i, iscrowd=0) for i, e in enumerate(entries, 1)]
    if iou_type == "segm":  # a box beside the mask would give the detection's area
        found = [{key: value for key, value in entry.items() if key != "bbox"} for entry in found]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**head, "annotations": truths}
        truth.createIndex()
        result = truth.loadRes(found) if found else COCO()
        if not found:  # pycocotools' loadRes looks at the first detection
            result.dataset = {**head, "annotations": []}
            result.createIndex()
        evaluation = COCOeval(truth, result, iou_type)
        evaluation.params.maxDets = list(limits)
        evaluation.evaluate()
        evaluation.accumulate()
    n_categories = len({category["id"] for category in dataset["categories"]})
    shape = len(IOU_THRESHOLDS), len(RECALLS), n_categories, len(AREAS), len(limits)
    precision, recall = (np.asarray(evaluation.eval[key], dtype=float) for key in ("precision", "recall"))
    return precision.reshape(shape), recall.reshape(shape[:1] + shape[2:])


def _plain(entry: Mapping[str, Any], number: int, **fields: Any) -> dict[str, Any]:
    box = {"bbox": [float(side) for side in entry["bbox"]]} if "bbox" in entry else {}
    return {**entry, "id": number, **box, **fields}

"""The array engine against pycocotools on random data sets that hit COCO's corners, and on detection scenes."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.data.scenes import scenes
from metrics.detection.coco import evaluate_coco

# Both sides compute the same ratios of integers; only the order of summation in the means may differ.
ROUNDING = 1e-12


def pycocotools(dataset, detections, max_detections=(1, 10, 100)):
    """The peer's precision, recall and 12 figures, with annotation ids from 1 (0 means "unmatched" there)."""
    truths = [{**a, "id": i, "iscrowd": a.get("iscrowd", 0)} for i, a in enumerate(dataset["annotations"], 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = {**dataset, "annotations": truths}
        truth.createIndex()
        if detections:
            found = truth.loadRes([dict(d) for d in detections])
        else:
            found.dataset = {**dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = list(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.eval["precision"], evaluation.eval["recall"], evaluation.stats


def random_case(seed):
    """A small data set; each corner is switched on in about a third of the seeds, so that corners also meet."""
    rng = np.random.default_rng([7, seed])

    def corner(share=0.35):
        return rng.random() < share

    image_ids = rng.permutation(np.arange(rng.integers(1, 6)) * 3 + rng.integers(0, 2)).tolist()
    categories = (rng.permutation(5)[: 1 if corner() else rng.integers(2, 5)] + rng.integers(0, 2)).tolist()
    on_grid, tied, crowds, bounds, degenerate, odd_area = (corner() for _ in range(6))

    def boxes(n):
        box = np.c_[rng.uniform(0, 60, (n, 2)), np.exp(rng.uniform(1.5, 5.2, (n, 2)))]
        if on_grid:  # exact IoU ties, and IoUs at the thresholds
            box = np.round(box / 8) * 8 + [0, 0, 8, 8]
        if bounds and n:
            at = rng.random(n) < 0.5
            box[at, 2:] = np.array([[32.0, 32], [16, 64], [96, 96], [48, 192]])[rng.integers(0, 4, at.sum())]
        if degenerate and n:
            box[rng.random(n) < 0.2, 2 + rng.integers(0, 2)] = 0
        return box

    truths, detections = [], []
    for image in image_ids:
        if corner(0.2):
            continue  # an image without anything
        for category in categories:
            truth = boxes(rng.integers(0, 6))
            near = truth[rng.integers(0, len(truth), rng.integers(0, 9))] if len(truth) else truth
            if not on_grid:
                near = near * np.exp(rng.normal(0, 0.08, near.shape))
            found = np.r_[near, boxes(rng.integers(0, 5))]
            if corner(0.03):  # more than 100 in one image and class
                found = np.r_[found, boxes(101), near]
            scores = rng.integers(0, 4, len(found)) / 4 if tied else rng.random(len(found))
            for box in truth:
                area = box[2] * box[3]
                if odd_area:
                    area = rng.choice([area * rng.uniform(0.3, 1), 1024.0, 9216.0])
                truths.append(
                    {"id": len(truths) + seed % 2, "image_id": image, "category_id": category, "area": float(area)}
                    | {"bbox": box.tolist(), "iscrowd": int(crowds and corner(0.4)), "ignore": int(corner(0.1))}
                )
            detections += [
                {"image_id": image, "category_id": category, "bbox": b.tolist(), "score": float(s)}
                for b, s in zip(found, scores, strict=True)
            ]
    order = rng.permutation(len(detections))
    detections = [detections[i] for i in order]
    if corner(0.2):
        detections.append({"image_id": image_ids[0], "category_id": 99, "bbox": [0.0, 0, 9, 9], "score": 0.9})
    dataset = {"images": [{"id": i} for i in image_ids], "categories": [{"id": c} for c in categories]}
    return {**dataset, "annotations": truths}, detections


def assert_equal(result, dataset, detections, limits=(1, 10, 100)):
    precision, recall, stats = pycocotools(dataset, detections, limits)
    np.testing.assert_allclose(result.precision, precision, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(result.recall, recall, rtol=0, atol=ROUNDING)
    if limits[-1] == 100:
        np.testing.assert_allclose(list(result.figures.values()), stats, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_array_engine_equals_pycocotools(start):
    for seed in range(start, start + 50):
        dataset, detections = random_case(seed)
        assert_equal(evaluate_coco(dataset, detections), dataset, detections)


@pytest.mark.parametrize("limits", [(2, 3, 5), (1, 100, 300)])
def test_other_limits(limits):
    for seed in range(12):
        dataset, detections = random_case(1000 + seed)
        result = evaluate_coco(dataset, detections, max_detections=limits)
        assert list(result.figures)[6:9] == [f"AR{limit}" for limit in limits]
        assert_equal(result, dataset, detections, limits)


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_backends_give_the_same_arrays(backend):
    for seed in range(12):
        dataset, detections = random_case(2000 + seed)
        assert_equal(evaluate_coco(dataset, detections, backend=backend), dataset, detections)


@pytest.mark.parametrize("areas", [(100.0, 100.0), (100.0, 5000.0)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_tie_between_truths_goes_to_the_later(flip, areas):
    """The first detection overlaps both truths equally; which one it takes decides whether the second has a match."""
    boxes = [[0.0, 0, 10, 10], [4.0, 0, 10, 10]]
    truths = [
        {"id": i, "image_id": 0, "category_id": 0, "bbox": boxes[i ^ flip], "area": areas[i], "iscrowd": 0}
        for i in range(2)
    ]
    found = [([2.0, 0, 10, 10], 0.9), ([0.0, 0, 10, 10], 0.8)]
    detections = [{"image_id": 0, "category_id": 0, "bbox": box, "score": score} for box, score in found]
    dataset = {"images": [{"id": 0}], "categories": [{"id": 0}], "annotations": truths}
    assert_equal(evaluate_coco(dataset, detections), dataset, detections)


def test_corners_are_hit():
    """The random cases hold what they are for; without this a change of the generator could empty the tests above."""
    seen = set()
    for seed in range(300):
        dataset, detections = random_case(seed)
        truths = dataset["annotations"]
        cells = [(d["image_id"], d["category_id"]) for d in detections]
        scores = [d["score"] for d in detections]
        seen |= {"crowd"} if any(t["iscrowd"] for t in truths) else set()
        seen |= {"id 0"} if any(t["id"] == 0 for t in truths) else set()
        seen |= {"bound"} if any(t["area"] in (1024, 9216) for t in truths) else set()
        seen |= {"degenerate"} if any(0 in d["bbox"][2:] for d in detections) else set()
        seen |= {"101"} if any(cells.count(cell) > 100 for cell in set(cells)) else set()
        seen |= {"tie"} if len(set(scores)) < len(scores) else set()
        seen |= {"one class"} if len(dataset["categories"]) == 1 else set()
        seen |= {"empty image"} if {i["id"] for i in dataset["images"]} - {t["image_id"] for t in truths} else set()
        seen |= {"no truth"} if not truths else set()
        seen |= {"no detection"} if not detections else set()
        seen |= {"unknown category"} if any(category == 99 for _, category in cells) else set()
    corners = {"crowd", "id 0", "bound", "degenerate", "101", "tie", "one class", "empty image"}
    assert seen == corners | {"no truth", "no detection", "unknown category"}


def test_equal_on_scenes():
    dataset = scenes(60, seed=3).coco
    rng = np.random.default_rng(0)
    detections = []
    for truth in dataset["annotations"]:
        for _ in range(rng.integers(0, 4)):
            box = np.array(truth["bbox"]) * np.exp(rng.normal(0, 0.1, 4))
            category = truth["category_id"] if rng.random() < 0.9 else int(rng.integers(1, 11))
            entry = {"image_id": truth["image_id"], "category_id": category}
            detections.append({**entry, "bbox": box.tolist(), "score": round(rng.random(), 2)})
    assert_equal(evaluate_coco(dataset, detections), dataset, detections)

"""One's own thresholds, area ranges, limits and classes, each against pycocotools and faster-coco-eval set the same."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metrics.detection.coco import evaluate_coco
from metrics.detection.params import EVERYTHING

ROUNDING = 1e-12
PEERS = {"pycocotools": (COCO, COCOeval), "faster_coco_eval": (FasterCOCO, COCOeval_faster)}

# What is set, and some neighbours of each: a parameter alone, several, at their edges.
CASES = {
    "one threshold": {"iou_thresholds": (0.7,)},
    "a threshold of 1": {"iou_thresholds": (1.0,)},
    "low thresholds": {"iou_thresholds": (0.01, 0.1, 0.25)},
    "between COCO's": {"iou_thresholds": (0.525, 0.6125, 0.99)},
    "two with 50 and 75": {"iou_thresholds": (0.5, 0.75)},
    "unordered": {"iou_thresholds": (0.8, 0.3)},
    "no area ranges": {"area_ranges": {}},
    "one range": {"area_ranges": {"tiny": (0.0, 300.0)}},
    "many ranges": {"area_ranges": {"a": (0.0, 100.0), "b": (100.0, 900.0), "c": (900.0, 4000.0), "d": (4000.0, 1e9)}},
    "overlapping ranges": {"area_ranges": {"wide": (10.0, 5000.0), "narrow": (400.0, 400.0)}},
    "an empty range": {"area_ranges": {"nothing": (1e7, 1e8)}},
    "an endless range": {"area_ranges": {"rest": (500.0, float("inf"))}},
    "limit of 1": {"max_detections": 1},
    "limit of 2 in a list": {"max_detections": (2,)},
    "two limits": {"max_detections": (1, 4)},
    "four limits": {"max_detections": (1, 2, 3, 50)},
    "beyond 100": {"max_detections": 500},
    "without classes": {"class_agnostic": True},
    "without classes, limit of 3": {"class_agnostic": True, "max_detections": 3},
    "without classes, own threshold": {"class_agnostic": True, "iou_thresholds": (0.4,)},
    "all of them": {"class_agnostic": True, "iou_thresholds": (0.3, 0.9), "area_ranges": {"s": (0.0, 700.0)},
                    "max_detections": (2, 7)},
}  # fmt: skip


def scene(seed):
    rng = np.random.default_rng([11, seed])
    truths, detections = [], []
    for image in range(4):
        for _ in range(rng.integers(0, 8)):
            box = [*rng.uniform(0, 60, 2), *np.exp(rng.uniform(2, 4.5, 2))]
            area = box[2] * box[3] * rng.uniform(0.5, 1)
            truths.append({"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": box, "area": area,
                           "iscrowd": int(rng.random() < 0.1)})  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                near = (np.array(box) * np.exp(rng.normal(0, 0.1, 4))).tolist()
                category = int(truths[-1]["category_id"] if rng.random() < 0.7 else rng.integers(1, 6))
                detections.append(
                    {"image_id": image, "category_id": category, "bbox": near, "score": round(float(rng.random()), 1)}
                )
    dataset = {"images": [{"id": i} for i in range(4)], "categories": [{"id": c} for c in (1, 2, 3)]}
    return {**dataset, "annotations": [{"id": i, **t} for i, t in enumerate(truths, 1)]}, detections


def by_peer(name, dataset, detections, options):
    coco, evaluation = PEERS[name]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        judged = evaluation(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        if "iou_thresholds" in options:
            judged.params.iouThrs = np.sort(options["iou_thresholds"])
        if "area_ranges" in options:
            judged.params.areaRng = [list(EVERYTHING), *map(list, options["area_ranges"].values())]
            judged.params.areaRngLbl = ["all", *options["area_ranges"]]
        limits = options.get("max_detections", (1, 10, 100))
        judged.params.maxDets = [limits] if isinstance(limits, int) else list(limits)
        judged.params.useCats = int(not options.get("class_agnostic"))
        judged.evaluate()
        judged.accumulate()
    return (np.asarray(judged.eval[key], dtype=float) for key in ("precision", "recall"))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES)
def test_parameters_mean_what_they_mean_to_peers(case, peer):
    for seed in range(4):
        dataset, detections = scene(seed)
        result = evaluate_coco(dataset, detections, **CASES[case])
        precision, recall = by_peer(peer, dataset, detections, CASES[case])
        np.testing.assert_allclose(result.precision, precision.reshape(result.precision.shape), rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(result.recall, recall.reshape(result.recall.shape), rtol=0, atol=ROUNDING)
        if seed == 0:
            backend = evaluate_coco(dataset, detections, **CASES[case], backend=peer)
            assert backend.figures == pytest.approx(result.figures, abs=ROUNDING)
            if peer == "pycocotools":
                assert result.figures != evaluate_coco(dataset, detections).figures  # it has an effect


def test_names_of_figures():
    dataset, detections = scene(0)
    for options, names in (
        ({"iou_thresholds": (0.3, 0.75)}, ["AP", "AP75"]),
        ({"iou_thresholds": (0.5,)}, ["AP", "AP50"]),
        ({"area_ranges": {"tiny": (0.0, 9.0)}}, ["AP", "AP50", "AP75", "APtiny"]),
    ):
        figures = evaluate_coco(dataset, detections, **options, max_detections=7).figures
        assert [name for name in figures if name.startswith("AP")][: len(names)] == names
        assert "AR7" in figures

"""All figures of a report read one matching: they agree with each other and with a reference in plain loops."""

from __future__ import annotations

import math
from functools import partial
from unittest import mock

import numpy as np
import pytest

from metrics.detection.assignment import select_threshold
from metrics.detection.calibration import evaluate_calibration, measure_calibration
from metrics.detection.coco import evaluate_coco
from metrics.detection.confusion import confusion_matrix, count_confusions
from metrics.detection.operating_point import find_best_f1, maximise_f1
from metrics.detection.overlaps import overlap_blocks
from metrics.detection.tide import classify_errors, evaluate_tide
from metrics.detection.tide_errors import TYPES

CATEGORIES = (1, 2, 5)  # 7 is not listed
SPACING = 1e-12  # pycocotools' spacing(1) in precision, and the order of sums


def dataset(truths, images=(0, 1)):
    return {
        "images": [{"id": i} for i in images],
        "categories": [{"id": c} for c in CATEGORIES],
        "annotations": [{"id": n, "iscrowd": 0, **truth} for n, truth in enumerate(truths, 1)],
    }


# A reference in plain loops -------------------------------------------------------------------------------------------


def iou(d, g, crowd):
    width = min(d[0] + d[2], g[0] + g[2]) - max(d[0], g[0])
    height = min(d[1] + d[3], g[1] + g[3]) - max(d[1], g[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (d[2] * d[3] if crowd else d[2] * d[3] + g[2] * g[3] - shared)


def judge(truths, detections, threshold, limit):
    """Each detection that takes part, best first, as (detection, "true" | "false" | "ignored")."""
    counts = [not t["iscrowd"] and 0 <= t["area"] <= 1e10 for t in truths]
    order = sorted(range(len(detections)), key=lambda i: (-detections[i]["score"], detections[i]["image_id"], i))
    seen, taken, judged = {}, set(), []
    for d in (detections[i] for i in order):
        cell = d["image_id"], d["category_id"]
        seen[cell] = seen.get(cell, 0) + 1
        if d["category_id"] not in CATEGORIES or seen[cell] > limit:
            continue
        best = None
        for g, t in enumerate(truths):
            if (t["image_id"], t["category_id"]) != cell or (g in taken and not t["iscrowd"]):
                continue
            overlap = iou(d["bbox"], t["bbox"], t["iscrowd"])
            if overlap >= threshold and (best is None or (counts[g], overlap, g) > best):
                best = counts[g], overlap, g
        if best is None:
            judged.append((d, "false" if d["bbox"][2] * d["bbox"][3] <= 1e10 else "ignored"))
        else:
            taken.add(best[2])
            judged.append((d, "true" if best[0] else "ignored"))
    return judged, [t for t, counted in zip(truths, counts, strict=True) if counted]


def tally(judged, truths, score=-math.inf, category=None):
    kept = [s for d, s in judged if d["score"] >= score and category in (None, d["category_id"])]
    positives = sum(category in (None, t["category_id"]) for t in truths)
    return kept.count("true"), kept.count("false"), positives - kept.count("true")


def average_precision(judged, truths, category):
    positives = sum(t["category_id"] == category for t in truths)
    if not positives:
        return None
    points, tp, fp = [], 0, 0
    for d, status in judged:
        if d["category_id"] == category and status != "ignored":
            tp, fp = tp + (status == "true"), fp + (status == "false")
            points.append((tp / positives, tp / (tp + fp)))
    return sum(max((p for r, p in points if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)) / 101


# Random scenes --------------------------------------------------------------------------------------------------------


def scene(seed):
    """Few different boxes, so that many overlap by a threshold exactly, by more, or as much as another."""
    rng = np.random.default_rng([5, seed])

    def box():
        corner, sides = rng.choice([0.0, 1.0, 5.0], 2), rng.choice([4.0, 6.0], 2)
        return [*corner.tolist(), *sides.tolist()]

    truths, detections = [], []
    for _ in range(rng.integers(0, 12)):
        x, y, w, h = box()
        area = float(rng.choice([w * h, -3.0, 4e10, 900.0, 0.0], p=[0.6, 0.1, 0.1, 0.1, 0.1]))
        image, category = (int(rng.choice(pair, p=[0.8, 0.2])) for pair in ((0, 1), (1, 2)))
        fields = {"bbox": [x, y, w, h], "area": area, "iscrowd": int(rng.random() < 0.2)}
        truths.append({"image_id": image, "category_id": category, **fields})
    for _ in range(rng.integers(0, 25)):
        shape = [0.0, 0.0, 3e5, 2e5] if rng.random() < 0.1 else box()
        category = int(rng.choice((1, 2, 5, 7), p=[0.6, 0.2, 0.1, 0.1]))
        score = int(rng.integers(0, 13)) / 12
        entry = {"image_id": int(rng.choice(2, p=[0.8, 0.2])), "category_id": category, "bbox": shape, "score": score}
        detections.append(entry)
    return truths, detections


@pytest.mark.parametrize("seed", range(80))
def test_all_figures_agree_with_each_other_and_with_plain_loops(seed):
    (truths, detections), threshold, limit = scene(seed), (0.5, 0.75)[seed % 2], (100, 3, 1)[seed % 3]
    judged, counted = judge(truths, detections, threshold, limit)
    with mock.patch("metrics.detection.matching.overlap_blocks", partial(overlap_blocks, most=3)):  # many blocks
        result = evaluate_coco(dataset(truths), detections, max_detections=limit)
    assignment = select_threshold(result.matching, threshold)

    # AP and recall
    reference = {c: average_precision(judged, counted, c) for c in CATEGORIES}
    for category, ap in reference.items():
        curve = result.curve(category, threshold)
        assert curve.mean() == pytest.approx(-1 if ap is None else ap, abs=SPACING)
    with_truths = [ap for ap in reference.values() if ap is not None]
    ap = np.mean(with_truths) if with_truths else -1
    assert result.per_threshold[threshold] == pytest.approx(ap, abs=SPACING)
    for k, category in enumerate(CATEGORIES):
        tp, _, fn = tally(judged, counted, category=category)
        recall = result.recall[result.params.position(threshold), k, 0, -1]
        assert recall == (tp / (tp + fn) if tp + fn else -1)

    # Precision, recall and F1 at a score, and the confusion matrix there
    best = maximise_f1(assignment)
    for score in sorted({d["score"] for d in detections} | {0.5}):
        at = result.at_score(score, threshold)
        assert (at["tp"], at["fp"], at["fn"]) == tally(judged, counted, score)
        matrix = count_confusions(assignment, score)
        assert matrix.counts[:-1, :-1].trace() == at["tp"]
        assert matrix.counts[:, :-1].sum() == at["tp"] + at["fp"]
        assert matrix.counts[:-1].sum() == at["tp"] + at["fn"] == len(counted)
        kept = [status for d, status in judged if d["score"] >= score]
        assert matrix.ignored == kept.count("ignored")
        assert not at["f1"] > (best.overall.f1 if counted else 0)
        for category in CATEGORIES:
            of_class = result.at_score(score, threshold, category)
            assert (of_class["tp"], of_class["fp"], of_class["fn"]) == tally(judged, counted, score, category)

    # The best F1 is what stands at its score
    for category, point in [(None, best.overall), *best.per_class.items()]:
        if point.f1 > 0:
            at = result.at_score(point.threshold, threshold, category)
            assert (point.f1, point.precision, point.recall) == (at["f1"], at["precision"], at["recall"])
        else:
            assert tally(judged, counted, category=category)[0] == 0

    # TIDE: its AP, one error for each wrong detection, and what is missed is not found
    tp, fp, fn = tally(judged, counted)
    errors = classify_errors(assignment)
    assert errors.ap == pytest.approx(ap, abs=SPACING)
    assert sum(errors.counts[kind.name] for kind in TYPES) == fp
    assert errors.counts["missed"] <= fn

    # Calibration: the same detections, right and wrong
    curve = measure_calibration(assignment, bins=4).curve
    assert curve.count.sum() == tp + fp
    assert np.nansum(curve.count * curve.precision) == pytest.approx(tp)
    assert np.nansum(curve.count * curve.confidence) == pytest.approx(
        sum(d["score"] for d, status in judged if status != "ignored")
    )


# Cases by hand --------------------------------------------------------------------------------------------------------

HERE, THERE = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0]


def a_truth(box, **fields):
    return {"image_id": 0, "category_id": 1, "bbox": box, "area": box[2] * box[3], **fields}


def found(box, score, category=1):
    return {"image_id": 0, "category_id": category, "bbox": box, "score": score}


def test_a_detection_of_a_class_without_truths_is_wrong_in_every_line():
    """One right and one wrong: a precision of 1/2, whichever figure says so."""
    data, detections = dataset([a_truth(HERE)]), [found(HERE, 0.6), found(HERE, 0.8, category=2)]
    at = evaluate_coco(data, detections).at_score(0.6)
    best = find_best_f1(data, detections).overall
    assert at["precision"] == best.precision == 1 / 2
    assert at["f1"] == best.f1 == 2 / 3
    matrix = confusion_matrix(data, detections, score_threshold=0.6)
    assert matrix.counts[0, 0] / matrix.counts[:, :-1].sum() == 1 / 2
    curve = evaluate_calibration(data, detections, bins=1).curve
    assert (curve.count[0], curve.precision[0]) == (2, 1 / 2)
    tide_counts = evaluate_tide(data, detections).counts
    assert sum(tide_counts.values()) == 1


@pytest.mark.parametrize("area", [-1.0, -1e-9, 1.01e10, 7e12])
def test_a_truth_out_of_all_areas_counts_in_no_line(area):
    data = dataset([a_truth(HERE), a_truth(THERE, area=area)])
    detections = [found(HERE, 0.5), found(THERE, 0.9)]
    result = evaluate_coco(data, detections)
    assert pytest.approx(1) == result.AP
    at = result.at_score(0.5)
    assert (at["tp"], at["fp"], at["fn"]) == (1, 0, 0)
    best = find_best_f1(data, detections).overall
    assert (best.f1, best.precision, best.recall, best.threshold) == (1, 1, 1, 0.5)
    matrix = confusion_matrix(data, detections, score_threshold=0.0)
    assert (matrix.counts.sum(), matrix.ignored) == (1, 1)
    assert evaluate_calibration(data, detections).curve.count.sum() == 1
    assert evaluate_tide(data, []).counts["missed"] == 1


def test_a_detection_out_of_all_areas_is_wrong_in_no_line():
    data, detections = dataset([a_truth(HERE)]), [found(HERE, 0.5), found([0.0, 0.0, 2e5, 1e5], 0.9)]
    assert pytest.approx(1) == evaluate_coco(data, detections).AP
    assert evaluate_coco(data, detections).at_score(0.0)["fp"] == 0
    assert find_best_f1(data, detections).overall.precision == 1
    assert sum(evaluate_tide(data, detections).counts.values()) == 0
    assert confusion_matrix(data, detections, score_threshold=0.0).counts.sum() == 1

"""Matching by proposals against the greedy loop that defines it, and overlaps against a loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.detections_at_scale import detections_at_scale
from metrics.detection.coco import evaluate_coco
from metrics.detection.inputs import read_inputs
from metrics.detection.matching import match
from metrics.detection.overlaps import find_overlaps
from metrics.detection.params import IOU_THRESHOLDS


def crowded(seed, truths=12, detections=300):
    """One class in two images, where everything overlaps: many detections to a truth and many truths to a detection."""
    rng = np.random.default_rng(seed)
    box = np.c_[rng.uniform(0, 30, (truths, 2)), rng.uniform(40, 80, (truths, 2))]
    near = box[rng.integers(0, truths, detections)] + rng.normal(0, 5, (detections, 4))
    truth = {
        "images": rng.integers(0, 2, truths),
        "boxes": np.c_[box[:, :2], box[:, :2] + box[:, 2:]],
        "labels": np.ones(truths, int),
        "iscrowd": rng.random(truths) < 0.2,
        "area": rng.choice([500.0, 1024, 5000, 9216], truths),
    }
    found = {
        "images": rng.integers(0, 2, detections),
        "boxes": np.c_[near[:, :2], near[:, :2] + near[:, 2:]],
        "labels": np.ones(detections, int),
        "scores": rng.integers(0, 50, detections) / 50,
    }
    return truth, found


def iou(d, g, crowd):
    sides = np.minimum(d[:2] + d[2:], g[:2] + g[2:]) - np.maximum(d[:2], g[:2])
    intersection = max(sides[0], 0) * max(sides[1], 0)
    return intersection / (d[2] * d[3] if crowd else d[2] * d[3] + g[2] * g[3] - intersection)


def greedy(matching, t, a):
    """The definition: best scores first, the best free truth that counts, else the best free that does not."""
    truth, found = matching.truths, matching.detections
    taken, result = set(), np.full(len(found.score), -1)
    for i in range(len(found.score)):
        for ignored in (False, True):
            best, best_iou = -1, min(IOU_THRESHOLDS[t], 1 - 1e-10)
            for g in range(len(truth.score)):
                if truth.image[g] != found.image[i] or truth.category[g] != found.category[i]:
                    continue
                free = g not in taken or truth.crowd[g]
                overlap = iou(found.box[i], truth.box[g], truth.crowd[g])
                if matching.unused[a, g] == ignored and free and overlap >= best_iou:
                    best, best_iou = g, overlap
            if best >= 0:
                result[i] = best
                taken.add(best)
                break
    return result


@pytest.mark.parametrize("seed", range(4))
def test_proposals_equal_the_greedy_loop(seed):
    matching = match(*crowded(seed), max_detections=100)
    assert np.bincount(matching.detections.image).max() <= 100
    for t, a in ((0, 0), (0, 2), (3, 1), (6, 3)):
        result = np.full(len(matching.detections.score), -1)
        result[matching.candidate] = matching.partner[a, t]
        np.testing.assert_array_equal(result, greedy(matching, t, a))


def test_a_thousand_detections_an_image_and_class():
    """Where a match by ranks would take a thousand rounds; the library gives the same."""
    truth, found = crowded(9, truths=20, detections=2000)
    ours, theirs = (
        evaluate_coco(truth, found, max_detections=(1, 10, 1000), backend=backend)
        for backend in ("fidmap", "faster_coco_eval")
    )
    assert ours.figures == pytest.approx(theirs.figures, abs=1e-12)
    assert np.bincount(ours.matching.detections.image).max() > 900


def test_no_truth_is_taken_twice_but_crowds():
    matching = match(*crowded(5), max_detections=300)
    for a, t in np.ndindex(matching.partner.shape[:2]):
        taken = matching.partner[a, t][matching.partner[a, t] >= 0]
        counts = np.bincount(taken, minlength=len(matching.truths.score))
        assert (counts[~matching.truths.crowd] <= 1).all()
    assert counts[matching.truths.crowd].max() > 1


@pytest.mark.parametrize("across_classes", [True, False])
@pytest.mark.parametrize("least", [0.0, 0.1, 0.5])
def test_overlaps_equal_a_loop(across_classes, least):
    case = detections_at_scale(images=3, truths=20, detections=60, classes=3, seed=2)
    pair = read_inputs(case.targets, case.outputs)
    rows = find_overlaps(pair.truths, pair.detections, across_classes=across_classes, least=least)
    expected = {}
    for i, g in np.ndindex(60, 20):
        same = pair.truths.image[g] == pair.detections.image[i]
        same &= across_classes or pair.truths.category[g] == pair.detections.category[i]
        value = iou(pair.detections.box[i], pair.truths.box[g], False)
        if same and value >= least:
            expected[i, g] = value
    ours = dict(zip(zip(rows.detection.tolist(), rows.truth.tolist(), strict=True), rows.iou.tolist(), strict=True))
    assert list(ours) == list(expected)  # row by row, truths ascending
    assert list(ours.values()) == pytest.approx(list(expected.values()), abs=1e-15)


def test_status_counts_what_the_recall_counts():
    case = detections_at_scale(images=20, truths=150, detections=1000, classes=4, seed=3)
    result = evaluate_coco(case.targets, case.outputs)
    for t in range(10):
        true, false = result.matching.status(t)
        assert not (true & false).any()
        assert (true | false).all()  # nothing is ignored here
        recall = np.bincount(result.matching.detections.category[true], minlength=4) / result.matching.positives()[0]
        np.testing.assert_array_equal(recall, result.recall[t, :, 0, -1])

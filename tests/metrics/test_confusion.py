"""The confusion matrix and the best F1: by hand, by brute force, and against each other."""

import numpy as np
import pytest

from bench.data.scenes import scenes
from bench.tasks.metrics.detection import perturb
from metrics.detection.coco import evaluate_coco
from metrics.detection.confusion import confusion_matrix
from metrics.detection.operating_point import find_best_f1

HERE, THERE = [0, 0, 10, 10], [100, 0, 10, 10]


def truth(box, category=1, **fields):
    return {"id": 7, "image_id": 1, "category_id": category, "bbox": box, "area": box[2] * box[3], **fields}


def found(box, score, category=1):
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


def dataset(*truths):
    return {"images": [{"id": 1}], "categories": [{"id": c} for c in (1, 2)], "annotations": list(truths)}


def test_each_entry_by_hand():
    data = dataset(truth(HERE), truth(THERE), truth([200, 0, 10, 10], 2), truth([300, 0, 10, 10], 2))
    detections = [
        found(HERE, 0.9),  # right
        found([0, 0, 10, 9], 0.8),  # a duplicate: nothing is left there
        found(THERE, 0.9, category=2),  # class 1 taken for 2
        found([200, 0, 10, 10], 0.7, category=2),  # right
        found([500, 0, 10, 10], 0.6, category=2),  # nothing there
        found([300, 0, 10, 10], 0.1, category=2),  # below the score
    ]
    result = confusion_matrix(data, detections)
    assert result.counts.tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]]
    assert (result.categories, result.ignored) == ((1, 2), 0)


def test_the_own_class_goes_first():
    """A better scored, better placed box of another class does not take the truth from the right one."""
    detections = [found(HERE, 0.9, category=2), found([0, 0, 10, 6], 0.5)]
    assert confusion_matrix(dataset(truth(HERE)), detections).counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_truth_is_confused_once_and_with_the_best_score():
    two = [found(HERE, 0.8, category=2), found([0, 0, 10, 9], 0.9, category=2)]
    assert confusion_matrix(dataset(truth(HERE)), two).counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_crowds():
    data = dataset(truth(HERE), truth([100, 100, 50, 50], iscrowd=1))
    inside = [found([110, 110, 5, 5], 0.9), found([120, 110, 5, 5], 0.2), found([110, 110, 5, 5], 0.9, category=2)]
    result = confusion_matrix(data, inside)
    assert result.counts.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]  # the other class is a false positive
    assert result.ignored == 1  # the other one scores too little


def test_thresholds_and_the_limit():
    data, detections = dataset(truth(HERE)), [found([0, 0, 10, 6], 0.5), found(THERE, 0.4)]
    assert confusion_matrix(data, detections).counts.trace() == 1
    assert confusion_matrix(data, detections, score_threshold=0.51).counts.tolist()[0] == [0, 0, 1]
    assert confusion_matrix(data, detections, score_threshold=0.5).counts.sum() == 1  # that score is kept
    assert confusion_matrix(data, detections, iou_threshold=0.75).counts.trace() == 0
    assert confusion_matrix(data, detections, max_detections=1).counts.sum() == 1
    with pytest.raises(ValueError, match="score_threshold is nan"):
        confusion_matrix(data, detections, score_threshold=float("nan"))


@pytest.mark.parametrize("perturbation", ["class_swap", "score_noise", "jitter", "duplicate"])
def test_rows_hold_the_truths_and_columns_the_detections(perturbation):
    data = scenes(30, seed=2).coco
    detections = perturb(data, perturbation, 0.3).entries()
    threshold = 0.6
    result = confusion_matrix(data, detections, score_threshold=threshold)
    truths = [t["category_id"] for t in data["annotations"] if not t["iscrowd"]]
    kept = [d["category_id"] for d in detections if d["score"] >= threshold]
    assert result.counts[:-1].sum(axis=1).tolist() == [truths.count(c) for c in result.categories]
    assert result.counts.sum(axis=0)[:-1].sum() + result.ignored == len(kept)
    assert result.counts[-1, -1] == 0
    at_score = evaluate_coco(data, detections).at_score(threshold)
    assert result.counts[:-1, :-1].trace() == at_score["tp"]
    assert result.counts.sum(axis=0)[:-1].sum() == at_score["tp"] + at_score["fp"]


@pytest.mark.parametrize("perturbation", ["score_noise", "background"])
def test_the_best_f1_is_the_best_of_all_thresholds(perturbation):
    data = scenes(20, seed=5).coco
    detections = perturb(data, perturbation, 0.3).entries()
    detections = [{**entry, "score": round(entry["score"], 2)} for entry in detections]  # with ties
    result, coco = find_best_f1(data, detections), evaluate_coco(data, detections)
    scores = sorted({entry["score"] for entry in detections})
    for category, best in [(None, result.overall), *result.per_class.items()]:
        tried = {score: coco.at_score(score, category=category) for score in scores}
        highest = max(point["f1"] for point in tried.values())
        assert best.f1 == pytest.approx(highest, rel=1e-15)
        own = [d["score"] for d in detections if category in (None, d["category_id"])]
        assert best.threshold == max(s for s in own if tried[s]["f1"] == pytest.approx(highest, rel=1e-15))
        assert (best.precision, best.recall) == (tried[best.threshold]["precision"], tried[best.threshold]["recall"])


def test_best_f1_by_hand():
    """Right, wrong, right over two truths: F1 is 2/3 after one, 2/4 after two, 4/5 after three."""
    data = dataset(truth(HERE), truth(THERE))
    detections = [found(HERE, 0.9), found([300, 0, 10, 10], 0.8), found(THERE, 0.7)]
    best = find_best_f1(data, detections).overall
    assert (best.threshold, best.f1, best.precision, best.recall) == (0.7, 4 / 5, 2 / 3, 1)
    assert find_best_f1(data, detections, max_detections=1).overall.f1 == 2 / 3
    assert find_best_f1(data, [found([0, 0, 10, 6], 0.5)], iou_threshold=0.75).overall.f1 == 0


def test_nothing_right_and_no_truths():
    result = find_best_f1(dataset(truth(HERE)), [found(THERE, 0.9)])
    assert (result.overall.f1, result.overall.recall) == (0, 0)
    assert np.isnan([result.overall.threshold, result.overall.precision, result.per_class[2].f1]).all()

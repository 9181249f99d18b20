"""Calibration errors against sums over detections, exact cases, and what leaves them alone."""

import numpy as np
import pytest

from bench.data.scenes import scenes
from bench.tasks.metrics.detection import perturb
from metrics.detection.assignment import assign_detections
from metrics.detection.calibration import evaluate_calibration

# Sums of a few thousand scores, taken in another order.
ROUNDING = 1e-12
WIDTH = 10.0


def dataset(n, categories=(1,), **fields):
    """One truth an image; categories in turn."""
    truths = [
        {"id": i, "image_id": i, "category_id": categories[i % len(categories)], "bbox": [0, 0, WIDTH, WIDTH],
         "area": WIDTH**2, **fields}
        for i in range(n)
    ]  # fmt: skip
    images = [{"id": i} for i in range(n)]
    return {"images": images, "categories": [{"id": c} for c in categories], "annotations": truths}


def found(image, score, iou=1.0, category=1):
    return {"image_id": image, "category_id": category, "bbox": [0, 0, WIDTH, WIDTH * iou], "score": score}


def test_scores_that_are_the_share_of_right_ones_have_no_error():
    """Of ten detections scored .7 seven are right, with boxes that are exact: D-ECE 0, and LaECE too."""
    detections = [found(i, 0.7, iou=1.0 if i < 7 else 0.2) for i in range(10)]
    result = evaluate_calibration(dataset(10), detections)
    assert (result.ece, result.laece) == (pytest.approx(0, abs=ROUNDING), pytest.approx(0, abs=ROUNDING))
    over = [{**entry, "score": 0.9} for entry in detections]
    assert evaluate_calibration(dataset(10), over).ece == pytest.approx(0.2)


def test_boxes_count_in_one_of_them():
    """All right with an IoU of .8: sure detections err by .2 where boxes count, those scored .8 where they do not."""
    sure = evaluate_calibration(dataset(10), [found(i, 1.0, iou=0.8) for i in range(10)])
    assert (sure.ece, sure.laece) == (pytest.approx(0), pytest.approx(0.2))
    modest = evaluate_calibration(dataset(10), [found(i, 0.8, iou=0.8) for i in range(10)])
    assert (modest.ece, modest.laece) == (pytest.approx(0.2), pytest.approx(0))


def test_errors_are_those_of_their_formulas():
    """Bin by bin, in plain Python, on perturbed scenes."""
    data = scenes(30, seed=1).coco
    detections = perturb(data, "score_noise", 0.1).entries()
    detections = [{**entry, "score": min(max(entry["score"], 0.0), 1.0)} for entry in detections]
    result = evaluate_calibration(data, detections, bins=10)
    assignment = assign_detections(data, detections)
    rows = list(zip(*(column.tolist() for column in (
        assignment.detections.category, assignment.detections.score, assignment.hit, assignment.iou, assignment.ignored,
    )), strict=True))  # fmt: skip
    rows = [row[:4] for row in rows if not row[4]]

    def error(rows, column):
        total = 0.0
        for j in range(10):
            inside = [row for row in rows if (j / 10 < row[1] or j == 0) and row[1] <= (j + 1) / 10]
            total += abs(sum(row[1] for row in inside) - sum(row[column] for row in inside))
        return total / len(rows)

    assert result.ece == pytest.approx(error(rows, 2), abs=ROUNDING)
    classes = sorted({row[0] for row in rows})
    of_classes = [error([row for row in rows if row[0] == k], 3) for k in classes]
    assert result.laece == pytest.approx(np.mean(of_classes), abs=ROUNDING)
    assert sum(of.count.sum() for of in result.per_class.values()) == result.curve.count.sum() == len(rows)


def test_bins_have_their_upper_ends():
    """0 and .04 lie in the first of 25 bins, .05 in the second, 1 in the last."""
    result = evaluate_calibration(dataset(4), [found(i, score) for i, score in enumerate((0.0, 0.04, 0.05, 1.0))])
    assert result.curve.count[[0, 1, 24]].tolist() == [2, 1, 1]
    assert np.isnan(result.curve.precision[2:24]).all()
    assert result.curve.confidence[0] == pytest.approx(0.02)


def test_one_bin_compares_means():
    detections = [found(0, 0.2), found(1, 0.6), found(2, 0.7, iou=0.1)]
    assert evaluate_calibration(dataset(3), detections, bins=1).ece == pytest.approx(abs(0.5 - 2 / 3))


def test_the_threshold_decides_what_is_right():
    detections = [found(i, 1.0, iou=0.6) for i in range(3)]
    assert evaluate_calibration(dataset(3), detections).ece == 0
    assert evaluate_calibration(dataset(3), detections, iou_threshold=0.75).ece == 1
    twice = [found(0, 1.0), found(0, 0.5)]
    assert evaluate_calibration(dataset(1), twice).curve.count.sum() == 2
    assert evaluate_calibration(dataset(1), twice, max_detections=1).curve.count.sum() == 1


def test_crowds_are_left_out_and_classes_without_truths_count_as_wrong():
    crowded = dataset(2)
    crowded["annotations"][1]["iscrowd"] = 1
    result = evaluate_calibration(crowded, [found(0, 1.0), found(1, 1.0), found(1, 0.3)])
    assert (result.curve.count.sum(), result.ece) == (1, 0)
    without = dataset(1) | {"categories": [{"id": 1}, {"id": 2}]}
    result = evaluate_calibration(without, [found(0, 1.0), found(0, 0.9, category=2)])
    assert (result.curve.count.sum(), list(result.per_class)) == (2, [1])
    assert (result.ece, result.laece) == (pytest.approx((0 + 0.9) / 2), 0)  # LaECE: of the class with truths


def test_a_perfectly_calibrated_class_counts_in_the_mean():
    """Its 0 belongs to the mean over classes (implementations that mark empty classes by 0 lose it)."""
    result = evaluate_calibration(dataset(2, (1, 2)), [found(0, 1.0), found(1, 0.5, category=2)])
    assert result.laece == pytest.approx((0 + 0.5) / 2)


def test_nothing_found():
    result = evaluate_calibration(dataset(2), [])
    assert np.isnan([result.ece, result.laece]).all()


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (1.5, {}, r"score 1.5; calibration needs scores in \[0, 1\]"),
        (-0.1, {}, "score -0.1"),
        (0.5, {"bins": 0}, "bins = 0"),
    ],
)
def test_bad_input(score, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_calibration(dataset(1), [found(0, score)], **options)

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from pycocotools import mask as masks

from metrics.detection.bootstrap import weighted_figures
from metrics.detection.coco import RECALLS, evaluate_coco

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
# Precision carries pycocotools' spacing(1) in its denominator, so that a perfect one may be 1 - 2.2e-16.
SPACING = 1e-15


def truth(box, image=1, category=1, **fields):
    return {"id": 0, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], **fields}


def found(box, score, image=1, category=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def dataset(*annotations, images=(1, 2), categories=(1, 2)):
    numbered = [{**a, "id": i} for i, a in enumerate(annotations)]
    entries = {"images": [{"id": i} for i in images], "categories": [{"id": c} for c in categories]}
    return {**entries, "annotations": numbered}


def random_case(seed=0, n=60, images=8, categories=3):
    rng = np.random.default_rng(seed)
    boxes = np.c_[rng.uniform(0, 300, (n, 2)), np.exp(rng.uniform(2, 6, (n, 2)))]
    where = rng.integers(0, images, n).tolist(), rng.integers(0, categories, n).tolist()
    truths = [truth(b.tolist(), i, c) for b, i, c in zip(boxes, *where, strict=True)]
    jitter = boxes * np.exp(rng.normal(0, 0.05, boxes.shape))
    detections = [found(b.tolist(), float(rng.random()), i, c) for b, i, c in zip(jitter, *where, strict=True)]
    detections += [found([5.0, 5, 40, 40], float(rng.random()), i, 0) for i in range(images)]
    return dataset(*truths, images=range(images), categories=range(categories)), detections


def test_the_truth_scores_one():
    data, _ = random_case()
    perfect = [found(t["bbox"], 0.5, t["image_id"], t["category_id"]) for t in data["annotations"]]
    figures = evaluate_coco(data, perfect).figures
    assert list(figures) == FIGURES
    assert figures.pop("AR1") < 1  # several objects of a class lie in one image
    assert figures == pytest.approx(dict.fromkeys(figures, 1), abs=SPACING)


def test_average_precision_by_hand():
    """True, false, true over two truths: precision 1 up to recall 1/2, 2/3 beyond."""
    data = dataset(truth([0, 0, 10, 10]), truth([50, 0, 10, 10]))
    detections = [found([0, 0, 10, 10], 0.9), found([200, 0, 10, 10], 0.8), found([50, 0, 10, 10], 0.7)]
    result = evaluate_coco(data, detections)
    half = RECALLS <= 0.5
    expected = (half.sum() + 2 / 3 * (~half).sum()) / 101
    assert (result.AP, result.AP50, result.per_class[1]) == pytest.approx((expected,) * 3, abs=SPACING)
    assert (result.AR1, result.AR10) == (0.5, 1)
    assert (result.APm, result.APl, result.ARl, result.per_class[2]) == (-1, -1, -1, -1)


@pytest.mark.parametrize(("width", "matched"), [(5.0, 1), (6.0, 3), (9.5, 10), (4.9, 0)])
def test_thresholds_are_inclusive(width, matched):
    """A box of width w within one of 10 has IoU w / 10: .5 counts at .5, .6 at three thresholds, .95 at all."""
    result = evaluate_coco(dataset(truth([0, 0, 10, 10])), [found([0, 0, width, 10], 1.0)])
    assert result.recall[:, 0, 0, -1].sum() == matched


def test_a_duplicate_is_a_false_positive():
    data = dataset(truth([0, 0, 10, 10]), truth([50, 0, 10, 10]))
    once = [found([0, 0, 10, 10], 0.9), found([50, 0, 10, 10], 0.5)]
    twice = [*once, found([0, 0, 10, 10], 0.8)]
    assert evaluate_coco(data, once).AP > evaluate_coco(data, twice).AP
    assert evaluate_coco(data, once).AR100 == evaluate_coco(data, twice).AR100


def test_crowds_absorb_any_number():
    """Detections inside a crowd are neither right nor wrong, though their IoU in the usual sense is small."""
    data = dataset(truth([0, 0, 20, 20]), truth([100, 100, 200, 200], iscrowd=1))
    inside = [found([110 + 10 * i, 120, 15, 15], 0.9) for i in range(5)]
    result = evaluate_coco(data, [*inside, found([0, 0, 20, 20], 0.1)])
    assert result.figures["AP"] == pytest.approx(1, abs=SPACING)
    outside = [found([110 + 10 * i, 20, 15, 15], 0.9) for i in range(5)]
    result = evaluate_coco(data, [*outside, found([0, 0, 20, 20], 0.1)])
    assert result.figures["AP"] == pytest.approx(1 / 6, abs=SPACING)


def test_area_ranges_include_both_ends():
    data = dataset(truth([0, 0, 32, 32]), truth([200, 0, 96, 96]))
    figures = evaluate_coco(data, []).figures
    assert [figures[name] for name in ("ARs", "ARm", "ARl", "APs", "APm", "APl")] == [0] * 6
    result = evaluate_coco(data, [found([0, 0, 32, 32], 0.9)])
    assert (result.ARs, result.ARm, result.ARl) == (1, 0.5, 0)


def test_ranking_and_names_alone_matter():
    data, detections = random_case()
    figures = evaluate_coco(data, detections).figures
    monotone = [{**d, "score": float(np.exp(5 * d["score"]) - 7)} for d in detections]
    assert evaluate_coco(data, monotone).figures == figures
    # no two scores are equal, so the file's order does not matter; annotation ids never do
    shuffled = [detections[i] for i in np.random.default_rng(1).permutation(len(detections))]
    assert evaluate_coco(data, shuffled).figures == figures
    renumbered = {**data, "annotations": [{**a, "id": 7 * i - 20} for i, a in enumerate(data["annotations"])]}
    for backend in ("fidmap", "faster_coco_eval", "pycocotools"):
        assert evaluate_coco(renumbered, detections, backend=backend).figures == pytest.approx(figures, abs=1e-12)


def test_the_limit_is_per_image_and_class():
    data = dataset(truth([0, 0, 10, 10]), truth([0, 0, 10, 10], image=2), truth([0, 0, 10, 10], category=2))
    noise = [found([300, 300, 10, 10], 0.9)] * 2
    late = [found([0, 0, 10, 10], 0.1), found([0, 0, 10, 10], 0.1, 2), found([0, 0, 10, 10], 0.1, category=2)]
    result = evaluate_coco(data, noise + late, max_detections=(1, 2, 3))
    assert [result.figures[name] for name in ("AR1", "AR2", "AR3")] == [0.75, 0.75, 1]  # means over the two classes


def test_files_equal_objects(tmp_path):
    data, detections = random_case()
    (tmp_path / "truth.json").write_text(json.dumps(data))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    from_files = evaluate_coco(tmp_path / "truth.json", str(tmp_path / "found.json"))
    assert from_files.figures == evaluate_coco(data, detections).figures


def test_input_is_left_alone():
    data, detections = random_case()
    before = json.dumps([data, detections])
    for backend in ("fidmap", "faster_coco_eval", "pycocotools"):
        evaluate_coco(data, detections, backend=backend)
    assert json.dumps([data, detections]) == before


def test_unknown_categories_are_left_out_and_counted():
    data, detections = random_case()
    result = evaluate_coco(data, [*detections, found([0, 0, 9, 9], 1.0, 0, category=91)])
    assert result.left_out == 1
    assert result.figures == evaluate_coco(data, detections).figures


def test_masks_by_both_libraries():
    """A mask equal to the truth scores 1; half of it has IoU 1/2, which counts at one threshold of ten."""
    image = np.zeros((64, 64), np.uint8, order="F")
    image[10:50, 10:30] = 1
    half = image.copy(order="F")
    half[10:30] = 0

    def encode(picture):
        return {"size": [64, 64], "counts": masks.encode(picture)["counts"].decode()}

    data = dataset({**truth([10, 10, 20, 40]), "segmentation": encode(image), "area": 800})
    data["images"] = [{"id": 1, "height": 64, "width": 64}]
    for backend in ("faster_coco_eval", "pycocotools"):
        for picture, ap in ((image, 1), (half, 0.1)):
            entry = {**found([0, 0, 64, 64], 0.5), "segmentation": encode(picture)}
            result = evaluate_coco(data, [entry], iou_type="segm", backend=backend)
            assert result.figures["AP"] == pytest.approx(ap, abs=SPACING)
            assert result.APs == result.AP  # by the mask's area, not by the box beside it
            options = {"iou_thresholds": (0.5, 0.6), "area_ranges": {"half": (0.0, 500.0)}, "max_detections": 1}
            own = evaluate_coco(data, [entry], iou_type="segm", backend=backend, class_agnostic=True, **options)
            assert own.figures["AP50"] == pytest.approx(1, abs=SPACING)
            assert own.figures["AP"] == pytest.approx(1 if ap == 1 else 0.5, abs=SPACING)
            assert (own.APhalf, own.AR1) == (-1, 1 if ap == 1 else 0.5)


def test_result_survives_pickling():
    data, detections = random_case()
    result = evaluate_coco(data, detections)
    assert pickle.loads(pickle.dumps(result)).AP75 == result.AP75
    with pytest.raises(AttributeError, match="no figure 'AP60'; there are AP, AP50"):
        _ = result.AP60


GOOD = found([0, 0, 5, 5], 0.5)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**GOOD, "image_id": [1]}, r"detections\[1\] has image_id \[1\]; a whole number or a text"),
        ({**GOOD, "category_id": [1]}, r"detections\[1\] has category_id \[1\]; a whole number or a text"),
        ({**GOOD, "image_id": 9}, r"detections\[1\] has image_id 9, which is none of the 2 ids"),
        ({k: v for k, v in GOOD.items() if k != "score"}, r"detections\[1\] has no 'score'; it has image_id"),
        ("box", r"detections\[1\] has no 'image_id'; it is 'box'"),
        ({**GOOD, "score": float("nan")}, r"detections\[1\] has score nan"),
        ({**GOOD, "score": "high"}, r"detections\[1\] has score 'high', which is not a number"),
        ({**GOOD, "bbox": [0, 0, -1, 5]}, r"detections\[1\] has bbox \[0, 0, -1, 5\]; x, y, width >= 0"),
        ({**GOOD, "bbox": [0, 0, float("inf"), 5]}, r"detections\[1\] has bbox"),
        ({**GOOD, "bbox": [0, 0, 5]}, r"detections\[1\] has bbox \[0, 0, 5\]"),
        ({**GOOD, "bbox": None}, r"detections\[1\] has bbox None"),
    ],
)
def test_a_bad_detection_is_named(entry, message):
    with pytest.raises(ValueError, match=message):
        evaluate_coco(dataset(truth([0, 0, 5, 5])), [GOOD, entry])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, r"annotations\[0\] has image_id 9"),
        ({"category_id": 9}, r"annotations\[0\] has category_id 9"),
        ({"bbox": [0, 0, 5, -5]}, r"annotations\[0\] has bbox"),
        ({"area": float("nan")}, r"annotations\[0\] has area nan"),
    ],
)
def test_a_bad_annotation_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_coco(dataset(truth([0, 0, 5, 5]) | change), [GOOD])


@pytest.mark.unchecked
def test_bad_calls(tmp_path):
    data = dataset(truth([0, 0, 5, 5]))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "torn.json").write_text('[{"image_id": 1')
    for call, message in (
        (lambda: evaluate_coco(data, [], backend="coco"), "backend 'coco' is not one of fidmap, faster_coco_eval"),
        (lambda: evaluate_coco(data, [], iou_type="keypoints"), "iou_type 'keypoints'"),
        (lambda: evaluate_coco(data, [], iou_type="segm"), "needs backend="),
        (lambda: evaluate_coco(data, [], max_detections=(0, 10)), "max_detections"),
        (lambda: evaluate_coco({"images": []}, []), "no 'annotations'"),
        (lambda: evaluate_coco(data, {"results": []}), "detections are no list"),
        (lambda: evaluate_coco(data, tmp_path / "torn.json"), "torn.json is not JSON"),
        (lambda: evaluate_coco(data, tmp_path / "deep.json"), "deep.json is not JSON"),
        (lambda: evaluate_coco({**data, "images": None}, []), "images are of the type NoneType; a list"),
        (
            lambda: evaluate_coco({**data, "images": [{"id": 1}, {"id": "1"}]}, []),
            r"images\[1\] has id '1', a text, and images\[0\] 1, a number",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_ids_of_zero_are_counted():
    """The peer takes a match to annotation 0 for a miss; here it is one, and said."""
    data = dataset(truth([0, 0, 5, 5]), truth([9, 9, 5, 5]))
    result = evaluate_coco(data, [found([0, 0, 5, 5], 0.5)])
    assert (result.id_zero, result.AR100) == (1, 0.5)
    renumbered = {**data, "annotations": [{**a, "id": a["id"] + 1} for a in data["annotations"]]}
    assert evaluate_coco(renumbered, []).id_zero == 0


def test_parts_average_to_the_figures():
    data, detections = random_case()
    result = evaluate_coco(data, detections)
    assert np.mean(list(result.per_class.values())) == pytest.approx(result.AP, abs=1e-12)
    assert np.mean(list(result.per_threshold.values())) == pytest.approx(result.AP, abs=1e-12)
    assert (result.per_threshold[0.5], result.per_threshold[0.75]) == (result.AP50, result.AP75)
    assert result.curve().mean() == pytest.approx(result.AP50, abs=1e-12)
    curves = [result.curve(category, iou=0.75) for category in result.per_class]
    assert np.mean(curves) == pytest.approx(result.AP75, abs=1e-12)
    assert all((np.diff(curve) <= 0).all() for curve in curves)
    with pytest.raises(ValueError, match=r"iou 0.52 is none of"):
        result.curve(iou=0.52)
    with pytest.raises(ValueError, match="category 9 is none of 0, 1, 2"):
        result.curve(9)


def test_no_truth_no_curve():
    assert (evaluate_coco(dataset(), [GOOD]).curve() == -1).all()


def test_figures_at_a_score():
    """They are those of the detections at and above it, evaluated anew."""
    data, detections = random_case(4)
    result = evaluate_coco(data, detections)
    for category in (None, 0, 1):
        score = sorted(d["score"] for d in detections)[30]
        at = result.at_score(score, iou=0.6, category=category)
        above = evaluate_coco(data, [d for d in detections if d["score"] >= score]).at_score(0.0, 0.6, category)
        assert at == above
        truths = [a for a in data["annotations"] if category in (None, a["category_id"])]
        assert at["tp"] + at["fn"] == len(truths)
        assert at["f1"] == pytest.approx(2 / (1 / at["precision"] + 1 / at["recall"]), abs=1e-12)
    assert at["tp"] > 0
    assert result.at_score(2.0) == {"precision": 0, "recall": 0, "f1": 0, "tp": 0, "fp": 0, "fn": 60}


def resampled(data, detections, counts):
    """The data set that holds each image as often as a draw says, under ids of its own."""
    images, annotations, entries = [], [], []
    for name, count in enumerate(counts):
        for _ in range(count):
            images.append({"id": len(images)})
            annotations += [{**a, "image_id": images[-1]["id"]} for a in data["annotations"] if a["image_id"] == name]
            entries += [{**d, "image_id": images[-1]["id"]} for d in detections if d["image_id"] == name]
    return {**data, "images": images, "annotations": annotations}, entries


def test_weights_equal_a_data_set_drawn_anew():
    """A crowd, small objects and images that are drawn not at all or several times among it."""
    data, detections = random_case(2)
    data["annotations"][0]["iscrowd"] = 1
    result = evaluate_coco(data, detections, max_detections=(1, 3, 5))
    weights = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), 10)
    ours = weighted_figures(result.matching, weights)
    for i, counts in enumerate(weights):
        again = evaluate_coco(*resampled(data, detections, counts), max_detections=(1, 3, 5)).figures
        assert {name: values[i] for name, values in ours.items()} == pytest.approx(again, abs=1e-12)


def test_intervals():
    data, detections = random_case(3, n=200, images=40)
    result = evaluate_coco(data, detections)
    intervals = result.intervals(resamples=100, seed=5)
    assert list(intervals) == FIGURES
    assert intervals == result.intervals(resamples=100, seed=5)
    assert intervals != result.intervals(resamples=100, seed=6)
    narrow = result.intervals(resamples=100, level=0.5, seed=5)
    for name, (low, high) in intervals.items():
        assert low < result.figures[name] < high
        assert low <= narrow[name][0] <= narrow[name][1] <= high
    for bad in ({"resamples": 0}, {"level": 1.0}):
        with pytest.raises(ValueError, match="two resamples at least"):
            result.intervals(**bad)
    assert evaluate_coco(dataset(truth([0, 0, 5, 5])), []).intervals(resamples=9)["APl"] == (-1, -1)


def test_intervals_cover():
    """Over draws of 40 of many images the interval at 80 % holds the figure of all in about that share."""
    rng = np.random.default_rng(0)
    images = 600
    boxes = np.tile([[0.0, 0, 20, 20]], (images, 1))
    scores = rng.random(images)
    shift = np.where(rng.random(images) < 0.6, 0.0, 100.0)  # six of ten are right
    truths = [truth(b.tolist(), i, 0) for i, b in enumerate(boxes)]
    entries = [
        found([20.0 + s, 0, 20, 20] if s else [0.0, 0, 20, 20], float(p), i, 0)
        for i, (s, p) in enumerate(zip(shift, scores, strict=True))
    ]
    everything = evaluate_coco(dataset(*truths, images=range(images), categories=[0]), entries)
    held = 0
    for start in range(0, images, 40):
        some = range(start, start + 40)
        part = evaluate_coco(
            dataset(*truths[start : start + 40], images=some, categories=[0]), entries[start : start + 40]
        )
        low, high = part.intervals(resamples=100, level=0.8)["AR100"]
        held += low <= everything.AR100 <= high
    assert 8 <= held <= 15  # of 15 at .8: fewer than 8 have a probability of .4 %


def test_libraries_keep_no_matching():
    data, detections = random_case()
    result = evaluate_coco(data, detections, backend="pycocotools")
    for call in (result.intervals, lambda: result.at_score(0.5)):
        with pytest.raises(ValueError, match="keeps no matching"):
            call()
    assert result.curve(0).shape == (101,)


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path):
    (tmp_path / "found.json").write_text(json.dumps([GOOD, {**GOOD, "image_id": 77}]))
    with pytest.raises(ValueError, match=r"found.json: detections\[1\] has image_id 77"):
        evaluate_coco(dataset(truth([0, 0, 5, 5])), tmp_path / "found.json")

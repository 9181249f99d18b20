"""Every type of error alone and exactly, on hand-made cases and on perturbed scenes; sums and limits that must hold."""

import numpy as np
import pytest

from bench.data.scenes import scenes
from bench.tasks.metrics.detection import perturb
from metrics.detection.coco import evaluate_coco
from metrics.detection.curves import RECALLS
from metrics.detection.overlaps import find_overlaps
from metrics.detection.tide import evaluate_tide
from metrics.detection.tide_errors import TYPES

# AP is a mean of 101 ratios of counts; here and in COCO's engine their sums round differently, by a few 1e-16.
ROUNDING = 1e-12
NAMES = ["localisation", "classification", "duplicate", "background", "both", "missed"]
ORACLES = ["false positives", "false negatives"]


def truth(box, image=1, category=1, **fields):
    return {"image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], **fields}


def found(box, score, image=1, category=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def dataset(*annotations, categories=(1, 2)):
    numbered = [{**a, "id": i} for i, a in enumerate(annotations, 1)]
    return {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": c} for c in categories], "annotations": numbered}


HERE, THERE = [0, 0, 10, 10], [100, 0, 10, 10]
DATA = dataset(truth(HERE), truth(THERE), truth(HERE, image=2, category=2))
RIGHT = [found(HERE, 0.5), found(THERE, 0.5), found(HERE, 0.5, image=2, category=2)]

# What goes in the place of, or beside, the first right detection, and what it costs. Two truths of class 1: with one
# wrong detection above the right ones precision is 2/3 at the last recall and so everywhere, as it never is higher;
# with one of them missing, recalls up to 1/2 are reached (51 of 101).
HALF = np.count_nonzero(RECALLS <= 0.5) / 101
CASES = {
    "localisation": ([found([0, 0, 10, 3], 0.9), *RIGHT[1:]], (1 - HALF * 1 / 2) / 2),
    "classification": ([found(HERE, 0.9, category=2), *RIGHT[1:]], (1 - HALF) / 2 + (1 - 1 / 2) / 2),
    "duplicate": ([found([0, 0, 10, 9], 0.4), found(HERE, 0.6), found(THERE, 0.3), RIGHT[2]], (1 - HALF) / 3 / 2),
    "background": ([found([500, 0, 10, 10], 0.9), *RIGHT], (1 - 2 / 3) / 2),
    "both": ([found([0, 0, 10, 3], 0.9, category=2), *RIGHT], (1 - 1 / 2) / 2),
    "missed": (RIGHT[1:], (1 - HALF) / 2),
}


@pytest.mark.parametrize("name", NAMES)
def test_each_type_alone(name):
    detections, cost = CASES[name]
    result = evaluate_tide(DATA, detections)
    assert result.counts == dict.fromkeys(NAMES, 0) | {name: 1}
    assert result.costs[name] == pytest.approx(cost, abs=ROUNDING)
    assert result.ap + result.costs[name] == pytest.approx(1, abs=ROUNDING)  # mending the only error leaves none
    others = [other for other in NAMES if other != name]
    assert [result.costs[other] for other in others] == [0] * 5
    assert result.ap == pytest.approx(evaluate_coco(DATA, detections).AP50, abs=ROUNDING)


def test_a_perfect_detector_has_no_errors():
    result = evaluate_tide(DATA, RIGHT)
    assert result.ap == pytest.approx(1)
    assert set(result.counts.values()) == {0}
    assert set(result.costs.values()) == {0}


def _iou_with_here(iou, category=1, image=1):
    return found([0, 0, 10, 10 * iou], 0.9, category=category, image=image)


@pytest.mark.parametrize(
    ("detection", "name"),
    [
        (_iou_with_here(0.1), "localisation"),  # the lower end belongs to it
        (_iou_with_here(0.49), "localisation"),
        (_iou_with_here(0.05), "background"),
        (_iou_with_here(0.1, category=2), "background"),
        (_iou_with_here(0.11, category=2), "both"),
        (_iou_with_here(0.49, category=2), "both"),
        (_iou_with_here(0.5, category=2), "classification"),
    ],
)
def test_bounds_between_types(detection, name):
    result = evaluate_tide(dataset(truth(HERE)), [detection])
    assert TYPES[result.error[0]].name == name


def test_localisation_is_tested_before_classification_and_that_before_duplicate():
    two = dataset(truth(HERE), truth([0, 0, 10, 4], category=2))
    near_both = found([0, 0, 10, 4.5], 0.9)  # .45 with its class, .89 with the other
    assert TYPES[evaluate_tide(two, [near_both]).error[0]].name == "localisation"
    same_place = dataset(truth(HERE), truth(HERE, category=2))
    result = evaluate_tide(same_place, [found(HERE, 0.9), found(HERE, 0.8)])
    assert TYPES[result.error[1]].name == "classification"


def test_only_the_best_of_those_that_point_to_one_truth_becomes_right():
    """Two badly placed boxes at one truth: mending gives one right detection, and the other goes."""
    detections = [found([0, 0, 10, 4], 0.9), found([0, 0, 10, 3], 0.8)]
    result = evaluate_tide(dataset(truth(HERE)), detections)
    assert result.counts["localisation"] == 2
    assert result.counts["missed"] == 0
    assert result.costs["localisation"] == pytest.approx(1)
    rival = [found(HERE, 0.95, category=2), *detections]  # the best score is that of a classification error
    result = evaluate_tide(dataset(truth(HERE)), rival)
    assert result.costs["localisation"] == 0
    assert result.costs["classification"] == pytest.approx(1)  # and the bad boxes below do not matter at recall 1


def test_errors_at_a_taken_truth_go():
    detections = [found(HERE, 0.8), found([0, 0, 10, 4], 0.9)]
    result = evaluate_tide(dataset(truth(HERE)), detections)
    assert result.counts["localisation"] == 1
    assert (result.ap, result.costs["localisation"]) == (pytest.approx(1 / 2), pytest.approx(1 / 2))


def test_what_a_crowd_absorbs_is_no_error():
    crowd = truth([100, 100, 200, 200], iscrowd=1)
    inside = [found([110 + 10 * i, 120, 15, 15], 0.9) for i in range(5)]
    result = evaluate_tide(dataset(truth(HERE), crowd), [*inside, found(HERE, 0.1)])
    assert set(result.counts.values()) == {0}
    assert result.ap == pytest.approx(1)
    of_another_class = [found([110, 120, 15, 15], 0.9, category=2)]
    assert evaluate_tide(dataset(truth(HERE), crowd), of_another_class).counts["background"] == 1


def test_oracles():
    """Without wrong detections AP is the recall reached; without truths that nothing takes, it is what is left."""
    detections = [found([500, 0, 10, 10], 0.9), found(HERE, 0.5)]  # one wrong above one right of two
    result = evaluate_tide(dataset(truth(HERE), truth(THERE)), detections)
    assert result.ap == pytest.approx(HALF / 2, abs=ROUNDING)
    assert result.ap + result.costs["false positives"] == pytest.approx(HALF, abs=ROUNDING)
    assert result.ap + result.costs["false negatives"] == pytest.approx(1 / 2, abs=ROUNDING)


def test_nothing_found_and_nothing_to_find():
    nothing = evaluate_tide(DATA, [])
    assert nothing.counts["missed"] == 3
    assert (nothing.ap, nothing.costs["missed"], nothing.costs["false negatives"]) == (0, 1, 1)
    empty = evaluate_tide(dataset(), [found(HERE, 0.5)])
    assert empty.ap == -1
    assert set(empty.costs.values()) == {0}
    assert empty.counts["background"] == 1


EXPECTED = {
    "jitter": "localisation",
    "drop": "missed",
    "duplicate": "duplicate",
    "class_swap": "classification",
    "background": "background",
}


@pytest.mark.parametrize("perturbation", EXPECTED)
def test_a_perturbation_is_told_by_its_type(perturbation):
    data = scenes(40, seed=3).coco
    previous = 0.0
    for level in (0.1, 0.3):
        result = evaluate_tide(data, perturb(data, perturbation, level).entries())
        own = result.costs[EXPECTED[perturbation]]
        assert own == max(result.costs[name] for name in NAMES)
        assert own > previous  # the same error, larger
        previous = own
        assert result.ap == pytest.approx(
            evaluate_coco(data, perturb(data, perturbation, level).entries()).AP50, abs=ROUNDING
        )


def mended(data, result, name):
    """The data set and detections with what ``name`` says put right, as COCO's objects."""
    assignment, ids = result.assignment, list(result.per_class)
    images = [image["id"] for image in data["images"]]
    rows, truths = assignment.detections, assignment.truths
    detections = [
        found(box, score, images[i], ids[k])
        for box, score, i, k in zip(
            rows.box.tolist(), rows.score.tolist(), rows.image.tolist(), rows.category.tolist(), strict=True
        )
    ]
    free = ~truths.crowd
    free[assignment.partner[assignment.hit]] = False
    gone = {"missed": result.missed, "false negatives": free}.get(name, np.zeros(len(free), bool))
    wrong = (result.error >= 0) & (name == "false positives")
    best = {}  # truth -> the first, and so best, of the errors that point to it
    for n in np.flatnonzero(result.error >= 0):
        if (at := _points_to(assignment, n, TYPES[result.error[n]].name)) is not None and free[at]:
            best.setdefault(at, n)
    for n in np.flatnonzero(result.error >= 0):
        wrong[n] |= TYPES[result.error[n]].name == name
    for at, n in best.items():
        if TYPES[result.error[n]].name == name:
            wrong[n] = False
            detections[n] |= {"bbox": truths.box[at].tolist(), "category_id": ids[truths.category[at]]}
    kept = [entry for entry, out in zip(data["annotations"], gone, strict=True) if not out]
    return {**data, "annotations": kept}, [d for d, out in zip(detections, wrong, strict=True) if not out]


def _points_to(assignment, n, name):
    truths = assignment.truths
    pairs = find_overlaps(truths, assignment.detections, least=1e-9)
    same = truths.category == assignment.detections.category[n]
    among = ~truths.crowd & {"localisation": same, "classification": ~same}.get(name, np.zeros(len(same), bool))
    own = (pairs.detection == n) & among[pairs.truth]
    return pairs.truth[own][pairs.iou[own].argmax()] if own.any() else None


@pytest.mark.parametrize("name", [*NAMES, *ORACLES])
def test_a_cost_is_what_ap_gains_on_mended_files(name):
    """Boxes moved, classes changed, entries struck out: COCO's own engine gives the AP that TIDE foretells."""
    data = scenes(40, seed=6).coco
    kinds = [("jitter", 0.15), ("class_swap", 0.3), ("duplicate", 0.3), ("background", 0.3)]
    parts = [perturb(data, kind, level, seed).entries() for seed, (kind, level) in enumerate(kinds)]
    detections = [entry for part in parts for entry in part[::3]]
    rng = np.random.default_rng(0)
    detections = [{**entry, "score": float(rng.random())} for entry in detections]
    result = evaluate_tide(data, detections)
    assert min(result.counts.values()) > 0
    assert (result.assignment.positives > 0).all()
    right = evaluate_coco(*mended(data, result, name)).AP50
    assert result.ap + result.costs[name] == pytest.approx(right, abs=ROUNDING)


def test_dropped_and_doubled_detections_are_counted_exactly():
    data = scenes(40, seed=3).coco
    perfect = perturb(data, "drop", 0.0).entries()
    missing = evaluate_tide(data, perfect[::2])
    assert missing.counts == dict.fromkeys(NAMES, 0) | {"missed": len(perfect) // 2}
    assert missing.ap + missing.costs["missed"] == pytest.approx(1, abs=ROUNDING)
    twice = [{**entry, "score": entry["score"] / 4} for entry in perfect[::3]]
    doubled = evaluate_tide(data, [*perfect, *twice])
    assert doubled.counts == dict.fromkeys(NAMES, 0) | {"duplicate": len(twice)}


def test_every_wrong_detection_has_one_error_and_every_truth_is_accounted_for():
    data = scenes(40, seed=4).coco
    result = evaluate_tide(data, perturb(data, "score_noise", 0.3).entries())
    assignment = result.assignment
    assert ((result.error >= 0) == (~assignment.hit & ~assignment.ignored)).all()
    assert sum(result.counts[kind.name] for kind in TYPES) == (result.error >= 0).sum()
    assert not result.missed[assignment.partner[assignment.hit]].any()
    for k, costs in result.per_class.items():
        assert list(costs) == [*NAMES, *ORACLES]
        assert costs["false positives"] >= 0, k
    for name in result.costs:
        assert result.costs[name] == pytest.approx(np.mean([costs[name] for costs in result.per_class.values()]))


def test_thresholds_have_an_effect():
    detections = [_iou_with_here(0.6)]
    data = dataset(truth(HERE))
    assert evaluate_tide(data, detections).counts["localisation"] == 0
    assert evaluate_tide(data, detections, iou_threshold=0.75).counts["localisation"] == 1
    assert evaluate_tide(data, detections, iou_threshold=0.75, background_threshold=0.7).counts["background"] == 1
    worse = [found(THERE, 0.9), _iou_with_here(1)]
    assert evaluate_tide(data, worse).ap == pytest.approx(1 / 2)
    assert evaluate_tide(data, worse, max_detections=1).ap == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": 0.0}, r"iou_thresholds \(0.0,\) must be distinct and in \(0, 1\]"),
        ({"background_threshold": 0.5}, r"background_threshold 0.5 is not in \(0, iou_threshold = 0.5\)"),
        ({"max_detections": 0}, "max_detections 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_tide(DATA, RIGHT, **options)


def test_summary_and_picture_show_every_cost():
    result = evaluate_tide(DATA, CASES["localisation"][0])
    text = result.summarise()
    axes = result.plot().axes[0]
    for name, cost in result.costs.items():
        assert f"| {name} | {result.counts.get(name, '')} | {cost:.4f} |" in text
    assert [bar.get_width() for bar in axes.patches] == list(result.costs.values())[::-1]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(result.costs)[::-1]

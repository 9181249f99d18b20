"""Detectors on the same images: differences as from data sets without an image, their order, and what is refused."""

import itertools

import numpy as np
import pytest
import scipy.stats

from bench.data.laws import DetectionLaw
from metrics.detection.coco import evaluate_coco
from metrics.detection.paired import LEAST, compare_detections
from metrics.paired import holm, pair


def draw(images=24, seed=0):
    one, two = DetectionLaw("strong").draw_pair("weak", images, np.random.default_rng(seed))
    return one.truths, {"strong": one.detections, "weak": two.detections}


def without(columns, image):
    kept = columns[0] != image
    return tuple(column[kept] for column in columns)


def test_intervals_are_the_jackknife_of_data_sets_without_an_image():
    truths, detectors = draw(images=14)
    found = compare_detections(truths, detectors).figures["weak", "strong"]["AP50"]

    def difference(keep):
        strong, weak = (evaluate_coco(keep(truths), keep(boxes)).AP50 for boxes in detectors.values())
        return weak - strong

    rest = np.array([difference(lambda columns, image=image: without(columns, image)) for image in range(14)])
    error = np.sqrt(13 / 14 * np.square(rest - rest.mean()).sum())
    reach = scipy.stats.t.ppf(0.975, 13) * error
    assert found.mean == pytest.approx(difference(lambda columns: columns))
    assert found.interval == pytest.approx((found.mean - reach, found.mean + reach))
    assert found.p_value == pytest.approx(2 * scipy.stats.t.sf(abs(found.mean) / error, 13))
    assert found.n == 14


def test_the_worse_detector_is_named_and_a_copy_is_not_told_apart():
    truths, detectors = draw(images=60)
    names = {**detectors, "copy": detectors["strong"]}
    found = compare_detections(truths, names, every=True)
    said = {each: of["AP"].verdict(each, "higher") for each, of in found.figures.items()}
    assert said == {
        ("weak", "strong"): "strong is better",
        ("copy", "strong"): "not told apart",
        ("copy", "weak"): "copy is better",
    }
    for of in (found.figures["copy", "strong"], found.classes["copy", "strong"]):
        assert {(each.mean, each.interval, each.p_value) for each in of.values()} == {(0.0, (0.0, 0.0), 1.0)}
    for category, each in found.classes["weak", "strong"].items():
        results = found.results
        assert each.mean == results["weak"].per_class[category] - results["strong"].per_class[category] < 0


def test_exchanging_two_detectors_changes_the_sign_alone():
    truths, detectors = draw()
    there = compare_detections(truths, detectors).figures["weak", "strong"]
    back = compare_detections(truths, dict(reversed(detectors.items()))).figures["strong", "weak"]
    for name, each in there.items():
        low, high = back[name].interval
        assert (each.mean, *each.interval) == pytest.approx((-back[name].mean, -high, -low))
        assert each.p_value == pytest.approx(back[name].p_value)


def test_pairing_makes_intervals_narrow():
    """Scores change a little: the difference is known far better than either figure."""
    truths, detectors = draw(images=60)
    image, box, label, score = detectors["weak"]
    moved = np.clip(score + 0.02 * np.random.default_rng(0).normal(size=len(score)), 0, 1)
    found = compare_detections(truths, {"a": detectors["weak"], "b": (image, box, label, moved)})
    low, high = found.figures["b", "a"]["AP"].interval
    one, other = found.results["a"].intervals(resamples=20)["AP"]
    assert high - low < (other - one) / 4


def test_p_values_of_a_figure_are_by_holm_over_pairs_and_of_classes_over_all():
    truths, detectors = draw(images=40)
    third = DetectionLaw("strong").draw_pair("strong", 40, np.random.default_rng(0))[1].detections
    names = {**detectors, "third": third}
    found = compare_detections(truths, names, every=True)
    pairs = list(itertools.combinations(names, 2))
    alone = {
        (b, a): compare_detections(truths, {a: names[a], b: names[b]}) for a, b in pairs
    }  # fmt: skip
    expected = holm([each.figures[of]["AP"].p_value for of, each in alone.items()])
    assert [each["AP"].p_value for each in found.figures.values()] == pytest.approx(expected)
    for of, each in alone.items():
        one, all_at_once = each.figures[of]["AP"].interval, found.figures[of]["AP"].interval
        assert all_at_once[0] < one[0] < one[1] < all_at_once[1]
    assert pair(list(names)) == [("weak", "strong"), ("third", "strong")]


def test_a_class_or_size_in_few_images_has_no_interval():
    truths, detectors = draw(images=40)
    image, box, label = truths
    seen = np.unique(image[label == 2])
    assert len(seen) >= LEAST
    label = np.where((label == 2) & (image > seen[LEAST - 2]), 0, label)  # one image too few
    found = compare_detections((image, box, label), detectors)
    assert list(found.classes["weak", "strong"]) == [0, 1]
    assert set(found.results["weak"].per_class) == {0, 1, 2}
    few = compare_detections(*draw(images=LEAST - 1))
    assert few.figures == {("weak", "strong"): {}}


@pytest.mark.unchecked
def test_what_is_refused():
    truths, detectors = draw()
    with pytest.raises(ValueError, match="1 of 1 results"):
        compare_detections(truths, {"one": detectors["weak"]})
    with pytest.raises(ValueError, match="0 of 2 results have a matching"):
        compare_detections(truths, detectors, backend="pycocotools")
    from metrics.detection.paired import compare_results

    other = draw(seed=1)[0]
    results = {name: evaluate_coco(t, detectors["weak"]) for name, t in (("a", truths), ("b", other))}
    with pytest.raises(ValueError, match="b and a have different truths"):
        compare_results(results)

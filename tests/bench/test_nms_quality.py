"""Crowds of candidates, and the tasks that set an NMS to sort them out."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from bench.data.crowds import SIZE, crowds
from bench.task import Context
from bench.tasks.boxes.declarations import nms_quality, nms_speed
from implementations.boxes import NMS
from implementations.boxes.geometry import pairwise_iou


def run(nms, boxes=100, seed=0, **parameters):
    context = Context(seed=seed)
    measured = nms_quality.run(nms_quality.parameters(nms=nms, boxes=boxes, **parameters), context)
    return {name: value.value for name, value in measured.items()}, context.arrays


def truths(crowd, image):
    chosen = [entry for entry in crowd.truth["annotations"] if entry["image_id"] == image]
    box = torch.tensor([entry["bbox"] for entry in chosen])
    return torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], 1), [entry["category_id"] - 1 for entry in chosen]


@pytest.mark.parametrize("boxes", [1, 10, 57, 1000])
def test_crowds_have_the_numbers_asked_for(boxes):
    crowd = crowds(boxes, 3, classes=4)
    assert crowd.image.tolist() == [i for i in range(3) for _ in range(boxes)]
    assert len(crowd.truth["annotations"]) == 3 * max(1, boxes // 10)
    assert {entry["category_id"] for entry in crowd.truth["annotations"]} <= {1, 2, 3, 4}
    assert 0 <= crowd.labels.min() <= crowd.labels.max() <= 3
    assert ((crowd.boxes[:, 2:] - crowd.boxes[:, :2]) > 0).all()
    for values in (crowd.scores, crowd.ious):
        assert 0 <= values.min() <= values.max() <= 1
    for x, y, width, height in (entry["bbox"] for entry in crowd.truth["annotations"]):
        assert 0 <= x < x + width <= SIZE[1]
        assert 0 <= y < y + height <= SIZE[0]


def test_crowds_are_those_of_their_seed():
    first, other = crowds(50, 2, seed=1), crowds(50, 2, seed=2)
    assert not torch.equal(first.boxes, other.boxes)
    crowds.cache_clear()
    again = crowds(50, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first[:5], again[:5], strict=True))
    assert first.truth == again.truth


def test_scores_and_predicted_ious_say_how_well_a_candidate_fits():
    crowd = crowds(1000, 1)
    box, _ = truths(crowd, 0)
    fits = pairwise_iou(crowd.boxes, box).amax(1)
    for values in (crowd.scores, crowd.ious):
        assert torch.corrcoef(torch.stack([values, fits]))[0, 1] > 0.5


def test_more_candidates_are_more_crowded():
    measured = [run("hard", boxes, images=4)[0]["crowding"] for boxes in (10, 100, 1000)]
    assert all(less < more for less, more in pairwise(measured))
    assert run("hard", 100, classes=1)[0]["crowding"] > run("hard", 100, classes=10)[0]["crowding"]


@pytest.mark.parametrize("nms", list(NMS))
def test_suppression_helps(nms):
    """Against keeping every candidate as it is: an IoU threshold of 1 suppresses nothing."""
    everything, _ = run("hard", iou_threshold=1.0)
    measured, arrays = run(nms)
    assert everything["kept"] == 100
    assert measured["kept"] <= 100
    assert measured["AP"] > everything["AP"]
    assert 0 <= measured["AP75"] <= measured["AP50"] <= 1
    assert len(arrays["box"]) == len(arrays["score"]) == len(arrays["image"]) == len(arrays["label"])
    assert len(arrays["box"]) == round(measured["kept"] * 20)


def test_same_set_same_figures():
    hard, _ = run("hard", 300, images=3)
    for nms in ("cluster", "torchvision_nms", "torchvision_batched_nms"):
        assert run(nms, 300, images=3)[0] == hard


def test_deterministic_in_the_seed():
    first, arrays = run("soft_gaussian")
    crowds.cache_clear()
    again, same = run("soft_gaussian")
    assert first == again
    assert all(torch.equal(arrays[name], same[name]) for name in arrays)
    assert first["AP"] != run("soft_gaussian", seed=1)[0]["AP"]


def test_options_and_threshold_reach_the_method():
    assert run("matrix")[0] != run("matrix", options={"kernel": "linear"})[0]
    assert run("hard")[0] != run("hard", iou_threshold=0.7)[0]


@pytest.mark.unchecked
def test_bad_parameters():
    for parameters, message in [
        ({"nms": "hrad"}, "no NMS named 'hrad'; did you mean hard"),
        ({"nms": "hard", "options": {"sigma": 1.0}}, "options of hard: hard has no option 'sigma'"),
        ({"nms": "matrix", "options": {"kernel": "cubic"}}, "kernel is 'cubic'"),
        ({"nms": "hard", "iou_threshold": 1.5}, "less than or equal to 1"),
        ({"nms": "hard", "boxes": 0}, "greater than or equal to 1"),
    ]:
        with pytest.raises(ValidationError, match=message):
            nms_quality.parameters(**parameters)
    with pytest.raises(ValueError, match="boxes 0, images 1, classes 10: positive"):
        crowds(0, 1)


def test_speed_is_a_contest():
    names = ["torchvision_nms", "hard", "iou_guided"]
    context = Context()
    measured = nms_speed.run(nms_speed.parameters(nms=names, boxes=60, max_seconds=0.2), context)
    assert {name: set(own) for name, own in measured.items()} == {name: {"time", "ratio"} for name in names}
    assert measured["torchvision_nms"]["ratio"].value == 1
    for name in names:
        low, high = measured[name]["time"].interval
        assert 0 < low <= measured[name]["time"].value <= high
        assert len(context.arrays[f"seconds.{name}"]) == measured[name]["time"].n >= 20
    assert nms_speed.timing
    assert not nms_quality.timing

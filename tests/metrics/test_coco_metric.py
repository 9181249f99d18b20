"""The metric's states merge exactly: any batches, any shards, two processes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from bench.data.detections_at_scale import detections_at_scale
from metrics.detection.coco import evaluate_coco
from metrics.streams.coco import CocoAP
from tests.metrics.gloo import on_ranks

IMAGES = 20


@pytest.fixture(scope="module")
def case():
    """Scores of two values, so that the order of images decides about ties."""
    case = detections_at_scale(images=IMAGES, truths=150, detections=1500, classes=3, seed=6)
    outputs = [output | {"scores": output["scores"].mul(4).round() / 4} for output in case.outputs]
    targets = [target | {"image_id": 100 + i} for i, target in enumerate(case.targets)]
    return targets, outputs


@pytest.fixture(scope="module")
def expected(case):
    return evaluate_coco(*case).figures


def fill(metric, case, images):
    targets, outputs = case
    metric.update([outputs[i] for i in images], [targets[i] for i in images])
    return metric


def values(metric):
    return {name: float(value) for name, value in metric.compute().items()}


def test_batches_equal_a_single_pass(case, expected):
    metric = CocoAP()
    for start, end in ((0, 1), (1, 8), (8, 8), (8, IMAGES)):
        fill(metric, case, range(start, end))
    assert values(metric) == expected
    assert values(pickle.loads(pickle.dumps(metric))) == expected
    metric.reset()
    assert values(metric) == dict.fromkeys(expected, -1)


def test_the_order_of_images_has_no_say_where_they_have_ids(case, expected):
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0)).tolist()
    assert values(fill(CocoAP(), case, order)) == expected
    nameless = [{k: v for k, v in target.items() if k != "image_id"} for target in case[0]]
    assert values(fill(CocoAP(), (nameless, case[1]), range(IMAGES))) == expected
    assert values(fill(CocoAP(), (nameless, case[1]), order)) != expected


def test_an_image_that_a_sampler_repeats_counts_once(case, expected):
    metric = fill(CocoAP(), case, [*range(IMAGES), 0, 7])
    assert values(metric) == expected
    assert len(metric.result().matching.images) == IMAGES


def test_crowds_and_areas_are_kept(case):
    targets = [
        target
        | {
            "iscrowd": torch.arange(len(target["labels"])) % 4 == 0,
            "area": torch.full_like(target["boxes"][:, 0], 1024),
        }
        for target in case[0]
    ]
    ours = values(fill(CocoAP(max_detections=(1, 5, 50)), (targets, case[1]), range(IMAGES)))
    assert ours == evaluate_coco(targets, case[1], max_detections=(1, 5, 50)).figures
    assert ours["AR50"] != values(fill(CocoAP(), case, range(IMAGES)))["AR100"]


def of_shards(rank, shards, case):
    metric = CocoAP()
    for images in shards[rank]:
        fill(metric, case, images)
    return values(metric)


@pytest.mark.parametrize(
    "shards",
    [
        [[range(0, IMAGES, 2)], [range(1, IMAGES, 2), [0, 2]]],  # as a DistributedSampler splits and pads
        [[range(IMAGES)], []],  # a rank that saw nothing
    ],
)
def test_two_processes_equal_one(case, expected, shards):
    assert on_ranks(of_shards, shards, case) == [expected, expected]


@pytest.mark.unchecked
def test_bad_updates(case):
    targets, outputs = case
    metric = CocoAP()
    with pytest.raises(ValueError, match="20 images in the targets, 19 in the predictions"):
        metric.update(outputs[:-1], targets)
    with pytest.raises(ValueError, match="one mapping per image, with boxes, labels"):
        metric.update([{}], [{}])
    with pytest.raises(ValueError, match=r"detections\[0\] has scores\[0\] nan"):
        metric.update([outputs[0] | {"scores": outputs[0]["scores"] * torch.nan}], targets[:1])
    metric.update(outputs[:1], targets[:1])
    metric.update(outputs[1:2], [{k: v for k, v in targets[1].items() if k != "image_id"}])
    with pytest.raises(ValueError, match="1 of 2 images have an image_id"):
        metric.compute()


BOX = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
AWAY = BOX | {"boxes": torch.tensor([[50.0, 0, 59, 9]])}


def scored(entry, score=0.5):
    return entry | {"scores": torch.tensor([score])}


@pytest.mark.parametrize("first", [2**53, 2**60, 2**63 - 2, -(2**63), -7])
@pytest.mark.parametrize("kind", [int, lambda name: torch.tensor([name]), np.int64])
def test_ids_and_labels_of_64_bits_stay_apart(first, kind):
    """Neighbours that a float does not tell apart: two images, one of them without a hit; two classes, one hit."""
    metric = CocoAP()
    for name, output in ((first, BOX), (first + 1, AWAY)):
        metric.update([scored(output)], [BOX | {"image_id": kind(name)}])
    assert len(metric.result().matching.images) == 2
    assert values(metric)["AR100"] == 0.5
    labels = [entry | {"labels": torch.tensor([first + i])} for i, entry in enumerate((BOX, BOX))]
    metric = CocoAP()
    metric.update([scored(labels[0]), scored(labels[0])], labels)
    assert metric.result().per_class.keys() == {first, first + 1}
    assert values(metric)["AR100"] == 0.5


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "name", [1.5, float("nan"), 2.0**53, "a", True, 2**63, torch.tensor(0.5), [1], torch.tensor([]), {}], ids=repr
)
def test_an_id_that_would_not_stay_exact_is_refused(name):
    with pytest.raises(ValueError, match=r"ground truth\[1\] has image_id .*; a whole number of 64 bits is accepted"):
        CocoAP().update([scored(BOX)] * 2, [BOX | {"image_id": 0}, BOX | {"image_id": name}])


def test_parameters_are_those_of_the_function(case):
    options = {
        "class_agnostic": True,
        "max_detections": 2,
        "iou_thresholds": (0.3, 0.6),
        "area_ranges": {"tiny": (0.0, 500.0)},
    }
    ours = values(fill(CocoAP(**options), case, range(IMAGES)))
    assert list(ours) == ["AP", "APtiny", "AR2", "ARtiny"]
    assert ours == evaluate_coco(*case, **options).figures
    with pytest.raises(ValueError, match=r"iou_thresholds \(50.0,\) must be distinct and in"):
        CocoAP(iou_thresholds=[50.0])

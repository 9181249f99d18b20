"""Every form of input gives the same figures; what is wrong in one is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.detections_at_scale import detections_at_scale
from metrics.detection.coco import evaluate_coco
from metrics.detection.matching import match


@pytest.fixture(scope="module")
def case():
    return detections_at_scale(images=40, truths=300, detections=4000, classes=5, seed=1)


@pytest.fixture(scope="module")
def figures(case):
    return evaluate_coco(case.coco, case.entries).figures


def flat(case, side, kind):
    corners = np.concatenate([case.box[side][:, :2], case.box[side][:, :2] + case.box[side][:, 2:]], axis=1)
    columns = {"images": case.image[side], "boxes": corners, "labels": case.label[side]}
    columns |= {"scores": case.score} if side else {}
    return {key: kind(column) for key, column in columns.items()}


def test_the_case_is_of_the_asked_size(case):
    assert (len(case.coco["images"]), len(case.coco["annotations"]), len(case.entries)) == (40, 300, 4000)
    assert (len(case.targets), sum(len(t["boxes"]) for t in case.targets)) == (40, 300)
    assert sum(len(output["scores"]) for output in case.outputs) == 4000
    again = detections_at_scale(images=40, truths=300, detections=4000, classes=5, seed=1)
    assert again.entries == case.entries
    assert again.coco == case.coco
    with pytest.raises(ValueError, match="two detections per truth"):
        detections_at_scale(images=1, truths=9, detections=17)


def test_tensors_an_image_equal_coco_objects(case, figures):
    assert figures["AP"] > 0.1  # else the equality would be one of zeros
    assert evaluate_coco(case.targets, case.outputs).figures == figures
    arrays = [{key: value.numpy() for key, value in output.items()} for output in case.outputs]
    assert evaluate_coco(case.targets, arrays).figures == figures


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_flat_arrays_equal_coco_objects(case, figures, kind):
    truth, found = (flat(case, side, kind) for side in (0, 1))
    assert evaluate_coco(truth, found).figures == figures
    assert evaluate_coco(tuple(truth.values()), tuple(found.values())).figures == figures
    assert evaluate_coco(case.coco, found).figures == figures
    assert evaluate_coco(case.targets, found).figures == figures


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_tensors_go_to_libraries_too(case, figures, backend):
    assert evaluate_coco(case.targets, case.outputs, backend=backend).figures == pytest.approx(figures, abs=1e-12)


def test_crowds_and_areas_of_tensors(case):
    """``iscrowd`` and ``area`` mean what they mean in a data set; where an image has none they are 0 and the box's."""
    coco = {**case.coco, "annotations": [dict(a) for a in case.coco["annotations"]]}
    targets = [dict(target) for target in case.targets]
    of_image = [[a for a in coco["annotations"] if a["image_id"] == i] for i in range(40)]
    for i in range(0, 40, 2):
        for j, annotation in enumerate(of_image[i]):
            annotation |= {"iscrowd": int(j % 3 == 0), "area": annotation["area"] / 2}
        targets[i]["iscrowd"] = torch.tensor([a["iscrowd"] for a in of_image[i]])
        targets[i]["area"] = torch.tensor([a["area"] for a in of_image[i]])
    ours = evaluate_coco(targets, case.outputs).figures
    assert ours == evaluate_coco(coco, case.entries).figures
    assert ours != evaluate_coco(case.targets, case.outputs).figures


def test_empty_images_and_no_detections():
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
    some = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([3]), "scores": torch.tensor([0.5])}
    assert evaluate_coco([some, none], [some, none]).figures["AP"] == pytest.approx(
        1, abs=1e-15
    )  # pycocotools' spacing(1)
    assert evaluate_coco([none, some], [some, none]).AP == 0
    assert evaluate_coco([some, none], [none, none]).AP == 0
    assert evaluate_coco([some], []).AP == 0
    assert evaluate_coco([none], [some]).figures == dict.fromkeys(evaluate_coco([some], []).figures, -1)
    bare = {"boxes": torch.zeros(0), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    assert evaluate_coco([some, bare], [some, bare]).figures["AP"] == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_a_gradient_are_read(dtype):
    box, labels = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1])
    output = {"boxes": box.to(dtype).requires_grad_(), "labels": labels, "scores": torch.tensor([0.5], dtype=dtype)}
    assert evaluate_coco([{"boxes": box, "labels": labels}], [output]).figures["AP"] == pytest.approx(1, abs=1e-15)


GOOD = {"boxes": torch.tensor([[0.0, 0, 5, 5], [1, 1, 5, 5]]), "labels": torch.tensor([1, 2])}
SCORED = GOOD | {"scores": torch.tensor([0.5, 0.25])}


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.tensor([0.5, float("nan")])}, r"detections\[1\] has scores\[1\] nan"),
        ({"boxes": torch.tensor([[0.0, 0, 5, 5], [5, 1, 1, 5]])}, r"detections\[1\] has boxes\[1\] \[5.0, 1.0, 1.0"),
        ({"boxes": torch.tensor([[0.0, 0, 5, torch.inf], [0, 1, 1, 5]])}, r"detections\[1\] has boxes\[0\]"),
        ({"boxes": torch.zeros(2, 5)}, r"detections\[1\] has boxes of the shape \(2, 5\) and 2 labels"),
        ({"boxes": torch.zeros(3, 4)}, r"detections\[1\] has boxes of the shape \(3, 4\) and 2"),
        ({"scores": torch.zeros(1)}, r"detections\[1\] has scores of the shape \(1,\) and 2"),
    ],
)
def test_a_bad_row_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_coco([GOOD, GOOD], [SCORED, SCORED | change])


@pytest.mark.unchecked
def test_bad_sets_of_arrays_are_named():
    flat_truth = {"images": torch.tensor([0, 0]), **GOOD}
    flat_found = {"images": torch.tensor([0, 7]), **SCORED}
    dataset = {"images": [{"id": 0}], "categories": [{"id": 1}, {"id": 2}], "annotations": []}
    for truth, found, message in (
        ([GOOD], [SCORED, SCORED], "1 images in the ground truth, 2 in the detections"),
        ([GOOD], [GOOD], r"detections\[0\] has no 'scores'; it has boxes, labels"),
        ([GOOD, {"boxes": torch.zeros(0, 4)}], [SCORED, SCORED], r"ground truth\[1\] has no 'labels'"),
        (flat_truth, {k: v for k, v in flat_found.items() if k != "images"}, "detections has no 'images'"),
        (flat_truth, flat_found | {"scores": torch.zeros(3)}, "detections has columns of unlike lengths"),
        (flat_truth, flat_found | {"boxes": torch.zeros(2, 3)}, r"detections has boxes of the shape \(2, 3\)"),
        ([GOOD], flat_found, "detections has images 7, while the other side is a list of 1 images"),
        (flat_truth, (torch.zeros(2), torch.zeros(2, 4)), "detections is a tuple of 2"),
        (dataset, flat_found, "detections have images 7, which is none of the 1 ids"),
        ([GOOD], [{"image_id": 0}], "the ground truth is arrays and the detections are not"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_coco(truth, found)
    with pytest.raises(ValueError, match="needs a COCO data set"):
        evaluate_coco([GOOD], [SCORED], iou_type="segm", backend="pycocotools")


def test_the_matching_does_not_depend_on_the_order_of_input(case):
    """Scores differ within an image and class, so that the file's order has no say."""
    order = np.random.default_rng(0).permutation(len(case.entries))
    one, other = match(case.coco, case.entries), match(case.coco, [case.entries[i] for i in order])
    np.testing.assert_array_equal(one.partner, other.partner)
    np.testing.assert_array_equal(one.index, order[other.index])

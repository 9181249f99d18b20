"""COCO's figures against torchmetrics' on the same tensors, by both of its backends.

Its default thresholds are float32 (``torch.linspace``): .6 becomes .60000002, which a recall of 6/10 does not reach, so
that its AP is not COCO's where a recall falls on a threshold. With COCO's own thresholds handed over it is.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from bench.data.detections_at_scale import detections_at_scale
from metrics.detection.coco import evaluate_coco
from metrics.streams.coco import CocoAP

NAMES = {
    "AP": "map", "AP50": "map_50", "AP75": "map_75", "APs": "map_small", "APm": "map_medium", "APl": "map_large",
    "AR1": "mar_1", "AR10": "mar_10", "AR100": "mar_100", "ARs": "mar_small", "ARm": "mar_medium", "ARl": "mar_large",
}  # fmt: skip
# torchmetrics returns float32; the boxes are sixteenths of a pixel, so that its float32 sides are exact.
FLOAT32 = 1e-6
THRESHOLDS = {
    "iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(),
    "rec_thresholds": np.linspace(0, 1, 101).tolist(),
}


@pytest.fixture(scope="module", params=[0, 1])
def case(request):
    case = detections_at_scale(images=60, truths=500, detections=6000, classes=6, seed=request.param)
    if request.param:
        for target in case.targets[::3]:
            target["iscrowd"] = (torch.arange(len(target["labels"])) % 3 == 0).long()
            area = (target["boxes"][:, 2] - target["boxes"][:, 0]) * (target["boxes"][:, 3] - target["boxes"][:, 1])
            target["area"] = area / 2
    return case


@pytest.mark.parametrize("backend", ["pycocotools", "faster_coco_eval"])
def test_figures_equal_torchmetrics(case, backend):
    theirs = MeanAveragePrecision(box_format="xyxy", backend=backend, **THRESHOLDS)
    ours = CocoAP()
    for start in range(0, 60, 20):
        batch = case.outputs[start : start + 20], case.targets[start : start + 20]
        theirs.update(*batch)
        ours.update(*batch)
    expected = theirs.compute()
    expected = {name: float(expected[key]) for name, key in NAMES.items()}
    assert {name: float(value) for name, value in ours.compute().items()} == pytest.approx(expected, abs=FLOAT32)
    assert evaluate_coco(case.targets, case.outputs).figures == pytest.approx(expected, abs=FLOAT32)
    assert expected["AP"] > 0.1


def test_per_class_equals_torchmetrics(case):
    metric = MeanAveragePrecision(class_metrics=True, backend="faster_coco_eval", **THRESHOLDS)
    metric.update(case.outputs, case.targets)
    expected = metric.compute()
    per_class = evaluate_coco(case.targets, case.outputs).per_class
    assert list(per_class) == expected["classes"].tolist()
    assert list(per_class.values()) == pytest.approx(expected["map_per_class"].tolist(), abs=FLOAT32)


def test_default_thresholds_of_torchmetrics_miss_a_recall():
    """Six of ten truths found: the recall .6 is reached, and .6 in float32 is not."""
    box = torch.tensor([[40.0 * i, 0, 40.0 * i + 30, 30] for i in range(10)])
    target = [{"boxes": box, "labels": torch.ones(10, dtype=torch.long)}]
    output = [{"boxes": box[:6], "labels": torch.ones(6, dtype=torch.long), "scores": torch.rand(6)}]
    for options, expected in (({}, 60 / 101), (THRESHOLDS, 61 / 101)):
        metric = MeanAveragePrecision(**options)
        metric.update(output, target)
        assert float(metric.compute()["map"]) == pytest.approx(expected, abs=FLOAT32)
    assert evaluate_coco(target, output).figures["AP"] == pytest.approx(61 / 101, abs=1e-12)

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from bench.data.scenes import scenes
from bench.task import Context
from bench.tasks.metrics.declarations import detection_ap
from bench.tasks.metrics.detection import perturb

KINDS = ("jitter", "drop", "duplicate", "score_noise", "class_swap", "background")
kinds = pytest.mark.parametrize("kind", KINDS)


def run(kind, level, seed=0, n=30):
    context = Context(seed=seed)
    measured = detection_ap.run(detection_ap.parameters(perturbation=kind, level=level, scenes=n), context)
    return {name: getattr(value, "value", value) for name, value in measured.items()}, context.arrays


@kinds
def test_no_error_scores_one(kind):
    measured, _ = run(kind, 0)
    # Precision carries pycocotools' spacing(1) in its denominator.
    assert all(measured[name] == pytest.approx(1, abs=1e-15) for name in measured if name != "parity")


@kinds
def test_more_error_scores_less(kind):
    scores = [run(kind, level)[0]["AP"] for level in (0, 0.1, 0.3, 0.9)]
    assert all(less < more for more, less in pairwise(scores))


@kinds
def test_figures_equal_pycocotools(kind):
    assert run(kind, 0.2)[0]["parity"] <= 1e-12  # order of summation in the means


@kinds
def test_deterministic_in_the_seed(kind):
    (first, arrays), (again, same), (other, _) = run(kind, 0.2), run(kind, 0.2), run(kind, 0.2, seed=1)
    assert first == again
    assert first["AP"] != other["AP"]
    assert all(torch.equal(arrays[name], same[name]) for name in arrays)


def test_each_figure_answers_to_its_error():
    """What tells the kinds apart: IoU thresholds see jitter alone, recall sees no false positives."""
    measured = {kind: run(kind, 0.2)[0] for kind in KINDS}
    assert measured["jitter"]["AP50"] > measured["jitter"]["AP75"]
    for kind in ("drop", "class_swap", "background", "score_noise"):
        assert measured[kind]["AP50"] == measured[kind]["AP75"]
    for kind in ("duplicate", "background", "score_noise"):
        assert measured[kind]["AR100"] == 1


def test_detections_are_kept():
    _, arrays = run("drop", 1.0)
    assert {name: tuple(tensor.shape) for name, tensor in arrays.items()} == {
        "image": (0,),
        "category": (0,),
        "box": (0, 4),
        "score": (0,),
    }


def test_levels_share_one_draw():
    coco = scenes(5).coco
    few, many = (perturb(coco, "background", level) for level in (0.1, 0.6))
    assert {tuple(box) for box in few.box.tolist()} < {tuple(box) for box in many.box.tolist()}


def test_bad_parameters():
    with pytest.raises(ValidationError):
        detection_ap.parameters(perturbation="blur")
    with pytest.raises(ValidationError):
        detection_ap.parameters(perturbation="jitter", level=-0.1)
    with pytest.raises(ValueError, match="perturbation 'blur' is not one of jitter, drop"):
        perturb(scenes(1).coco, "blur", 0.1)

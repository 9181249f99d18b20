"""Arrays of detections with one thing wrong or unusual: an error that names the row, or the right figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metrics.detection.coco import evaluate_coco


def case(seed):
    """Lists of one mapping per image, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    targets, outputs = [], []
    for _ in range(4):
        corner, sides = rng.uniform(0, 50, (6, 2)), rng.uniform(6, 40, (6, 2))
        boxes, labels = np.concatenate([corner, corner + sides], axis=1), rng.integers(1, 4, 6)
        targets.append({"boxes": boxes, "labels": labels, "iscrowd": np.zeros(6, int), "area": sides.prod(axis=1)})
        found = rng.random(6) < 0.8
        outputs.append(
            {"boxes": boxes[found] + 1, "labels": labels[found], "scores": rng.uniform(0.1, 0.9, found.sum())}
        )
    return targets, outputs


def flat(side):
    count = [len(entry["labels"]) for entry in side]
    return {"images": np.repeat(np.arange(len(side)), count)} | {
        key: np.concatenate([entry[key] for entry in side]) for key in side[0]
    }


NUMBERS = [math.nan, math.inf, -math.inf]
WRONG = [("outputs", "scores", value) for value in NUMBERS] + [("targets", "area", value) for value in NUMBERS]
WRONG += [(side, "labels", value) for side in ("targets", "outputs") for value in (*NUMBERS, 1.5, 2.0**53, -(2.0**60))]
WRONG += [("targets", "iscrowd", value) for value in (math.nan, 2, -1, 0.5)]
WRONG += [(side, "boxes", value) for side in ("targets", "outputs") for value in (*NUMBERS, 1e120, -1e200)]


@pytest.mark.unchecked
@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize(("side", "key", "value"), WRONG)
def test_a_bad_value_is_named(side, key, value, tensors):
    seed = sum(map(ord, f"{side}{key}{value}"))
    rng = np.random.default_rng(seed)
    sides = dict(zip(("targets", "outputs"), case(seed), strict=True))
    image = int(rng.integers(1, 4))
    row = int(rng.integers(len(sides[side][image]["labels"])))
    column = sides[side][image][key].astype(float)
    column[row] = value
    sides[side][image][key] = column
    what = "ground truth" if side == "targets" else "detections"
    columns = {name: flat(entries) for name, entries in sides.items()}
    if tensors:
        sides = {k: [{n: torch.from_numpy(x) for n, x in e.items()} for e in v] for k, v in sides.items()}
        columns = {k: {n: torch.from_numpy(x) for n, x in v.items()} for k, v in columns.items()}
    with pytest.raises(ValueError, match=rf"{what}\[{image}\] has {key}\[{row}\] .* accepted"):
        evaluate_coco(sides["targets"], sides["outputs"])
    with pytest.raises(ValueError, match=rf"{what} has {key}\[\d+\] .* accepted"):
        evaluate_coco(columns["targets"], columns["outputs"])


@pytest.mark.unchecked
@pytest.mark.parametrize("key", ["boxes", "scores", "labels", "images"])
@pytest.mark.parametrize("kind", ["U", "O", "bool", "complex"])
def test_arrays_of_other_things_than_numbers_are_refused(key, kind):
    targets, outputs = map(flat, case(3))
    outputs[key] = outputs[key].astype(kind)
    with pytest.raises(ValueError, match=rf"detections has {key}"):
        evaluate_coco(targets, outputs)


@pytest.mark.unchecked
@pytest.mark.parametrize("value", [2**53 + 1, 2**62 + 3, -(2**61) - 1])
def test_ids_of_any_size_stay_apart(value):
    """Neighbours among whole numbers that float64 would merge."""
    targets, outputs = map(flat, case(4))
    expected = evaluate_coco(targets, outputs).figures
    for key in ("images", "labels"):
        moved = [{**side, key: side[key] + value} for side in (targets, outputs)]
        assert evaluate_coco(*moved).figures == pytest.approx(expected, abs=1e-12)
    outputs["labels"] = np.full(len(outputs["labels"]), 2**63 + 5, np.uint64)
    with pytest.raises(ValueError, match=r"detections has labels\[0\] 9223372036854775813; a whole number"):
        evaluate_coco(targets, outputs)


UNUSUAL = {
    "whole floats as labels": lambda e: {**e, "labels": e["labels"].astype(float)},
    "small integers": lambda e: {**e, "labels": e["labels"].astype(np.uint8)},
    "boolean crowds": lambda e: e | ({"iscrowd": e["iscrowd"].astype(bool)} if "iscrowd" in e else {}),
    "no crowds": lambda e: {k: v for k, v in e.items() if k != "iscrowd"},
    "null crowds": lambda e: e | ({"iscrowd": None} if "iscrowd" in e else {}),
    "no area": lambda e: {k: v for k, v in e.items() if k != "area"},
    "lists": lambda e: {k: v.tolist() for k, v in e.items()},
    "another byte order": lambda e: {k: v.astype(v.dtype.newbyteorder()) for k, v in e.items()},
    "tensors": lambda e: {k: torch.from_numpy(v) for k, v in e.items()},
    "negative strides": lambda e: {k: v[::-1].copy()[::-1] for k, v in e.items()},
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_arrays_have_the_right_figures(what):
    targets, outputs = case(len(what))
    expected = evaluate_coco(targets, outputs).figures
    assert 0.2 < expected["AP"] < 0.95
    got = evaluate_coco(*([UNUSUAL[what](entry) for entry in side] for side in (targets, outputs)))
    assert got.figures == pytest.approx(expected, abs=1e-12)

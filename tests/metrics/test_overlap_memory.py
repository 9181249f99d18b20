"""Memory stays bounded where one image holds very many boxes, whatever part of their pairs overlaps."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest

from metrics.detection.coco import evaluate_coco
from metrics.detection.inputs import read_inputs
from metrics.detection.overlaps import find_overlaps, overlap_blocks
from metrics.detection.tide import evaluate_tide

TRUTHS, FOUND = 400, 1000  # 400,000 pairs
SMALL = 2**15  # pairs to a block, in place of the 2**19 that are worth their while


def one_image(dense, classes, seed=0):
    rng = np.random.default_rng(seed)
    sides = []
    for n in (TRUTHS, FOUND):
        corner = rng.uniform(0, 5 if dense else 3000, (n, 2))
        box = np.c_[corner, corner + rng.uniform(95, 105, (n, 2)) if dense else corner + rng.uniform(10, 60, (n, 2))]
        sides.append({"images": np.zeros(n, int), "boxes": box, "labels": rng.integers(0, classes, n)})
    return sides[0], sides[1] | {"scores": rng.random(FOUND)}


def peak(function):
    tracemalloc.start()
    function()
    bytes_ = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_


@pytest.mark.parametrize(
    "function",
    [
        lambda truth, found: evaluate_coco(truth, found, max_detections=FOUND),
        lambda truth, found: evaluate_tide(truth, found, max_detections=FOUND),
    ],
    ids=["coco", "tide"],
)
@pytest.mark.parametrize(("dense", "classes"), [(False, 1), (True, 1), (True, 30)])
def test_memory_is_that_of_a_block(function, dense, classes, monkeypatch):
    """All pairs at once would take 100 bytes and more each: 40 MB. A block takes at most about as much per pair."""
    for module in ("matching", "tide"):
        monkeypatch.setattr(f"metrics.detection.{module}.overlap_blocks", partial(overlap_blocks, most=SMALL))
    assert peak(lambda: function(*one_image(dense, classes))) < 130 * SMALL + 2**20


def test_blocks_hold_what_overlaps_has():
    pair = read_inputs(*one_image(True, 3))
    blocks = list(overlap_blocks(pair.truths, pair.detections, least=0.9, most=10_000))
    assert len(blocks) > 30
    whole = find_overlaps(pair.truths, pair.detections, least=0.9)
    for ours, all_of_it in zip(zip(*blocks, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), all_of_it)

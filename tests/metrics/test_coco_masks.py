"""The run lengths of a compressed encoding are those of the picture that pycocotools encoded."""

import numpy as np
import pytest
from pycocotools import mask

from metrics.detection.formats.coco_masks import run_lengths


@pytest.mark.parametrize("share", [0, 0.001, 0.03, 0.5, 0.97, 1])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 65), (300, 411)])
def test_run_lengths(shape, share):
    rng = np.random.default_rng([*shape, int(1000 * share)])
    picture = np.asfortranarray(rng.random(shape) < share).astype(np.uint8, order="F")
    flat = picture.flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    expected = np.diff([0, *([0] if flat[0] else []), *ends, flat.size])
    counts = mask.encode(picture)["counts"]
    np.testing.assert_array_equal(run_lengths(counts), expected)
    np.testing.assert_array_equal(run_lengths(counts.decode()), expected)
    assert run_lengths(counts)[1::2].sum() == picture.sum()

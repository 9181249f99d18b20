"""The laws have the figures that they state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.laws import DetectionLaw, FeatureLaw

LAWS = ["equal", "shifted", "skewed", "heavy", "sparse"]


@pytest.mark.parametrize("law", LAWS)
def test_distance_is_that_of_the_moments_drawn(law):
    """Of 200,000 rows; independent coordinates leave it a sum over them. A tolerance of four errors of a deviation."""
    real, generated = FeatureLaw(law, 4).draw(200_000, 200_000, torch.Generator().manual_seed(0))
    apart = (real.mean(0) - generated.mean(0)).square() + (real.std(0) - generated.std(0)).square()
    assert float(apart.sum()) == pytest.approx(FeatureLaw(law, 4).distance(), abs=0.03)
    assert float((real.mT.corrcoef() - torch.eye(4)).abs().max()) < 0.01


@pytest.mark.parametrize("law", ["strong", "weak"])
def test_detections_are_shared_out_as_stated(law):
    truths, found = DetectionLaw(law).draw(20_000, np.random.default_rng(0))
    again, _ = DetectionLaw(law).draw(20_000, np.random.default_rng(0))
    assert all((a == b).all() for a, b in zip(truths, again, strict=True))
    images, boxes, labels = truths
    assert len(images) / 20_000 == pytest.approx(4, rel=0.01)
    assert np.bincount(labels) / len(labels) == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    for box in (boxes, found[1]):
        assert (box[:, 2:] > box[:, :2]).all()

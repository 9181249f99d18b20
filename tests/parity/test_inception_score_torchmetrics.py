"""The Inception score against torchmetrics' on the same logits; its mean and spread differ from ours by conventions."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.image.inception import InceptionScore as Peer

from metrics import inception_score


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all")
@pytest.mark.parametrize("splits", [1, 2, 10])
def test_torchmetrics(splits: int):
    """It shuffles, cuts into runs (ours deals in turn) and divides squares by S - 1 (ours, as the authors, by S)."""
    n, k = 200, 7
    logits = 2 * torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    peer = Peer(torch.nn.Identity(), splits=splits)
    peer.update(logits)
    torch.manual_seed(1)
    order = torch.randperm(n)
    torch.manual_seed(1)
    mean, deviation = peer.compute()
    dealt = logits[order].view(splits, n // splits, k).transpose(0, 1).reshape(n, k)
    found = inception_score(dealt, splits=splits)
    assert found.score == pytest.approx(float(mean), rel=1e-10)
    if splits > 1:
        assert found.spread == pytest.approx(float(deviation) * math.sqrt((splits - 1) / splits), rel=1e-10)

"""The Inception score against torchmetrics and torch-fidelity on the same logits, whose splits are runs of samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torchmetrics.image.inception import InceptionScore as Peer

from metrics import inception_score


def logits(n: int = 200, k: int = 7) -> torch.Tensor:
    return 2 * torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dealt(runs: torch.Tensor, splits: int) -> torch.Tensor:
    """The order in which dealing in turn gives these runs."""
    return runs.view(splits, len(runs) // splits, -1).transpose(0, 1).reshape(runs.shape)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all", "ignore:std\\(\\)")
@pytest.mark.parametrize("splits", [1, 2, 10])
def test_torchmetrics(splits: int):
    """It shuffles, and divides the squares of its deviation by S - 1 where the authors divide by S."""
    peer = Peer(torch.nn.Identity(), splits=splits)
    peer.update(logits())
    torch.manual_seed(1)
    order = torch.randperm(200)
    torch.manual_seed(1)
    mean, deviation = peer.compute()
    found = inception_score(dealt(logits()[order], splits), splits=splits)
    assert found.score == pytest.approx(float(mean), rel=1e-10)
    if splits > 1:
        assert found.spread == pytest.approx(float(deviation) * math.sqrt((splits - 1) / splits), rel=1e-10)


@pytest.mark.parametrize("splits", [1, 2, 10])
def test_torch_fidelity(splits: int):
    peer = isc_features_to_metric(logits(), splits=splits, shuffle=False)
    found = inception_score(dealt(logits(), splits), splits=splits)
    assert found.score == pytest.approx(peer[KEY_METRIC_ISC_MEAN], rel=1e-10)
    assert found.spread == pytest.approx(peer[KEY_METRIC_ISC_STD], rel=1e-9, abs=1e-14)  # of means it rounds to floats

"""The Fréchet distance against SciPy's matrix square root and torchmetrics' formula."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import _compute_fid

from metrics import FeatureStatistics, frechet_distance, frechet_distance_from_features


@pytest.fixture(params=[3, 64, 200], ids="d={}".format)
def pair(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated features of full rank, n = 3 d."""
    generator, d = torch.Generator().manual_seed(request.param), request.param
    mixing = torch.eye(d).double() + 0.5 * torch.randn(2, d, d, dtype=torch.float64, generator=generator) / d**0.5
    x, y = torch.randn(2, 3 * d, d, dtype=torch.float64, generator=generator) @ mixing
    return x, y + 0.1


def distances(x: torch.Tensor, y: torch.Tensor) -> list[float]:
    statistics = (FeatureStatistics.from_features(z) for z in (x, y))
    return [frechet_distance(*statistics), frechet_distance_from_features(x, y)]


def test_scipy_sqrtm(pair: tuple[torch.Tensor, torch.Tensor]):
    x, y = (z.numpy() for z in pair)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    truth = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real
    # sqrtm of a product that is not symmetric: its rounding times the condition of the eigenvectors, in traces.
    assert distances(*pair) == pytest.approx([truth] * 2, abs=1e-9 * (np.trace(s1) + np.trace(s2)))


def test_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]):
    x, y = pair
    truth = float(_compute_fid(x.mean(0), torch.cov(x.mT), y.mean(0), torch.cov(y.mT)))
    traces = float(torch.cov(x.mT).trace() + torch.cov(y.mT).trace())
    assert distances(x, y) == pytest.approx([truth] * 2, abs=1e-9 * traces)  # it takes eigenvalues of S1 S2

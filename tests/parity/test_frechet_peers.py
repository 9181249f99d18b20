"""The Fréchet distance against SciPy's matrix square root, torchmetrics, torch-fidelity and pytorch-fid."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid

from metrics import FeatureStatistics, frechet_distance, frechet_distance_from_features


# 300 takes the route of eigenvalues.
@pytest.fixture(params=[3, 64, 300], ids="d={}".format)
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


def test_torch_fidelity(pair: tuple[torch.Tensor, torch.Tensor]):
    truth = fid_statistics_to_metric(*map(fid_features_to_statistics, pair), verbose=False)[KEY_METRIC_FID]
    traces = sum(float(torch.cov(x.mT).trace()) for x in pair)
    assert distances(*pair) == pytest.approx([truth] * 2, abs=1e-9 * traces)  # eigenvalues of S1 S2, as above


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")
def test_pytorch_fid(pair: tuple[torch.Tensor, torch.Tensor]):
    x, y = (z.numpy() for z in pair)
    truth = calculate_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    traces = float(np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False)))
    assert distances(*pair) == pytest.approx([truth] * 2, abs=1e-9 * traces)  # it takes sqrtm


class Pixels(torch.nn.Module):
    """A feature extractor of a few numbers."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().flatten(1)[:, :12]


def test_torchmetrics_class_with_an_extractor_of_ones_own():
    x, y = torch.randint(0, 255, (2, 40, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    metric = FrechetInceptionDistance(feature=Pixels())
    metric.set_dtype(torch.float64)
    for images, real in ((x, True), (y, False)):
        metric.update(images, real=real)
    features = [Pixels()(images) for images in (x, y)]
    traces = sum(float(torch.cov(z.mT).trace()) for z in features)
    # It sums x x' around 0: some digits less, at a mean of 1.7 deviations.
    assert distances(*features) == pytest.approx([float(metric.compute())] * 2, abs=1e-9 * traces)


def test_scipy_sqrtm_at_the_size_of_inceptions_features():
    """d = 2048, the issue's case: at most 1e-8 of the traces."""
    generator, d = torch.Generator().manual_seed(0), 2048
    pair = [torch.randn(3 * d, d, generator=generator) * (1 + torch.rand(d, generator=generator)) for _ in range(2)]
    a, b = (FeatureStatistics.from_features(z) for z in pair)
    s1, s2 = a.covariance.numpy(), b.covariance.numpy()
    root = np.trace(scipy.linalg.sqrtm(s1 @ s2)).real
    traces = np.trace(s1) + np.trace(s2)
    truth = float((a.mean - b.mean).square().sum()) + traces - 2 * root
    assert abs(frechet_distance(a, b) - truth) < 1e-8 * traces

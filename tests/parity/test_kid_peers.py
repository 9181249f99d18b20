"""KID against torchmetrics and torch-fidelity on the same features; their subsets of all rows are all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity import metric_kid as torch_fidelity
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

import metrics.samples.kernel as kernels
from metrics.samples.kernel import cmmd, kid, kid_subsets


@pytest.fixture(params=[3, 64, 512], ids="d={}".format)
def pair(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(request.param)
    x, y = torch.randn(2, 90, request.param, dtype=torch.float64, generator=generator)
    return x, 1.2 * y + 0.3


class Features(torch.nn.Module):
    """Hands over what it gets: features in place of images."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def test_torchmetrics(pair: tuple[Tensor, Tensor]):
    truth = float(poly_mmd(*pair))
    assert float(kid(*pair)) == pytest.approx(truth, rel=1e-10)  # 8,100 terms, of which 1 to 10 % remain
    metric = KernelInceptionDistance(feature=Features(), subsets=1, subset_size=90)
    for features, real in zip(pair, (True, False), strict=True):
        metric.update(features, real=real)
    assert float(kid(*pair)) == pytest.approx(float(metric.compute()[0]), rel=1e-5)  # its result is float32


def test_torch_fidelity(pair: tuple[Tensor, Tensor]):
    options = {"kid_subsets": 1, "kid_subset_size": 90, "rng_seed": 0, "verbose": False}
    truth = torch_fidelity.kid_features_to_metric(*pair, **options)["kernel_inception_distance_mean"]
    assert float(kid(*pair)) == pytest.approx(truth, rel=1e-10)


def test_subsets_are_summed_up_as_torch_fidelity_does(pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch):
    """With the rows it draws handed to ours: the same mean and the same deviation."""
    options = {"kid_subsets": 10, "kid_subset_size": 40, "rng_seed": 7, "verbose": False}
    truth = torch_fidelity.kid_features_to_metric(*pair, **options)
    draws = np.random.RandomState(7)
    monkeypatch.setattr(
        kernels.torch, "randperm", lambda n, generator: torch.from_numpy(draws.choice(n, 40, replace=False))
    )
    found = kid_subsets(*pair, subsets=10, size=40)
    expected = [truth[f"kernel_inception_distance_{name}"] for name in ("mean", "std")]
    assert list(found) == pytest.approx(expected, rel=1e-8)  # the deviation is a difference of values


def test_torch_fidelitys_gaussian_kernel(pair: tuple[Tensor, Tensor]):
    """CMMD's estimator and kernel, from its biased estimate, which it offers at any kernel."""
    x, y = (z.numpy() for z in pair)
    blocks = [torch_fidelity.kernel_rbf(a, b, kid_kernel_rbf_sigma=10.0) for a, b in ((x, x), (x, y), (y, y))]
    truth = torch_fidelity.mmd2(*blocks, mmd_est="biased")
    assert float(cmmd(*pair)) == pytest.approx(1000 * truth, rel=1e-9)

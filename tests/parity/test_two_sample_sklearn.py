"""The classifiers of the two-sample test against scikit-learn's, which sbibm's test uses."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from metrics.samples.two_sample import CLASSIFIERS, fit_logistic


def draw(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard normal features, and as many of another covariance and mean; with their labels."""
    x, y = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = torch.cat([0.4 * y[:, :1] + 0.6, y[:, 1:]], 1)
    return torch.cat([x, y]), torch.arange(2 * n) >= n


def test_logistic_regression_has_its_weights():
    features, labels = draw(150, 4, 0)
    peer = LogisticRegression(tol=1e-10, max_iter=1000).fit(features.numpy(), labels.numpy())
    found = fit_logistic(features, labels)
    assert found[:-1].tolist() == pytest.approx(peer.coef_[0], abs=1e-5)  # its solver stops at a loss that is flat
    assert found[-1].item() == pytest.approx(peer.intercept_[0], abs=1e-5)


def test_the_network_is_as_right_as_sbibms():
    """On 500 samples of each of four tasks; two networks that learned the same err on almost the same samples."""
    found = []
    for seed in range(4):
        (features, labels), (test, truth) = draw(150, 2, seed), draw(250, 2, seed + 100)
        peer = MLPClassifier((20, 20), max_iter=1000, random_state=seed).fit(features.numpy(), labels.numpy())
        ours = CLASSIFIERS["mlp"](features, labels, test, torch.Generator().manual_seed(seed))
        theirs = torch.from_numpy(peer.predict(test.numpy()))
        found.append([float((predicted == truth).double().mean()) for predicted in (ours, theirs)])
    our_share, their_share = torch.tensor(found).mean(0).tolist()
    assert their_share > 0.65
    assert (
        abs(our_share - their_share) < 4 * math.sqrt(2 * 0.25 / 2000) / 2
    )  # half of what independent errors would allow

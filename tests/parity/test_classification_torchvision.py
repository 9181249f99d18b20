"""Focal loss against torchvision's, on labels of 0 and 1; in between, the two extend it differently."""

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from implementations.boxes import CLASSIFICATION_LOSSES


def sample(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    logits, pick = torch.rand(2, *shape, dtype=dtype, generator=generator)
    return 20 * logits - 10, (pick > 0.7).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(1,), (1000,), (50, 80)])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 0.0), (None, 1.5), (0.0, 1.0)])
def test_values_and_gradients(shape, dtype, alpha, gamma):
    logits, targets = sample(shape, dtype)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = CLASSIFICATION_LOSSES["focal"](ours, targets, alpha=alpha, gamma=gamma)
    peer = sigmoid_focal_loss(theirs, targets, -1 if alpha is None else alpha, gamma)
    # Losses are up to 10, and their 1 - p_t rounds at 1: in float32 that is 1e-6 of them.
    torch.testing.assert_close(value, peer, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(each.sum(), x)[0] for each, x in ((value, ours), (peer, theirs))]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions(reduction):
    logits, targets = sample((10, 3))
    peer = sigmoid_focal_loss(logits, targets, reduction=reduction)
    torch.testing.assert_close(CLASSIFICATION_LOSSES["focal"](logits, targets, reduction=reduction), peer)

"""Box losses against torchvision's; it adds eps = 1e-7 to its denominators, so sides are at least 1."""

import pytest
import torch
from torchvision import ops

from implementations.boxes import LOSSES
from implementations.boxes.geometry import pairwise_iou

PEERS = {
    "giou": ops.generalized_box_iou_loss,
    "diou": ops.distance_box_iou_loss,
    "ciou": ops.complete_box_iou_loss,
}


def boxes(n, seed):
    generator = torch.Generator().manual_seed(seed)
    corner, sides = torch.rand(2, n, 2, dtype=torch.float64, generator=generator) * 5
    return torch.cat([corner, corner + 1 + sides], 1)


@pytest.mark.parametrize("n", [1, 2, 1000])
@pytest.mark.parametrize("name", PEERS)
def test_values_and_gradients(name, n):
    target = boxes(n, 1)
    ours, theirs = boxes(n, 2).requires_grad_(), boxes(n, 2).requires_grad_()
    value, peer = LOSSES[name](ours, target), PEERS[name](theirs, target)
    # Their eps moves a quotient of at most 1 by 1e-7 of it, and CIoU has three.
    torch.testing.assert_close(value, peer, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(each.sum(), box)[0] for each, box in ((value, ours), (peer, theirs))]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions(reduction):
    pred, target = boxes(10, 3), boxes(10, 4)
    peer = ops.distance_box_iou_loss(pred, target, reduction=reduction)
    # A sum of ten values, each within 1e-6.
    torch.testing.assert_close(LOSSES["diou"](pred, target, reduction=reduction), peer, rtol=0, atol=1e-5)


def test_pairwise_iou():
    a, b = boxes(30, 5), boxes(20, 6)
    torch.testing.assert_close(pairwise_iou(a, b), ops.box_iou(a, b), rtol=0, atol=1e-14)  # no eps there: rounding

"""Findings about torchvision's box operations.

    python results/findings/of_torchvision.py [NAME ...]

The rows of results/audit-findings.md say what each finding means and when it holds.
"""

import sys

import exact
import torch
from exact import Figures
from torchvision import ops


def flat_boxes() -> Figures:
    """The CIoU loss of a box without height has no finite gradient; its documentation asks for y1 < y2."""
    pred = torch.tensor([[0.0, 0.0, 2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    loss = ops.complete_box_iou_loss(pred, target)
    loss.sum().backward()
    return {"loss": float(loss.detach()), "gradient": "finite" if bool(pred.grad.isfinite().all()) else "not finite"}


def eps() -> Figures:
    """The losses add eps = 1e-7 to their denominators, so that equal small boxes do not have the loss 0."""
    out: Figures = {}
    for side in (1.0, 1e-3):
        box = torch.tensor([[0.0, 0.0, side, side]], dtype=torch.float64)
        out[f"GIoU loss of equal boxes of side {side:g}"] = float(ops.generalized_box_iou_loss(box, box))
    return out


def negative_coordinates() -> Figures:
    """`batched_nms` lets classes suppress one another where coordinates are negative; it asks for 0 <= x1."""
    boxes = torch.tensor([[-11.0, -11.0, -1.0, -1.0], [-11.0, -11.0, -1.0, -1.0]])  # one place, two classes
    scores = torch.tensor([0.9, 0.8])
    out: Figures = {}
    for what, shift in (("as they are", 0.0), ("moved by 20", 20.0)):
        kept = ops.batched_nms(boxes + shift, scores, torch.tensor([0, 1]), 0.5)
        out[f"boxes kept of two classes, {what}"] = float(len(kept))
    return out


FINDINGS = [flat_boxes, eps, negative_coordinates]

if __name__ == "__main__":
    exact.command(FINDINGS, sys.argv[1:])

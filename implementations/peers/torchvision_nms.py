"""torchvision's NMS under the contract's call: ``nms`` on one image and label at a time, or ``batched_nms`` over all.

For at most 1,000 boxes (4,000 coordinates on a CPU) ``batched_nms`` shifts every class by the largest coordinate + 1
and suppresses once. This rounds the coordinates; and where coordinates are negative, which is outside of the domain
that torchvision documents (``0 <= x1 < x2`` and ``0 <= y1 < y2``), boxes of different classes come to overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

from implementations.boxes.nms.contract import nms as under_contract
from implementations.boxes.nms.groups import Candidates, Kept


@under_contract()
def nms(candidates: Candidates, iou_threshold: float) -> Kept:
    """torchvision's ``nms``, called once per image and label; what it keeps, the best score first."""
    kept = []
    for group in candidates.group.unique():
        rows = (candidates.group == group).nonzero().squeeze(1)
        kept.append(rows[ops.nms(candidates.boxes[rows], candidates.scores[rows], iou_threshold)])
    return _best_first(candidates, torch.cat(kept) if kept else candidates.group)


@under_contract()
def batched_nms(candidates: Candidates, iou_threshold: float) -> Kept:
    """torchvision's ``batched_nms``, called once on all boxes, with one label per image and class.

    For few boxes it shifts every class by the largest coordinate + 1, which rounds the coordinates.
    """
    kept = ops.batched_nms(candidates.boxes, candidates.scores, candidates.group, iou_threshold)
    return _best_first(candidates, kept)


def _best_first(candidates: Candidates, indices: Tensor) -> Kept:
    indices = indices.sort().values
    scores, order = candidates.scores[indices].sort(descending=True, stable=True)
    return Kept(indices[order], scores, candidates.boxes[indices[order]])

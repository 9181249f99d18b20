"""Soft-NMS: a box that overlaps a better one loses score instead of being removed (1704.04503, fig. 2).

Each step takes the best remaining box of every group at once and rescores the rest of its group, after which the next
best is known. Memory grows with the boxes and not with their pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.boxes.checks import at_least_zero, positive
from implementations.boxes.nms.contract import nms
from implementations.boxes.nms.groups import Batch, BatchResult, Candidates, Kept
from implementations.boxes.nms.overlap import limit, overlap


@nms(weighs=True)
def soft_linear(candidates: Candidates, iou_threshold: float, *, score_threshold: float = 1e-3) -> Kept:
    """Linear Soft-NMS: multiply a score by ``1 - IoU`` for each better box that overlaps it beyond the threshold.

    Boxes whose score ends under ``score_threshold`` are removed, as in the authors' code (1704.04503, eq. 2).
    """
    at_least_zero(score_threshold=score_threshold)
    bound = limit(iou_threshold, candidates.boxes.dtype)

    def decay(overlaps: Tensor) -> Tensor:
        return torch.where(overlaps > bound, 1 - overlaps, 1)

    return candidates.solve(lambda batch: rescore(batch, decay, score_threshold), pairwise=False)


@nms(weighs=True)
def soft_gaussian(
    candidates: Candidates, iou_threshold: float, *, sigma: float = 0.5, score_threshold: float = 1e-3
) -> Kept:
    """Gaussian Soft-NMS: multiply a score by ``exp(-IoU^2 / sigma)`` for each better box (1704.04503, eq. 3).

    ``iou_threshold`` is ignored. Boxes whose score ends under ``score_threshold`` are removed, as in the authors' code.
    """
    positive(sigma=sigma)
    at_least_zero(score_threshold=score_threshold)

    def decay(overlaps: Tensor) -> Tensor:
        return overlaps.square_().div_(-sigma).exp_()

    return candidates.solve(lambda batch: rescore(batch, decay, score_threshold), pairwise=False)


def rescore(batch: Batch, decay: Callable[[Tensor], Tensor], score_threshold: float) -> BatchResult:
    """Soft-NMS of a batch: take the best box left in each group, multiply the others' scores by ``decay(IoU)``, repeat.

    It ends where the best is under ``score_threshold``; the boxes that were taken are kept, with their scores then.
    """
    final = torch.full_like(batch.scores, -torch.inf).flatten()  # scores of the boxes that have been taken
    place = torch.arange(final.numel(), device=final.device).view_as(batch.scores)
    boxes, scores = batch.boxes, batch.scores.masked_fill(~batch.valid, -torch.inf)
    while scores.numel():
        taken = scores == -torch.inf
        for _ in range(min(scores.shape[1], max(8, scores.shape[1] // 4))):
            best, pick = scores.max(1, keepdim=True)  # the first of equals
            # In a group that is finished, the best is a box taken before, now at -inf.
            final.scatter_reduce_(0, place.gather(1, pick).flatten(), best.flatten(), "amax")
            taken.scatter_(1, pick, True)
            box: Float[Tensor, "4 g 1"] = boxes.gather(2, pick.expand(4, -1, -1))
            scores = scores.mul_(decay(overlap(box, boxes))).masked_fill_(taken, -torch.inf)  # -inf * 0 is NaN
        place, boxes, scores = _remaining(place, boxes, scores, score_threshold)
    final = final.view_as(batch.scores)
    return BatchResult(final >= score_threshold, final)


def _remaining(place: Tensor, boxes: Tensor, scores: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Drop the boxes that are taken or under the threshold for good: half of the work of all steps would be on them."""
    alive = scores >= least
    left = alive.any(1)
    alive, place, boxes, scores = alive[left], place[left], boxes[:, left], scores[left]
    width = int(alive.sum(1).max()) if len(alive) else 0
    chosen = alive.byte().sort(dim=1, descending=True, stable=True).indices[:, :width]
    scores = scores.masked_fill(~alive, -torch.inf).gather(1, chosen)
    return place.gather(1, chosen), boxes.gather(2, chosen.expand(4, -1, -1)), scores

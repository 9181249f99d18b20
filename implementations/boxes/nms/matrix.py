"""Matrix NMS: Soft-NMS in one step, where the better box with the strongest effect decays each box (2003.10152)."""

from __future__ import annotations

from typing import Literal

import torch

from implementations.boxes.checks import at_least_zero, choose, positive
from implementations.boxes.nms.contract import nms
from implementations.boxes.nms.groups import Batch, BatchResult, Candidates, Kept
from implementations.boxes.nms.overlap import overlap


@nms(weighs=True)
def matrix(
    candidates: Candidates,
    iou_threshold: float,
    *,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    score_threshold: float = 1e-3,
) -> Kept:
    """Matrix NMS: one-step decay of scores, ``s_j min_i f(x_ij) / f(max_k x_ki)`` (2003.10152).

    Box i is better than j, and k better than i. x_ij is the IoU. ``f`` is ``exp(-x^2 / sigma)`` (public code has the
    equivalent ``exp(-sigma x^2)`` with sigma = 2), or ``1 - x`` with ``kernel="linear"``, which has no sigma. Boxes
    whose score falls under ``score_threshold`` are removed; ``iou_threshold`` is ignored.
    """
    choose("kernel", kernel, ("gaussian", "linear"))
    positive(sigma=sigma)
    at_least_zero(score_threshold=score_threshold)

    def rescore(batch: Batch) -> BatchResult:
        # A start at a factor of 1 changes no minimum: the first box of a group, which no better one overlaps, gives
        # every other box a factor of at most 1.
        covered = torch.zeros_like(batch.scores)  # largest overlap with a better box; final once the block is reached
        exponent, factor = torch.zeros_like(batch.scores), torch.ones_like(batch.scores)
        for start, stop in batch.blocks():
            overlaps = overlap(batch.rows(start, stop), batch.columns(start)).triu_(1)
            covered[:, start:] = torch.maximum(covered[:, start:], overlaps.amax(1))
            own = covered[:, start:stop, None]
            if kernel == "gaussian":
                exponent[:, start:] = torch.maximum(exponent[:, start:], overlaps.square_().sub_(own**2).amax(1))
            else:
                # A box with a better twin has a denominator of 0; what it would decay to 0, the twin does.
                floor = torch.finfo(overlaps.dtype).tiny
                ratio = (1 - overlaps).div_((1 - own).clamp_(min=floor)).amin(1)
                factor[:, start:] = torch.minimum(factor[:, start:], ratio)
        scores = batch.scores * (torch.exp(-exponent / sigma) if kernel == "gaussian" else factor)
        return BatchResult(scores >= score_threshold, scores)

    return candidates.solve(rescore)

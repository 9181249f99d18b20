"""Matrix NMS: Soft-NMS in one step, each box decayed by the better one that matters most (2003.10152)."""

from __future__ import annotations

from typing import Literal

import torch

from implementations.boxes.checks import at_least_zero, choose, positive
from implementations.boxes.nms.contract import nms
from implementations.boxes.nms.groups import Batch, Candidates, Kept, Outcome
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
    """``s_j min_i f(x_ij) / f(max_k x_ki)`` over better boxes i, and better ones k than i.

    ``f`` is ``exp(-x^2 / sigma)`` (public code has ``exp(-sigma x^2)`` with sigma = 2, the same) or, ``linear``,
    ``1 - x``, which has no sigma. Boxes whose score falls under ``score_threshold`` go; there is no use for
    ``iou_threshold``.
    """
    choose("kernel", kernel, ("gaussian", "linear"))
    positive(sigma=sigma)
    at_least_zero(score_threshold=score_threshold)

    def rescore(batch: Batch) -> Outcome:
        # Boxes overlapped by nothing better are neutral below: the first of a group is such a one to all others.
        covered = torch.zeros_like(batch.scores)  # a box's largest overlap with a better one, final as its block comes
        exponent, factor = torch.zeros_like(batch.scores), torch.ones_like(batch.scores)
        for start, stop in batch.blocks():
            overlaps = overlap(batch.rows(start, stop), batch.columns(start)).triu_(1)
            covered[:, start:] = torch.maximum(covered[:, start:], overlaps.amax(1))
            own = covered[:, start:stop, None]
            if kernel == "gaussian":
                exponent[:, start:] = torch.maximum(exponent[:, start:], overlaps.square_().sub_(own**2).amax(1))
            else:
                # A box with a better twin has f = 0 below the line: what it would decay to 0, the twin does.
                floor = torch.finfo(overlaps.dtype).tiny
                ratio = (1 - overlaps).div_((1 - own).clamp_(min=floor)).amin(1)
                factor[:, start:] = torch.minimum(factor[:, start:], ratio)
        scores = batch.scores * (torch.exp(-exponent / sigma) if kernel == "gaussian" else factor)
        return Outcome(scores >= score_threshold, scores)

    return candidates.solve(rescore)

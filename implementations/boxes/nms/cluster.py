"""Cluster-NMS and its relatives: NMS as an iteration on the matrix of overlaps of ranked boxes, row i before column j.

In each step, a box is removed if a box of a row that is kept overlaps it by more than the threshold; all are kept at
first. One step is Fast NMS. At the fixpoint, the rows that are kept are those of greedy NMS (2005.03572, proposition
1).
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool
from torch import Tensor

from implementations.boxes.checks import at_least_zero, positive
from implementations.boxes.nms.contract import nms
from implementations.boxes.nms.greedy import hit_columns, sweep
from implementations.boxes.nms.groups import Batch, BatchResult, Candidates, Kept
from implementations.boxes.nms.overlap import distance, limit, overlap


@nms()
def fast(candidates: Candidates, iou_threshold: float) -> Kept:
    """Fast NMS: a box is removed if any better one overlaps it beyond the threshold, itself removed or not.

    It removes more than greedy NMS, in one step (YOLACT, 1904.02689).
    """
    return candidates.solve(lambda batch: BatchResult(_iterate(batch, iou_threshold, 1)))


@nms()
def cluster(candidates: Candidates, iou_threshold: float, *, iterations: int | None = None) -> Kept:
    """Cluster-NMS: greedy NMS as an iteration on the matrix of overlaps, from all boxes to its fixpoint.

    Each step is ``kept'_j = (max_i kept_i x_ij <= threshold)``, where x_ij is the IoU of box j with the better box i
    (2005.03572, alg. 1). The fixpoint is the result of greedy NMS; ``iterations`` stops earlier, after that many steps.
    A group of n boxes takes n^2 / 2 bytes.
    """
    if iterations is not None and iterations < 1:
        raise ValueError(f"iterations is {iterations}; accepted is a positive number, or None for the fixpoint")
    return candidates.solve(lambda batch: BatchResult(_iterate(batch, iou_threshold, iterations)))


@nms(weighs=True)
def spm_cluster(
    candidates: Candidates,
    iou_threshold: float,
    *,
    sigma: float = 0.2,
    beta: float | None = None,
    score_threshold: float = 1e-3,
) -> Kept:
    """Cluster-NMS with score penalty (SPM): ``s_j prod_i exp(-x_ij^2 / sigma)`` over the kept boxes i that are better.

    x_ij is the IoU, and the boxes i are those that greedy NMS keeps (2005.03572). No box is removed for its overlap,
    only those whose score falls under ``score_threshold``. With ``beta`` a factor is ``min(exp(-x_ij^2 / sigma) +
    (rho^2 / c^2)^beta, 1)``, milder the farther apart the centres are: rho is their distance, c the enclosing diagonal.
    """
    positive(sigma=sigma, **({} if beta is None else {"beta": beta}))
    at_least_zero(score_threshold=score_threshold)

    def rescore(batch: Batch) -> BatchResult:
        exponent = torch.zeros_like(batch.scores)
        for start, stop, kept, overlaps, _ in sweep(batch, iou_threshold):
            terms = overlaps.square_().div_(-sigma)
            if beta is not None:
                apart = distance(batch.rows(start, stop), batch.columns(start)) ** beta
                terms = torch.where(terms < 0, (terms.exp() + apart).clamp(max=1).log(), 0)
            exponent[:, start:] += torch.where(kept[..., None], terms, 0).sum(1)
        scores = batch.scores * exponent.exp()
        return BatchResult(scores >= score_threshold, scores)

    return candidates.solve(rescore)


@nms(weighs=True)
def weighted_cluster(candidates: Candidates, iou_threshold: float, *, member_threshold: float | None = None) -> Kept:
    """Weighted Cluster-NMS: the boxes of greedy NMS, each averaged with those that it overlaps (2005.03572).

    ``b_i = sum_j w_ij b_j / sum_j w_ij`` with ``w_ij = x_ij s_j`` (IoU times score) over the boxes j ranked after i
    that overlap it by more than ``member_threshold`` (None: ``iou_threshold``), and ``w_ii = s_i``. Scores do not
    change.
    """
    if member_threshold is not None and not 0 <= member_threshold <= 1:
        raise ValueError(f"member_threshold is {member_threshold}; accepted is a number from 0 to 1, or None")
    chosen = iou_threshold if member_threshold is None else member_threshold

    def fuse(batch: Batch) -> BatchResult:
        stays, boxes, bound = torch.zeros_like(batch.valid), batch.boxes.clone(), limit(chosen, batch.boxes.dtype)
        for start, stop, kept, overlaps, _ in sweep(batch, iou_threshold):
            weights = torch.where(overlaps > bound, overlaps, 0).mul_(batch.scores[:, None, start:])
            own = batch.scores[:, start:stop]
            total = own + weights.sum(2)
            moments = (weights @ batch.boxes[:, :, start:].permute(1, 2, 0)).permute(2, 0, 1)
            mean = (moments + own * batch.boxes[:, :, start:stop]) / total
            boxes[:, :, start:stop] = torch.where(total > own, mean, batch.boxes[:, :, start:stop])
            stays[:, start:stop] = kept
        return BatchResult(stays, boxes=boxes)

    return candidates.solve(fuse)


def _iterate(batch: Batch, threshold: float, iterations: int | None) -> Bool[Tensor, "g n"]:
    """The rows that are kept after so many steps, or at the fixpoint."""
    bound = limit(threshold, batch.boxes.dtype)
    hits = [
        (start, stop, (overlap(batch.rows(start, stop), batch.columns(start)) > bound).triu_(1))
        for start, stop in batch.blocks()
    ]
    kept = batch.valid
    for _ in itertools.count() if iterations is None else range(iterations):
        dead = torch.zeros_like(kept)
        for start, stop, block in hits:
            dead[:, start:] |= hit_columns(kept[:, start:stop], block.float())
        before, kept = kept, batch.valid & ~dead
        if torch.equal(before, kept):
            break
    return kept

"""Fusion: boxes that would be suppressed are averaged into the one that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from implementations.boxes.checks import at_least_zero, choose
from implementations.boxes.nms.contract import check_column, nms
from implementations.boxes.nms.greedy import clusters
from implementations.boxes.nms.groups import Batch, BatchResult, Candidates, Kept
from implementations.boxes.nms.overlap import limit, overlap

Confidence = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
CONFIDENCES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")


@nms(weighs=True)
def nmw(candidates: Candidates, iou_threshold: float) -> Kept:
    """Non-maximum weighted suppression: the boxes of greedy NMS, each averaged with those that it removes.

    ``b = sum_i w_i b_i / sum_i w_i``, ``w_i = s_i IoU(b_i, best box)`` (Zhou et al., CAD, ICCV workshops 2017). A
    removed box that overlaps several kept ones goes to the one that it overlaps most. Scores do not change.
    """

    def fuse(batch: Batch) -> BatchResult:
        kept, owner, shared = clusters(batch, iou_threshold, nearest=True)
        weights = batch.scores * torch.where(kept, 1, shared)
        total = torch.zeros_like(weights).scatter_add_(1, owner, weights)
        moments = torch.zeros_like(batch.boxes).scatter_add_(2, owner.expand(4, -1, -1), weights * batch.boxes)
        return BatchResult(kept, boxes=torch.where(total > weights, moments / total, batch.boxes))

    return candidates.solve(fuse)


@nms(weighs=True)
def weighted_boxes_fusion(
    candidates: Candidates,
    iou_threshold: float,
    *,
    model: Integer[Tensor, " n"] | None = None,
    weights: Sequence[float] | None = None,
    conf_type: Confidence = "avg",
    skip_box_thr: float = 0.0,
    allows_overflow: bool = False,
) -> Kept:
    """Weighted boxes fusion over one or several models (1910.13302, sec. 3); the paper's threshold is .55.

    Boxes are taken in the order of their score times the weight of their model. A box that overlaps a fused box by more
    than the threshold joins the one that it overlaps most, whose coordinates become the mean of its members', weighted
    by those products (eq. 2 and 3); any other box starts a cluster. ``model`` (n,) is the number of each box's model
    (None: one model), ``weights`` has one weight per model (None: all are 1, and there are as many models as the
    largest number + 1). Boxes with a score under ``skip_box_thr`` take no part. The score of a fused box, with C the
    sum of its members' weighted scores and W the sum of the models' weights, is by ``conf_type``:

    - ``avg``: ``C / V min(V, W) / W``, V the sum of the members' weights (eq. 1 and 4, where weights are 1, so that V
      is T and W is N), or ``C / W`` with ``allows_overflow`` (eq. 5), which may exceed 1;
    - ``max``: the largest weighted score of a member over the largest weight;
    - ``box_and_model_avg``: ``C / V`` times the weights of the models that take part over W;
    - ``absent_model_aware_avg``: C over the sum of V and the weights of the models that do not take part.

    For ``avg``, the authors' code has ``min(T, N)`` of T boxes and N models, whatever their weights. Where no model has
    two boxes in a cluster that is the same number; otherwise the score may exceed 1 (their issues 10 and 40): two boxes
    of score 1 from a model of weight 2, beside a model of weight 1, get 4/3 there and 1 here. Without
    ``allows_overflow`` no score here exceeds the best of its members.
    """
    choose("conf_type", conf_type, CONFIDENCES)
    at_least_zero(skip_box_thr=skip_box_thr)
    scores = candidates.scores
    if model is None:
        model = torch.zeros_like(candidates.group)
    check_column("model", model, candidates.boxes, whole=True)
    number = _weights(model, weights).to(scores)
    own = number[model.long()]
    takes_part = scores >= skip_box_thr
    weighted = torch.where(takes_part, scores * own, 0)
    # Boxes that take no part are ranked after all others.
    candidates = candidates.rank_by(weighted, torch.where(takes_part, weighted, -1))

    def fuse(batch: Batch) -> BatchResult:
        joins = batch.valid & (candidates.gather(batch, takes_part.to(weighted)) > 0)
        owner, boxes, leads = _fuse(batch, joins, iou_threshold)
        members = joins.to(batch.scores)

        def sum_by(values: Tensor) -> Tensor:
            return torch.zeros_like(batch.scores).scatter_add_(1, owner, values)

        confidence, total = sum_by(batch.scores), sum_by(members * candidates.gather(batch, own))
        if conf_type == "max":
            best = torch.zeros_like(batch.scores).scatter_reduce_(1, owner, batch.scores, "amax")
            return BatchResult(leads, best / number.max(), boxes)
        if conf_type == "avg":
            whole = number.sum()
            return BatchResult(leads, confidence / (whole if allows_overflow else total.clamp(min=whole)), boxes)
        present = torch.zeros_like(batch.scores)
        for index, weight in enumerate(number):
            of_model = candidates.gather(batch, (model == index).to(weighted)) * members
            present += weight * (sum_by(of_model) > 0)
        if conf_type == "box_and_model_avg":
            return BatchResult(leads, confidence / total * present / number.sum(), boxes)
        return BatchResult(leads, confidence / (total + number.sum() - present), boxes)

    return candidates.solve(fuse, pairwise=False)


def _weights(model: Tensor, weights: Sequence[float] | None) -> Float[Tensor, " m"]:
    """One weight per model; raises ValueError where a model has none."""
    low, high = (int(model.min()), int(model.max())) if len(model) else (0, 0)
    if weights is None:
        weights = [1.0] * (high + 1)
    if low < 0 or high >= len(weights):
        raise ValueError(f"model has numbers {low} to {high}; accepted are 0 to {len(weights) - 1}, one a weight")
    if not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"weights are {list(weights)}; accepted are positive numbers")
    return torch.tensor(list(weights), dtype=torch.float64)


def _fuse(batch: Batch, joins: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The cluster of each box, the fused boxes, and which boxes lead one; a cluster has its leader's index."""
    bound = limit(threshold, batch.boxes.dtype)
    owner = torch.arange(batch.valid.shape[1], device=joins.device).repeat(len(joins), 1)
    fused, leads = batch.boxes.clone(), torch.zeros_like(joins)
    weight, moments = batch.scores.clone(), batch.scores * batch.boxes
    for rank in range(batch.valid.shape[1]):
        box, score, here = batch.boxes[..., rank, None], batch.scores[:, rank, None], joins[:, rank, None]
        overlaps = torch.where(leads[:, :rank], overlap(box, fused[..., :rank]), 0)
        best, nearest = overlaps.max(1, keepdim=True) if rank else (torch.zeros_like(score), owner[:, :1])
        matched = (best > bound) & here
        leads[:, rank, None] = here & ~matched
        if not bool(matched.any()):
            continue
        owner[:, rank, None] = torch.where(matched, nearest, rank)
        score = torch.where(matched, score, 0)
        index = nearest.expand(4, -1, -1)
        weight.scatter_add_(1, nearest, score)
        moments.scatter_add_(2, index, score * box)
        total = weight.gather(1, nearest)
        mean = moments.gather(2, index) / total
        fused.scatter_(2, index, torch.where(matched & (total > 0), mean, fused.gather(2, index)))
    return owner, fused, leads

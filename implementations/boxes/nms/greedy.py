"""Greedy suppression: keep the best box, remove what overlaps it, and go on with the best of the rest.

Boxes are taken in blocks of ranks, so that memory is bounded whatever the size of a group. Within a block, each round
decides at once all boxes that no undecided box before them overlaps: a few rounds give the same set as the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from implementations.boxes.checks import positive
from implementations.boxes.nms.contract import check_column, nms
from implementations.boxes.nms.groups import Batch, BatchResult, Candidates, Kept, rows_at_once
from implementations.boxes.nms.overlap import distance, limit, overlap

Overlap = Callable[[Tensor, Tensor], Tensor]


@nms()
def hard(candidates: Candidates, iou_threshold: float) -> Kept:
    """Greedy NMS per class: the same set as torchvision's ``nms`` on each class alone (R-CNN, 1311.2524, sec. 2.2)."""
    return candidates.solve(lambda batch: BatchResult(survivors(batch, iou_threshold)))


@nms(across_labels=True)
def class_agnostic(candidates: Candidates, iou_threshold: float) -> Kept:
    """Greedy NMS over all classes of an image: a better box of any label removes one that it overlaps."""
    return candidates.solve(lambda batch: BatchResult(survivors(batch, iou_threshold)))


@nms()
def diou(candidates: Candidates, iou_threshold: float, *, beta: float = 1.0) -> Kept:
    """DIoU-NMS: greedy NMS on ``IoU - (rho^2 / c^2)^beta``, so that boxes with distant centres are both kept.

    rho is the distance of the centres and c the diagonal of the enclosing box (1911.08287, eq. 13). ``beta`` is the
    exponent that 2005.03572 adds: the greater it is, the fewer boxes are spared, and the method tends to ``hard``.
    """
    positive(beta=beta)

    def measure(a: Tensor, b: Tensor) -> Tensor:
        return overlap(a, b) - distance(a, b) ** beta

    return candidates.solve(lambda batch: BatchResult(survivors(batch, iou_threshold, measure)))


@nms()
def iou_guided(candidates: Candidates, iou_threshold: float, *, ious: Float[Tensor, " n"]) -> Kept:
    """IoU-guided NMS: greedy NMS in the order of predicted IoUs, ``ious`` (n,), instead of scores (1807.11590, alg. 1).

    A box that is kept takes the best score among its own and those of the boxes that it removes.
    """
    check_column("ious", ious, candidates.boxes, whole=False)

    def rescore(batch: Batch) -> BatchResult:
        kept, owner, _ = clusters(batch, iou_threshold)
        return BatchResult(kept, batch.scores.scatter_reduce(1, owner, batch.scores, "amax"))

    return candidates.rank_by(candidates.scores, ious).solve(rescore)


class RowBlock(NamedTuple):
    """Ranks [start, stop) of groups of boxes: which are ``kept``, and their ``overlap`` with those from ``start`` on.

    ``hits`` is 1 where that overlap exceeds the threshold. Both have one row per rank of the block and one column per
    box from ``start`` on, and are 0 but for boxes ranked after.
    """

    start: int
    stop: int
    kept: Bool[Tensor, "g r"]
    overlap: Float[Tensor, "g r c"]  # with boxes ranked after; 0 elsewhere
    hits: Float[Tensor, "g r c"]  # 1 where the overlap exceeds the threshold


def survivors(batch: Batch, threshold: float, measure: Overlap = overlap) -> Bool[Tensor, "g n"]:
    """Which boxes of each group greedy NMS keeps: it takes the best, and removes what overlaps it beyond the threshold.

    ``measure`` gives the overlap. Boxes that are removed in every group are left out of later comparisons.
    """
    bound = limit(threshold, batch.boxes.dtype)
    kept = torch.zeros_like(batch.valid)
    boxes, alive = batch.boxes, batch.valid
    left = torch.arange(batch.valid.shape[1], device=boxes.device)
    while len(left):
        rows = rows_at_once(len(kept), len(left))
        hits = (measure(boxes[:, :, :rows, None], boxes[:, :, None]) > bound).float().triu_(1)
        first = decide(hits[..., :rows], alive[:, :rows])
        kept[:, left[:rows]] = first
        if rows == len(left):
            break
        alive = alive[:, rows:] & ~hit_columns(first, hits[..., rows:])
        stay = alive.any(0)
        left, boxes, alive = left[rows:][stay], boxes[:, :, rows:][:, :, stay], alive[:, stay]
    return kept


def sweep(batch: Batch, threshold: float) -> Iterator[RowBlock]:
    """Apply greedy NMS to a batch, and yield what happened in each block of ranks, best boxes first.

    It is for methods that also use the boxes that are removed.
    """
    bound = limit(threshold, batch.boxes.dtype)
    alive = batch.valid.clone()
    for start, stop in batch.blocks():
        overlaps = overlap(batch.rows(start, stop), batch.columns(start)).triu_(1)
        hits = (overlaps > bound).float()
        rows = stop - start
        kept = decide(hits[..., :rows], alive[:, start:stop])
        alive[:, stop:] &= ~hit_columns(kept, hits[..., rows:])
        yield RowBlock(start, stop, kept, overlaps, hits)


def clusters(
    batch: Batch, threshold: float, *, nearest: bool = False
) -> tuple[Bool[Tensor, "g n"], Int[Tensor, "g n"], Float[Tensor, "g n"]]:
    """Greedy NMS with the box that each box belongs to: (kept, index of its owner, overlap with it), each (g, n).

    A removed box belongs to the first box that removes it, or (``nearest``) to the one that it overlaps most, the first
    of equals. A box that is kept belongs to itself, with overlap 0.
    """
    kept = torch.zeros_like(batch.valid)
    owner = torch.arange(batch.valid.shape[1], device=kept.device).repeat(len(kept), 1)
    shared = torch.zeros_like(batch.scores)
    for start, stop, stays, overlaps, hits in sweep(batch, threshold):
        kept[:, start:stop] = stays
        best, row = (overlaps * hits * stays[..., None] if nearest else hits * stays[..., None]).max(1)
        taken = overlaps.gather(1, row[:, None]).squeeze(1)
        new = best > shared[:, start:] if nearest else (best > 0) & (shared[:, start:] == 0)
        shared[:, start:] = torch.where(new, taken, shared[:, start:])
        owner[:, start:] = torch.where(new, row + start, owner[:, start:])
    return kept, owner, shared


def decide(hits: Float[Tensor, "g r r"], alive: Bool[Tensor, "g r"]) -> Bool[Tensor, "g r"]:
    """Apply greedy NMS among the boxes of a block: True for those that stay, of those that are still ``alive``.

    ``hits`` is 1 where the box of a row overlaps that of a column beyond the threshold, and strictly upper triangular,
    since only better boxes remove others.
    """
    kept, undecided = torch.zeros_like(alive), alive
    while bool(undecided.any()):
        first = undecided & ~hit_columns(undecided, hits)  # the best box of a group always qualifies
        kept = kept | first
        undecided = undecided & ~first & ~hit_columns(first, hits)
    return kept


def hit_columns(rows: Bool[Tensor, "g r"], hits: Float[Tensor, "g r c"]) -> Bool[Tensor, "g c"]:
    """Which boxes are hit by at least one of the marked ``rows``, by a matrix ``hits`` of 0 and 1 for each group.

    A row hits a column where the better box overlaps the other beyond the threshold.
    """
    return torch.bmm(rows[:, None].float(), hits).squeeze(1) > 0

"""Greedy suppression: the best box stays, what overlaps it goes, and so on with the best of the rest.

Boxes are taken by blocks of ranks, so that memory is bounded whatever the size of a group. Within a block the greedy
rule is applied to all boxes at once that have no undecided box before them: the same set in a few rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from implementations.boxes.checks import positive
from implementations.boxes.nms.contract import check_column, nms
from implementations.boxes.nms.groups import Batch, Candidates, Kept, Outcome, rows_at_once
from implementations.boxes.nms.overlap import distance, limit, overlap

Measure = Callable[[Tensor, Tensor], Tensor]


@nms()
def hard(candidates: Candidates, iou_threshold: float) -> Kept:
    """Class by class, exactly the set of torchvision's ``nms`` on each class alone (R-CNN, 1311.2524, sec. 2.2)."""
    return candidates.solve(lambda batch: Outcome(survivors(batch, iou_threshold)))


@nms(across_labels=True)
def class_agnostic(candidates: Candidates, iou_threshold: float) -> Kept:
    """Greedy NMS over all classes of an image: ``labels`` play no part."""
    return candidates.solve(lambda batch: Outcome(survivors(batch, iou_threshold)))


@nms()
def diou(candidates: Candidates, iou_threshold: float, *, beta: float = 1.0) -> Kept:
    """Greedy NMS on ``IoU - (rho^2 / c^2)^beta``: boxes whose centres are apart both stay (1911.08287, eq. 13).

    ``beta`` is the exponent that 2005.03572 adds: a greater one spares fewer, and without bound it is ``hard``.
    """
    positive(beta=beta)

    def measure(a: Tensor, b: Tensor) -> Tensor:
        return overlap(a, b) - distance(a, b) ** beta

    return candidates.solve(lambda batch: Outcome(survivors(batch, iou_threshold, measure)))


@nms()
def iou_guided(candidates: Candidates, iou_threshold: float, *, ious: Float[Tensor, " n"]) -> Kept:
    """Greedy NMS in the order of the predicted IoUs ``ious`` (n,) (1807.11590, alg. 1).

    A box that stays takes the best class score among itself and those that it removes.
    """
    check_column("ious", ious, candidates.boxes, whole=False)

    def rescore(batch: Batch) -> Outcome:
        kept, owner, _ = clusters(batch, iou_threshold)
        return Outcome(kept, batch.scores.scatter_reduce(1, owner, batch.scores, "amax"))

    return candidates.ranked(candidates.scores, ious).solve(rescore)


class Block(NamedTuple):
    """Ranks [start, stop) of a batch: which of them stay, and what they are to each box from ``start`` on."""

    start: int
    stop: int
    kept: Bool[Tensor, "g r"]
    overlap: Float[Tensor, "g r c"]  # 0 but for boxes ranked after
    hits: Float[Tensor, "g r c"]  # 1 where the overlap exceeds the threshold


def survivors(batch: Batch, threshold: float, measure: Measure = overlap) -> Bool[Tensor, "g n"]:
    """Which boxes stay; columns that are suppressed in every group are measured no more."""
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
        alive = alive[:, rows:] & ~reached(first, hits[..., rows:])
        stay = alive.any(0)
        left, boxes, alive = left[rows:][stay], boxes[:, :, rows:][:, :, stay], alive[:, stay]
    return kept


def sweep(batch: Batch, threshold: float) -> Iterator[Block]:
    """The greedy rule block by block, for methods that also ask what became of the boxes that go."""
    bound = limit(threshold, batch.boxes.dtype)
    alive = batch.valid.clone()
    for start, stop in batch.blocks():
        overlaps = overlap(batch.rows(start, stop), batch.columns(start)).triu_(1)
        hits = (overlaps > bound).float()
        rows = stop - start
        kept = decide(hits[..., :rows], alive[:, start:stop])
        alive[:, stop:] &= ~reached(kept, hits[..., rows:])
        yield Block(start, stop, kept, overlaps, hits)


def clusters(
    batch: Batch, threshold: float, *, nearest: bool = False
) -> tuple[Bool[Tensor, "g n"], Int[Tensor, "g n"], Float[Tensor, "g n"]]:
    """Who stays, whose each box is, and how much the two overlap (0 for those that stay).

    A box that goes belongs to the first that removes it, or (``nearest``) to the one that it overlaps most, the first
    of equals.
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
    """The greedy rule among a block's boxes; ``hits`` is strictly upper triangular."""
    kept, undecided = torch.zeros_like(alive), alive
    while bool(undecided.any()):
        first = undecided & ~reached(undecided, hits)  # the best one of a group always is
        kept = kept | first
        undecided = undecided & ~first & ~reached(first, hits)
    return kept


def reached(rows: Bool[Tensor, "g r"], hits: Float[Tensor, "g r c"]) -> Bool[Tensor, "g c"]:
    """Which columns one of the rows hits."""
    return torch.bmm(rows[:, None].float(), hits).squeeze(1) > 0

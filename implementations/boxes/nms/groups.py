"""Candidates in the order of their scores, and the groups that suppress one another, as padded batches.

A group is what shares an image and a label. Groups of about one size make a batch (g, n): 400,000 groups of one box
cost no loop over groups, and one group of 10,000 boxes no matrix of all its pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from implementations.boxes.nms.overlap import area

# Pairs at once: a dozen arrays of them in turn stay within a core's cache, twice as fast as from memory.
PAIRS = 2**18
BOXES = 2**20  # at once, where the work on a batch grows with its boxes and not with their pairs


class Batch(NamedTuple):
    """Groups side by side, best box first; the padding is an empty box of score 0, which overlaps nothing."""

    position: Int[Tensor, "g n"]  # among the candidates in their order; of the padding, one past the last
    valid: Bool[Tensor, "g n"]
    boxes: Float[Tensor, "4 g n"]
    scores: Float[Tensor, "g n"]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows [start, stop) such that their pairs with what is ranked from ``start`` on are ``PAIRS``."""
        groups, width = self.valid.shape
        start = 0
        while start < width:
            stop = start + rows_at_once(groups, width - start)
            yield start, stop
            start = stop

    def rows(self, start: int, stop: int) -> Float[Tensor, "4 g r 1"]:
        """Boxes [start, stop), to be measured against columns."""
        return self.boxes[:, :, start:stop, None]

    def columns(self, start: int = 0) -> Float[Tensor, "4 g 1 c"]:
        """Boxes from ``start`` on, to be measured against rows."""
        return self.boxes[:, :, None, start:]


def rows_at_once(groups: int, columns: int) -> int:
    """How many of the columns to take as rows against all of them."""
    return max(1, min(columns, PAIRS // (groups * columns)))


class Outcome(NamedTuple):
    """What a method makes of a batch; None: as it was."""

    kept: Bool[Tensor, "g n"]
    scores: Float[Tensor, "g n"] | None = None
    boxes: Float[Tensor, "4 g n"] | None = None


class Kept(NamedTuple):
    """What an NMS gives out, best first: which boxes, with the scores and coordinates that it gives them."""

    indices: Int[Tensor, " k"]  # into the input; of a fused box, the one that leads its cluster
    scores: Float[Tensor, " k"]
    boxes: Float[Tensor, "k 4"]


class Candidates:
    """Boxes (n, 4), scores (n,) and groups (n,) of one device; ``rank`` (default: the scores) orders a group's boxes.

    Order is by rank, descending, then by index. A box that is not finite, or so large that its area is not, is an empty
    box to every method and comes out as it went in.
    """

    def __init__(
        self,
        boxes: Float[Tensor, "n 4"],
        scores: Float[Tensor, " n"],
        group: Int[Tensor, " n"],
        rank: Float[Tensor, " n"] | None = None,
    ):
        self.boxes, self.scores, self.group = boxes, scores, group
        best_first = (scores if rank is None else rank).sort(descending=True, stable=True).indices
        group, by_group = group[best_first].sort(stable=True)
        self.order = best_first[by_group]
        self._measurable = boxes.isfinite().all(1) & area(boxes.T).isfinite()
        self._boxes = self._ordered(torch.where(self._measurable, boxes.T, 0))
        self._scores = self._ordered(scores)
        _, self._sizes = torch.unique_consecutive(group, return_counts=True)

    def ranked(self, scores: Float[Tensor, " n"], rank: Float[Tensor, " n"] | None = None) -> Candidates:
        """The same boxes with other scores, in another order."""
        return Candidates(self.boxes, scores, self.group, rank)

    def gather(self, batch: Batch, values: Tensor) -> Tensor:
        """Values of the candidates (n,) where the batch has its boxes, (g, n); 0 in the padding."""
        return self._ordered(values)[batch.position]

    def solve(self, method: Callable[[Batch], Outcome], *, pairwise: bool = True) -> Kept:
        """Run the method on every batch and collect what it keeps; ``pairwise``: its work grows with the pairs."""
        size = len(self.order) + 1  # the last place is the padding's
        kept = torch.zeros(size, dtype=torch.bool, device=self.boxes.device)
        scores, boxes = self._scores.clone(), None
        for batch in self._batches(*((PAIRS, 2, 2) if pairwise else (BOXES, 1, 4))):
            outcome = method(batch)
            kept[batch.position] = outcome.kept & batch.valid
            if outcome.scores is not None:
                scores[batch.position] = outcome.scores
            if outcome.boxes is not None:
                boxes = self._boxes.clone() if boxes is None else boxes
                boxes[:, batch.position] = outcome.boxes
        return self._collect(kept[:-1], scores[:-1], None if boxes is None else boxes[:, :-1])

    def _collect(self, kept: Tensor, scores: Tensor, boxes: Tensor | None) -> Kept:
        """Best first, and by index among equals."""
        position = torch.empty_like(self.order)
        position[self.order] = torch.arange(len(self.order), device=self.order.device)
        indices = kept[position].nonzero().squeeze(1)
        scores, order = scores[position[indices]].sort(descending=True, stable=True)
        indices = indices[order]
        given = self.boxes[indices]
        if boxes is not None:
            given = torch.where(self._measurable[indices, None], boxes[:, position[indices]].T, given)
        return Kept(indices, scores, given)

    def _batches(self, budget: int, power: int, alike: int) -> Iterator[Batch]:
        """Batches of groups whose sizes are within a factor ``alike``, largest first, up to ``budget`` of n^power."""
        sizes, by_size = self._sizes.cpu().sort(descending=True)
        starts = (self._sizes.cumsum(0) - self._sizes)[by_size.to(self._sizes.device)]
        descending = sizes.numpy()
        lengths = sizes.to(starts.device)
        low = 0
        while low < len(descending):
            width = int(descending[low])
            other = int(np.searchsorted(-descending, -width / alike))  # the first that is too small
            high = min(other, low + max(1, budget // width**power))
            rank = torch.arange(width, device=starts.device)
            valid = rank < lengths[low:high, None]
            position = torch.where(valid, starts[low:high, None] + rank, len(self.order))
            yield Batch(position, valid, self._boxes[:, position], self._scores[position])
            low = high

    def _ordered(self, values: Tensor) -> Tensor:
        """Values along the last axis in the candidates' order, then a 0."""
        return torch.nn.functional.pad(values[..., self.order], (0, 1))

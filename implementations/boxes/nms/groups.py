"""Candidates sorted by score, and the groups within which boxes suppress one another, as padded batches.

A group is the boxes of one image and one label. Groups of similar size form a batch (g, n), so that 400,000 groups of
one box need no loop over groups, and one group of 10,000 boxes needs no matrix of all its pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from implementations.boxes.nms.overlap import area

# Pairs per batch: a dozen arrays of this size stay within a core's cache, which is twice as fast as memory.
PAIRS = 2**18
BOXES = 2**20  # boxes per batch, for methods whose work grows with the boxes and not with their pairs


class Batch(NamedTuple):
    """Groups of boxes of one image and label side by side, (g, n), best box first, padded with empty boxes of score 0.

    ``boxes`` is (4, g, n), ``xyxy``. ``position`` is the place of each in the sorted candidates, and ``valid`` is False
    in the padding, which overlaps nothing.
    """

    position: Int[Tensor, "g n"]  # place in the sorted candidates; padding has one past the last
    valid: Bool[Tensor, "g n"]
    boxes: Float[Tensor, "4 g n"]
    scores: Float[Tensor, "g n"]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows [start, stop), such that each has about ``PAIRS`` pairs with the columns from ``start`` on.

        They bound the memory of a matrix of overlaps.
        """
        groups, width = self.valid.shape
        start = 0
        while start < width:
            stop = start + rows_at_once(groups, width - start)
            yield start, stop
            start = stop

    def rows(self, start: int, stop: int) -> Float[Tensor, "4 g r 1"]:
        """Boxes [start, stop) of every group as (4, g, r, 1), which broadcasts against columns."""
        return self.boxes[:, :, start:stop, None]

    def columns(self, start: int = 0) -> Float[Tensor, "4 g 1 c"]:
        """Boxes from ``start`` on of every group as (4, g, 1, c), which broadcasts against rows."""
        return self.boxes[:, :, None, start:]


def rows_at_once(groups: int, columns: int) -> int:
    """How many rows of boxes to compare with all ``columns`` at a time, in each of ``groups`` groups, to bound memory.

    That is as many as make ``PAIRS`` pairs at most, and at least one.
    """
    return max(1, min(columns, PAIRS // (groups * columns)))


class BatchResult(NamedTuple):
    """What an NMS makes of a batch of groups: which boxes it keeps, and new scores and boxes where they change."""

    kept: Bool[Tensor, "g n"]
    scores: Float[Tensor, "g n"] | None = None
    boxes: Float[Tensor, "4 g n"] | None = None


class Kept(NamedTuple):
    """Result of an NMS, best box first: the indices that are kept, with their scores and boxes after the method."""

    indices: Int[Tensor, " k"]  # into the input; a fused box has the index of the first box of its cluster
    scores: Float[Tensor, " k"]
    boxes: Float[Tensor, "k 4"]


class Candidates:
    """The boxes that an NMS chooses from: (n, 4) ``xyxy``, with scores (n,) and group numbers (n,), sorted by rank.

    Boxes suppress one another within a group. The order is by ``rank`` (default: the scores), descending, then by
    index. A box that is not finite, or so large that its area is not, is an empty box to every method, and is returned
    unchanged.
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
        self._boxes = self._in_order(torch.where(self._measurable, boxes.T, 0))
        self._scores = self._in_order(scores)
        _, self._sizes = torch.unique_consecutive(group, return_counts=True)

    def rank_by(self, scores: Float[Tensor, " n"], rank: Float[Tensor, " n"] | None = None) -> Candidates:
        """The same boxes and groups with other scores, in the order of ``rank`` (default: the scores)."""
        return Candidates(self.boxes, scores, self.group, rank)

    def gather(self, batch: Batch, values: Tensor) -> Tensor:
        """Lay out one value per candidate, (n,), as a batch of g groups of at most m boxes has them: (g, m).

        Places that a shorter group leaves empty are 0.
        """
        return self._in_order(values)[batch.position]

    def solve(self, method: Callable[[Batch], BatchResult], *, pairwise: bool = True) -> Kept:
        """Run an NMS on every batch of groups and collect what it keeps.

        ``pairwise``: its work grows with the pairs of boxes and not with the boxes, so that batches are smaller.
        """
        size = len(self.order) + 1  # the last place is for the padding
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
        """The boxes that are kept, best first, and by index among equal scores."""
        position = torch.empty_like(self.order)
        position[self.order] = torch.arange(len(self.order), device=self.order.device)
        indices = kept[position].nonzero().squeeze(1)
        scores, order = scores[position[indices]].sort(descending=True, stable=True)
        indices = indices[order]
        kept_boxes = self.boxes[indices]
        if boxes is not None:
            kept_boxes = torch.where(self._measurable[indices, None], boxes[:, position[indices]].T, kept_boxes)
        return Kept(indices, scores, kept_boxes)

    def _batches(self, budget: int, power: int, alike: int) -> Iterator[Batch]:
        """Batches of groups with sizes within a factor of ``alike``, largest first, of at most ``budget`` n^power."""
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

    def _in_order(self, values: Tensor) -> Tensor:
        """Values along the last axis in the order of the candidates, followed by a 0 for the padding."""
        return torch.nn.functional.pad(values[..., self.order], (0, 1))

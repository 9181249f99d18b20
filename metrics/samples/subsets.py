"""Precision, recall, density and coverage of many subsets of the rows of two sets, from one search for neighbours.

Intervals and floors ask for the figures of a hundred random subsets, and a search in each takes as long as all else
together. One search serves them all: the k-th neighbour of a row in a subset that holds a share p of the rows is about
its k/p-th neighbour in the whole set. So the ``NEAR`` nearest rows of each row are kept, and with them the rows of the
other set that are no further than the last of these. The few rows that have fewer than k of their kept neighbours in a
subset are searched for again. The figures are those of ``prdc`` and ``precision_recall`` on the subsets, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from metrics.samples.balls import Prdc, PrecisionRecall
from metrics.samples.neighbours import Neighbours, Pairs, find_inside, find_nearest, measure_pairs, unify

NEAR = 64  # of a quarter of the rows, one row in five thousand has fewer than five of its nearest 64
MOST = 2**25  # pairs of the two sets that are kept: 800 MB; where balls hold more, there is no shared search

Rows: TypeAlias = Int64[Tensor, " _"]
Side: TypeAlias = int  # 0 for the real rows, 1 for the generated ones


class Subsets:
    """The figures of balls for subsets of the rows of two sets, ``k`` and ``closed`` as in ``metrics.samples.balls``.

    A subset is given by numbers of rows: of the real ones from 0 on, of the generated ones after these.
    """

    def __init__(self, real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int, closed: bool, near: int = NEAR):
        """Search once; raises ValueError where the balls hold too many points to be kept, or a set has too few rows."""
        self.sides = unify(real, fake)
        self.k, self.closed = k, closed
        near = min(near, len(real) - 1, len(fake) - 1)
        if near < k:
            raise ValueError(f"k is {k} and there are {len(real)} and {len(fake)} rows; more than k are accepted")
        self.nearest = [find_nearest(x, x, near, exclude_self=True) for x in self.sides]
        reach = [found.distances[:, -1] for found in self.nearest]
        found = find_inside(*self.sides, x_radii=reach[0], y_radii=reach[1], most=MOST)
        if found is None:
            raise ValueError(f"balls hold more than {MOST} points of the other set")
        within = [_unfold(one) for one in self.nearest]
        self.pairs = {(0, 0): within[0], (1, 1): within[1], (0, 1): found[0], (1, 0): found[1]}

    def prdc(self, a: Rows, b: Rows) -> Prdc:
        """``prdc`` of rows ``a`` as the real ones and ``b`` as the generated ones."""
        (balls, points), (_, others) = self._count(a, b), self._count(b, a)
        density = int(points.sum()) / (self.k * len(b))
        return Prdc(_share(points), _share(others), density, _share(balls))

    def precision_recall(self, a: Rows, b: Rows) -> PrecisionRecall:
        """``precision_recall`` of rows ``a`` as the real ones and ``b`` as the generated ones."""
        return PrecisionRecall(_share(self._count(a, b)[1]), _share(self._count(b, a)[1]))

    def _count(self, a: Rows, b: Rows) -> tuple[Int64[Tensor, " a"], Int64[Tensor, " b"]]:
        """The number of points of b in each ball of a, and of balls of a around each point of b."""
        (one, a), (two, b) = self._locate(a), self._locate(b)
        in_a, in_b = self._mask(one, a), self._mask(two, b)
        radii, known = self._radii(one, in_a)
        ball, point, distance = self.pairs[one, two]
        keep = in_b[point] & self._inside(distance, radii[ball])
        ball, point = ball[keep], point[keep]
        if len(again := (in_a & ~known).nonzero()[:, 0]):
            more = self._search(one, two, again, a, b)
            ball, point = torch.cat([ball, more[0]]), torch.cat([point, more[1]])
        balls = torch.bincount(ball, minlength=len(self.sides[one]))[a]
        return balls, torch.bincount(point, minlength=len(self.sides[two]))[b]

    def _radii(self, side: Side, chosen: Bool[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """The radius of every chosen row whose k nearest chosen neighbours are kept; of others -1, and which these are.

        No distance is below a radius of -1.
        """
        found = self.nearest[side]
        order = chosen[found.rows].cumsum(1, dtype=torch.int16)
        known = (order[:, -1] >= self.k) & chosen
        place = (order >= self.k).to(torch.uint8).argmax(1)  # the first of the largest
        radii = found.distances.gather(1, place[:, None])[:, 0]
        return torch.where(known, radii, -1.0), known

    def _search(self, one: Side, two: Side, again: Rows, a: Rows, b: Rows) -> tuple[Rows, Rows]:
        """The pairs of balls around rows whose neighbours in the subset lie beyond those that are kept."""
        x, y = self.sides[one], self.sides[two]
        own = find_nearest(x[again], x[a], self.k + 1).distances[:, -1]  # the row itself is the nearest
        ball, point = again.repeat_interleave(len(b)), b.repeat(len(again))
        keep = self._inside(measure_pairs(x, y, ball, point), own.repeat_interleave(len(b)))
        return ball[keep], point[keep]

    def _inside(self, distance: Float[Tensor, " p"], radius: Float[Tensor, " p"]) -> Bool[Tensor, " p"]:
        return distance <= radius if self.closed else distance < radius

    def _locate(self, rows: Rows) -> tuple[Side, Rows]:
        """The side that rows are of, and their numbers within it."""
        n = len(self.sides[0])
        side = int(rows[0] >= n)
        return side, rows - n * side

    def _mask(self, side: Side, rows: Rows) -> Bool[Tensor, " n"]:
        mask = torch.zeros(len(self.sides[side]), dtype=torch.bool, device=rows.device)
        mask[rows] = True
        return mask


def share_prdc(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> Callable[[Rows, Rows], Any]:
    """``prdc`` of subsets of the rows, with k = 5 and open balls; raises ValueError as ``Subsets`` does."""
    return Subsets(real, fake, 5, closed=False).prdc


def share_precision_recall(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> Callable[[Rows, Rows], Any]:
    """``precision_recall`` of subsets of the rows, with k = 3 and closed balls; raises ValueError as ``Subsets``."""
    return Subsets(real, fake, 3, closed=True).precision_recall


def _unfold(found: Neighbours) -> Pairs:
    n, near = found.rows.shape
    ball = torch.arange(n, device=found.rows.device).repeat_interleave(near)
    return Pairs(ball, found.rows.flatten(), found.distances.flatten())


def _share(counts: Tensor) -> float:
    return int((counts > 0).sum()) / len(counts)

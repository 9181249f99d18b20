"""Exact nearest neighbours, and the number of points in balls, for sets too large for a matrix of distances.

A block of ``|a|² + |b|² - 2 a'b`` by one float32 matrix product bounds each squared distance from both sides, since its
rounding error is below ``2 (d + 16) eps (|a|² + |b|²)``. The bounds decide nearly every pair. The few that they leave
open are computed from the differences of the features in float64, where equal differences give equal distances, so that
ties stay ties. A block that leaves many pairs open (tight clusters far apart) is bounded again in float64. Features are
centred first, so that a common offset costs no digits. Memory is linear in the number of rows.

Distances are rounded to the dtype of the features before they are compared, as scikit-learn and torch do: float32
distances that differ by less than 6e-8 (relative) are tied. Features in float64 are compared more finely;
``FeatureMetric`` keeps features in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

ROWS, COLUMNS = 256, 16384  # of a block: 16 MiB in float32; it is wide, so that the first guess is good
GROUPS = 16  # columns whose smallest distance stands for all, in the first guess at a k-th distance
OPEN = 64  # a block with more than one open pair in so many after float32 is bounded again
DIFFERENCES = 2**17  # numbers in memory at once where differences are taken: 1 MiB in float64, within a cache


class Neighbours(NamedTuple):
    """The k nearest rows of each query: distances in ascending order, and row numbers.

    The lowest row comes first on a tie.
    """

    distances: Float[Tensor, "n k"]
    rows: Int64[Tensor, "n k"]


class Pairs(NamedTuple):
    """Pairs of a ball, by the row in its middle, and a point in it, by row numbers, with their distance."""

    ball: Int64[Tensor, " p"]
    point: Int64[Tensor, " p"]
    distance: Float[Tensor, " p"]


class Inside(NamedTuple):
    """The number of points of the other set in the ball around each row, and the number of balls around each point."""

    balls: Int64[Tensor, " n"]
    points: Int64[Tensor, " m"]


def find_nearest(
    queries: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], k: int, *, exclude_self: bool = False
) -> Neighbours:
    """The k rows of the reference nearest to each query; ``exclude_self``: row i is no neighbour of query i.

    Raises ValueError on other shapes, values that are not finite, and k below 1 or above the number of candidates.
    """
    queries, reference = unify(queries, reference)
    n, m = len(queries), len(reference) - exclude_self
    if not 1 <= k <= m:
        raise ValueError(f"k is {k} and there are {m} neighbours to find; k from 1 to their number is accepted")
    if exclude_self and n != len(reference):
        raise ValueError(f"there are {n} queries and {len(reference)} rows of reference; one set is accepted")
    pairs = _Pairs(queries, reference)
    found = []
    for rows in _blocks(n, ROWS):
        squares = queries.new_full((len(rows), k), torch.inf, dtype=torch.float64)
        numbers = torch.zeros_like(squares, dtype=torch.int64)
        for columns in _blocks(len(reference), COLUMNS):
            own = _own(rows, columns) if exclude_self else None
            i, j = pairs.closer(rows, columns, squares[:, -1], k, own)
            distances = pairs.squares(i + rows.start, j + columns.start)
            squares, numbers = _merge(squares, numbers, i, j + columns.start, distances)
        found.append((round_root(squares, queries.dtype), numbers))
    distances, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(distances, numbers)


def count_inside(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_radii: Float[Tensor, " n"],
    y_radii: Float[Tensor, " m"],
    closed: bool,
) -> tuple[Inside, Inside]:
    """Count the rows of each of two sets of features that lie in balls around the rows of the other.

    It gives the rows of y in balls around those of x, and the rows of x in balls around those of y. A closed ball
    includes its boundary (``<=``), an open one does not (``<``). Raises ValueError on other shapes and on values that
    are not finite.
    """
    x, y = unify(x, y)
    around_x = Inside(*(torch.zeros(len(z), dtype=torch.int64, device=x.device) for z in (x, y)))
    around_y = Inside(*(torch.zeros(len(z), dtype=torch.int64, device=x.device) for z in (y, x)))
    for of_x, ball, point in _within(_Pairs(x, y), x_radii, y_radii, closed):
        counts = around_x if of_x else around_y
        counts.balls.add_(torch.bincount(ball, minlength=len(counts.balls)))
        counts.points.add_(torch.bincount(point, minlength=len(counts.points)))
    return around_x, around_y


def find_inside(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_radii: Float[Tensor, " n"],
    y_radii: Float[Tensor, " m"],
    most: int,
) -> tuple[Pairs, Pairs] | None:
    """The pairs that ``count_inside`` counts, of closed balls: around the rows of x, and around those of y.

    None where there are more than ``most`` pairs of one kind. Raises ValueError as ``count_inside`` does.
    """
    x, y = unify(x, y)
    pairs = _Pairs(x, y)
    found: dict[bool, list[Pairs]] = {True: [], False: []}
    total = {True: 0, False: 0}
    for of_x, ball, point in _within(pairs, x_radii, y_radii, True):
        total[of_x] += len(ball)
        if total[of_x] > most:
            return None
        i, j = (ball, point) if of_x else (point, ball)
        found[of_x].append(Pairs(ball, point, round_root(pairs.squares(i, j), x.dtype)))
    around_x, around_y = (Pairs(*map(torch.cat, zip(*found[of_x], strict=True))) for of_x in (True, False))
    return around_x, around_y


def measure_pairs(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], i: Int64[Tensor, " p"], j: Int64[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """The distances of rows i of x to rows j of y, rounded as all distances here; x and y are of one dtype."""
    return round_root(_squares(x, y, i, j), x.dtype)


def _within(
    pairs: _Pairs, x_radii: Float[Tensor, " n"], y_radii: Float[Tensor, " m"], closed: bool
) -> Iterator[tuple[bool, Int64[Tensor, " p"], Int64[Tensor, " p"]]]:
    """Block by block, whether the balls are around rows of x, and the pairs of a ball and a point in it."""
    for rows in _blocks(len(pairs.x), ROWS):
        for columns in _blocks(len(pairs.y), COLUMNS):
            part_x, part_y = x_radii[rows.start : rows.stop, None], y_radii[columns.start : columns.stop]
            i, j = pairs.within(rows, columns, part_x, closed)
            yield True, i + rows.start, j + columns.start
            i, j = pairs.within(rows, columns, part_y[None], closed)
            yield False, j + columns.start, i + rows.start


@dataclass
class _Block:
    """Scores ``s = (1 - c) |b|² - 2 a'b`` of a block; ``s + low <= |a - b|² <= s + high + wide`` in scaled units."""

    scores: Float[Tensor, "r c"]
    low: Float64[Tensor, "r 1"]
    high: Float64[Tensor, "r 1"]
    wide: Float64[Tensor, "1 c"]


class _Pairs:
    """Squared distances between the rows of two sets: bounds by blocks, and exact values of single pairs."""

    def __init__(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> None:
        self.x, self.y = x, y
        self.centre = sum(part.double().sum(0) for part in y.split(ROWS)).div(len(y)).to(y.dtype)
        largest = max(float((z - self.centre).abs().amax()) for part in (x, y) for z in part.split(ROWS))
        # A power of two scales the largest value to about 1 without rounding, so that squares stay within float32.
        self.scale = 2.0 ** -torch.tensor(largest, dtype=torch.float64).frexp().exponent.item() if largest else 1.0
        # The bound holds for products in float32 itself, not in the TF32 or bfloat16 that a user may have allowed.
        self.first = torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64
        self.sides = (
            {torch.float32: [self._side(z, torch.float32) for z in (x, y)]} if self.first == torch.float32 else {}
        )
        self._last: tuple[object, _Block] | None = None

    def _side(self, z: Float[Tensor, "r d"], dtype: torch.dtype) -> tuple[Float[Tensor, "r d"], Float64[Tensor, " r"]]:
        work = torch.promote_types(z.dtype, dtype)
        parts = [((part.to(work) - self.centre) * self.scale).to(dtype) for part in z.split(ROWS)]
        return torch.cat(parts), torch.cat([part.double().square().sum(1) for part in parts])

    def block(self, rows: range, columns: range, dtype: torch.dtype) -> _Block:
        key = (rows, columns, dtype)
        if self._last is None or self._last[0] != key:
            if dtype in self.sides:
                (a, aa), (b, bb) = (
                    (points[part.start : part.stop], norms[part.start : part.stop])
                    for (points, norms), part in zip(self.sides[dtype], (rows, columns), strict=True)
                )
            else:
                a, aa = self._side(self.x[rows.start : rows.stop], dtype)
                b, bb = self._side(self.y[columns.start : columns.stop], dtype)
            d, limits = a.shape[1], torch.finfo(dtype)
            c, least = 2 * (d + 16) * limits.eps, d * limits.tiny
            scores = torch.addmm(((1 - c) * bb - least).to(dtype), a, b.mT, alpha=-2)
            block = _Block(scores, (1 - c) * aa[:, None], (1 + c) * aa[:, None] + least, (2 * c * bb + least)[None])
            self._last = (key, block)
        return self._last[1]

    def closer(
        self, rows: range, columns: range, limit: Float64[Tensor, " r"], k: int, own: tuple[Tensor, Tensor] | None
    ) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
        """Pairs of the block, row by row: at least those of the k nearest whose squared distance is below the limit."""
        for dtype in dict.fromkeys((self.first, torch.float64)):
            block = self.block(rows, columns, dtype)
            if own is not None:
                block.scores[own] = torch.inf
            bound = limit * self.scale**2
            if bool(torch.isinf(limit).any()):
                bound = torch.minimum(bound, self._guess(block, k))
            # No square is below 0, whatever the bounds say.
            threshold = torch.where(limit > 0, bound - block.low[:, 0], -torch.inf)
            if own is not None:
                threshold = threshold.clamp(max=torch.finfo(dtype).max)  # below the infinity of the row itself
            i, j = _below(block.scores, _up(threshold, dtype)[:, None])
            if len(i) <= block.scores.numel() // OPEN + k * len(rows):
                break
        return i, j

    def _guess(self, block: _Block, k: int) -> Float64[Tensor, " r"]:
        """An upper bound of the k-th smallest squared distance, from the smallest of each group of columns."""
        size = GROUPS if block.scores.shape[1] >= GROUPS * 4 * k else 1
        used = block.scores.shape[1] // size * size
        least = block.scores[:, :used].unflatten(1, (size, -1)).amin(1)
        upper = least.double() + block.wide[0, :used].unflatten(0, (size, -1)).amax(0)
        if upper.shape[1] < k:
            return torch.full_like(block.high[:, 0], torch.inf)
        return upper.topk(k, largest=False).values.amax(1) + block.high[:, 0]

    def within(
        self, rows: range, columns: range, radii: Float[Tensor, "#r #c"], closed: bool
    ) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
        """Pairs of the block whose distance is within the radius of their row or of their column."""
        slack = 4 * torch.finfo(self.x.dtype).eps  # the rounding of the root of a rounded square
        squares = radii.double().square() * self.scale**2
        for dtype in dict.fromkeys((self.first, torch.float64)):
            block = self.block(rows, columns, dtype)
            outer = squares * (1 + slack)
            if radii.shape[1] == 1:
                i, j = _below(block.scores, _up(outer - block.low, dtype))
            else:
                i, j = _below(block.scores - _up(outer, dtype), _up(-block.low, dtype))
            radius = squares.expand(block.scores.shape)[i, j]
            upper = block.scores[i, j].double() + block.high[i, 0] + block.wide[0, j]
            doubtful = (upper >= radius * (1 - slack)).nonzero()[:, 0]
            if len(doubtful) <= block.scores.numel() // OPEN:
                break
        square = self.squares(i[doubtful] + rows.start, j[doubtful] + columns.start)
        distance, limit = (
            round_root(square, self.x.dtype),
            radii.to(self.x.dtype).expand(block.scores.shape)[i, j][doubtful],
        )
        keep = torch.ones_like(i, dtype=torch.bool)
        keep[doubtful] = distance <= limit if closed else distance < limit
        return i[keep], j[keep]

    def squares(self, i: Int64[Tensor, " p"], j: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
        """The squared distances of pairs, from the differences of the original features."""
        return _squares(self.x, self.y, i, j)


def _squares(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], i: Int64[Tensor, " p"], j: Int64[Tensor, " p"]
) -> Float64[Tensor, " p"]:
    size = max(1, DIFFERENCES // x.shape[1])
    parts = zip(i.split(size), j.split(size), strict=True)
    return torch.cat([x[a].double().sub_(y[b]).square_().sum(1) for a, b in parts])


def round_root(square: Float64[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """The correctly rounded root (IEEE 754) of the square in a dtype.

    On a CPU torch's root is one ulp off in one case of seven: a distance could tie with a radius that it exceeds.
    """
    square = square.to(dtype)
    return square.sqrt() if square.device.type != "cpu" else torch.from_numpy(np.sqrt(square.numpy()))


def _below(
    scores: Float[Tensor, "r c"], threshold: Float[Tensor, "r 1"]
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """The pairs whose score is at most the threshold of its row; they are few, so eight flags are tested at once."""
    flags = torch.zeros(len(scores), -(-scores.shape[1] // 8) * 8, dtype=torch.bool, device=scores.device)
    torch.le(scores, threshold, out=flags[:, : scores.shape[1]])
    i, eight = flags.view(torch.int64).nonzero(as_tuple=True)
    hit, place = flags.unflatten(1, (-1, 8))[i, eight].nonzero(as_tuple=True)
    return i[hit], 8 * eight[hit] + place


def _merge(
    squares: Float64[Tensor, "r k"],
    numbers: Int64[Tensor, "r k"],
    i: Int64[Tensor, " p"],
    j: Int64[Tensor, " p"],
    new: Float64[Tensor, " p"],
) -> tuple[Float64[Tensor, "r k"], Int64[Tensor, "r k"]]:
    """The k smallest of the old and the new squares, whose rows i ascend; by a stable sort the earlier comes first."""
    if not len(i):
        return squares, numbers
    counts = torch.bincount(i, minlength=len(squares))
    place = torch.arange(len(i), device=i.device) - (counts.cumsum(0) - counts)[i]
    width = int(counts.max())
    wider = torch.cat([squares, squares.new_full((len(squares), width), torch.inf)], 1)
    wider_numbers = torch.cat([numbers, numbers.new_zeros(len(squares), width)], 1)
    k = squares.shape[1]
    wider[i, k + place], wider_numbers[i, k + place] = new, j
    ordered = wider.sort(dim=1, stable=True)
    return ordered.values[:, :k], wider_numbers.gather(1, ordered.indices[:, :k])


def _up(threshold: Float64[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """The threshold in another dtype, rounded up."""
    rounded = threshold.to(dtype)
    return torch.where(rounded.double() < threshold, rounded.nextafter(torch.full_like(rounded, torch.inf)), rounded)


def _own(rows: range, columns: range) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """The entries of the block on the diagonal."""
    start = max(rows.start, columns.start)
    both = torch.arange(start, max(start, min(rows.stop, columns.stop)))
    return both - rows.start, both - columns.start


def _blocks(n: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def unify(x: Shaped[Tensor, "..."], y: Shaped[Tensor, "..."]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Give two sets of features in one dtype, at least float32.

    Raises ValueError on other shapes and values not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        given = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"features have the shapes {given}; (n, d) and (m, d) are accepted")
    for z in (x,) if y is x else (x, y):
        suspect = ~torch.isfinite(z.sum(1))  # a quick test; large values may add up to infinity
        wrong = int((~torch.isfinite(z[suspect]).all(1)).sum())
        if wrong:
            raise ValueError(f"{wrong} of {len(z)} rows of features are not finite")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)

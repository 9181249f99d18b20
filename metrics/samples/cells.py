"""Voronoi cells of a set of points by k-means (Lloyd, 1982), seeded as k-means++ (Arthur and Vassilvitskii, 2007)."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from metrics.samples.neighbours import find_nearest


def cell_of(points: Float64[Tensor, "n d"], centres: Float64[Tensor, "k d"]) -> Int64[Tensor, " n"]:
    """The number of the nearest centre of each point: its Voronoi cell."""
    return find_nearest(points, centres, 1).rows[:, 0]


def k_means(
    points: Float64[Tensor, "n d"], k: int, *, seed: int = 0, restarts: int = 10, iterations: int = 300
) -> Float64[Tensor, "k d"]:
    """The k centres of k-means with the least sum of squared distances over ``restarts`` runs (Lloyd, from k-means++).

    One seed gives the same result. Raises ValueError where there are fewer different points than centres.
    """
    generator = torch.Generator().manual_seed(seed)
    best, least = points[:0], torch.inf
    for _ in range(restarts):
        centres = _spread(points, k, generator)
        for _ in range(iterations):
            cells = cell_of(points, centres)
            counts = torch.bincount(cells, minlength=k)
            sums = torch.zeros_like(centres).index_add(0, cells, points)
            # A cell without points keeps its centre.
            moved = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
            settled, centres = torch.equal(moved, centres), moved
            if settled:
                break
        cost = float((points - centres[cell_of(points, centres)]).square().sum())
        if cost < least:
            best, least = centres, cost
    return best


def _spread(points: Float64[Tensor, "n d"], k: int, generator: torch.Generator) -> Float64[Tensor, "k d"]:
    """The first centre at random, each further one with probability proportional to its least squared distance."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    squares = torch.full_like(points[:, 0], torch.inf)
    while len(chosen) < k:
        squares = torch.minimum(squares, (points - points[chosen[-1]]).square().sum(1))
        heights = squares.cumsum(0)
        if not heights[-1] > 0:
            raise ValueError(f"there are {len(chosen)} different points; at least {k} are accepted for {k} cells")
        mark = torch.rand(1, dtype=torch.float64, generator=generator).to(points.device) * heights[-1]
        chosen.append(int(torch.searchsorted(heights, mark, right=True).clamp(max=len(points) - 1)))
    return points[chosen]

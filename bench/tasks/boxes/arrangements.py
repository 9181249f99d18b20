"""Pairs and triples of boxes in every arrangement: every order of their edges along either axis, ties included.

The edges of two intervals have 13 such orders (Allen, 1983: before, meets, overlaps, starts, during, finishes, equals,
and the inverses), those of three have 409. A case of k boxes takes one order along x and another along y. Distances
between neighbouring edges differ up to a factor of 3 in half of the cases, and up to a factor of 1,000 in the others.
In a tenth of the cases one box is a copy of another.
"""

from __future__ import annotations

import functools
import itertools

import torch
from jaxtyping import Float, Int64
from torch import Tensor

RELATIONS = ("apart", "touching", "overlapping", "inside", "covering", "equal")
TIE = (
    1e-9  # edges closer than this, in units of the longest side, coincide: computing them from centre and sides rounds
)


@functools.cache
def orders(boxes: int) -> Int64[Tensor, "orders boxes 2"]:
    """Every order of the edges of ``boxes`` intervals, ties included, as ranks (orders, boxes, 2).

    Edges that coincide have equal ranks; two intervals have 13 orders (Allen, 1983), three have 409.
    """
    intervals = list(itertools.combinations(range(2 * boxes), 2))
    found = set()
    for chosen in itertools.product(intervals, repeat=boxes):
        edges = [edge for interval in chosen for edge in interval]
        rank = {edge: i for i, edge in enumerate(sorted(set(edges)))}
        found.add(tuple(rank[edge] for edge in edges))
    return torch.tensor(sorted(found)).view(-1, boxes, 2)


def arrange(n: int, boxes: int, source: torch.Generator) -> Float[Tensor, "n 4*boxes"]:
    """Draw ``n`` cases of ``boxes`` boxes (x, y, w, h) around the origin, with every order of their edges.

    Orders, ties included, are taken in turn along x, and at random along y.
    """
    every = orders(boxes)
    turn = torch.arange(n) % len(every)
    chosen = torch.stack([turn, torch.randint(len(every), (n,), generator=source)], 1)
    spread = torch.where(torch.rand(n, 1, 1, generator=source) < 0.5, 3.0, 1000.0).double()
    gaps = spread ** -torch.rand(n, 2, 2 * boxes, generator=source, dtype=torch.float64)
    size = 50 ** torch.rand(n, 1, 1, generator=source, dtype=torch.float64)
    place = gaps.cumsum(2) * size
    edges = place.gather(2, every[chosen].flatten(2)).view(n, 2, boxes, 2)
    edges = edges - edges.mean((2, 3), keepdim=True)
    low, high = edges.unbind(3)
    case = torch.cat([(low + high) / 2, high - low], 1).transpose(1, 2)
    copied = torch.randint(10 * boxes, (n,), generator=source)  # among all arrangements, equal boxes would be rare
    for i in range(boxes):
        rows = copied == i
        case[rows, i] = case[rows, (i + 1) % boxes]
    return case.flatten(1)


def relation(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Int64[Tensor, " n"]:
    """How each pair of boxes a, b (x, y, w, h) lies, as an index into ``RELATIONS``: apart, touching, overlapping, ...

    Edges coincide within ``TIE``.
    """
    tie = TIE * torch.cat([a, b], 1)[:, [2, 3, 6, 7]].amax(1, keepdim=True)
    low = (a - b)[:, :2] - (a - b)[:, 2:] / 2
    high = (a - b)[:, :2] + (a - b)[:, 2:] / 2
    gap = ((a - b)[:, :2].abs() - (a + b)[:, 2:] / 2).amax(1, keepdim=True)
    inside = ((low >= -tie) & (high <= tie)).all(1)
    covering = ((low <= tie) & (high >= -tie)).all(1)
    apart, touching = (gap > tie)[:, 0], (gap.abs() <= tie)[:, 0]
    found = torch.full_like(apart, RELATIONS.index("overlapping"), dtype=torch.int64)
    for name, holds in (
        ("inside", inside & ~covering), ("covering", covering & ~inside), ("equal", inside & covering),
        ("touching", touching), ("apart", apart),
    ):  # fmt: skip
        found[holds] = RELATIONS.index(name)
    return found


def configuration(case: Float[Tensor, "n d"], boxes: int) -> Int64[Tensor, " n"]:
    """How the boxes of each case lie to one another, as one number: the relations of all pairs are its digits.

    The base is ``len(RELATIONS)``.
    """
    each = case[:, : 4 * boxes].view(-1, boxes, 4)
    number = torch.zeros(len(case), dtype=torch.int64, device=case.device)
    for i, j in itertools.combinations(range(boxes), 2):
        number = number * len(RELATIONS) + relation(each[:, i], each[:, j])
    return number

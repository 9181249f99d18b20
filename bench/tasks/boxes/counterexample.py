"""The search for a counter-example to a claim about a loss, ``left <= right`` for every case.

A case is a row of numbers: a pair of boxes, a triple, a pair with two places on a path. A claim draws cases, selects
those that it applies to, and computes its two sides. The search takes the worst case of every configuration (which
boxes are apart, touch, overlap, lie inside one another or are equal), improves on them by random steps that increase
the violation, and finally rounds the numbers of the worst case as far as it stays a counter-example.

The result that a claim was not broken in so many cases is no proof of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from bench.tasks.boxes.arrangements import configuration
from bench.tasks.boxes.pairs import Loss, xyxy

TOLERANCE = 1e-6  # relative to 1 + the larger side: ten times the eps that other libraries add, and far above rounding
EVEN = 1e-3  # where the sides differ by less, the kind of case is taken to make them equal
STARTS, ROUNDS, STEPS = 96, 60, 18  # cases to ascend from, rounds, neighbours tried per case and round


class Inequality(NamedTuple):
    """Both sides of a claim ``left <= right`` about a loss for each case, and the boxes that they come from.

    Boxes are (x, y, w, h), k per case.
    """

    left: Float[Tensor, " n"]
    right: Float[Tensor, " n"]
    boxes: Float[Tensor, "n k 4"]


class Claim(NamedTuple):
    """A claim about a box loss, ``left <= right``, for every case that it draws and to which it applies.

    A case is a row of d numbers, such as those of two boxes. The search improves on the worst cases if ``ascend`` is
    set.
    """

    draw: Callable[[int, torch.Generator], Float[Tensor, "n d"]]
    compare: Callable[[Loss, Float[Tensor, "n d"]], Inequality]
    applies: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]]
    ascend: bool = True  # whether the search may change a case
    boxes: int = 2  # number of boxes at the beginning of a case


class SearchResult(NamedTuple):
    """The result of a search for a counter-example to a claim: whether it ``holds``, in how many cases, and the worst.

    ``violation`` is by how much the worst case breaks the claim.
    """

    holds: bool
    cases: int
    violation: float  # left - right, 0 where the claim holds
    drawn: dict[int, int]  # number of drawn cases per configuration
    boxes: Float[Tensor, "k 4"] | None = None  # xyxy
    sides: Float[Tensor, "2"] | None = None


def search(
    claim: Claim,
    loss: Loss,
    n: int,
    source: torch.Generator,
    device: str = "cpu",
    *,
    starts: int = STARTS,
    rounds: int = ROUNDS,
) -> SearchResult:
    """Search for a case that breaks a claim about a loss: draw about ``n`` cases, and ascend from the worst of them.

    The ascent from ``starts`` cases takes ``rounds`` rounds. Raises FloatingPointError where a side of the claim is not
    finite.
    """
    case = claim.draw(n, source).to(device)
    case = case[claim.applies(case)]
    count, kind = len(case), configuration(case, claim.boxes)
    excess = _excess(claim.compare(loss, case))
    worst = case[_choose_starts(kind, excess, starts)]
    if claim.ascend:
        worst, steps = _ascend(claim, loss, worst, source, rounds)
        count += steps
    best = _round_digits(claim, loss, worst[_excess(claim.compare(loss, worst)).argmax()])
    found = claim.compare(loss, best[None])
    numbers, counts = kind.unique(return_counts=True)
    drawn = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    if _excess(found) <= 0:
        return SearchResult(True, count, 0.0, drawn)
    sides = torch.cat([found.left, found.right])
    return SearchResult(False, count, float(sides[0] - sides[1]), drawn, xyxy(found.boxes[0]), sides)


def _excess(inequality: Inequality) -> Float[Tensor, " n"]:
    """By how much each case breaks the claim, beyond the tolerance."""
    left, right = inequality.left, inequality.right
    if not bool((left.isfinite() & right.isfinite()).all()):
        raise FloatingPointError("the loss or its gradient is not finite for boxes with an extent")
    return (left - right) / (1 + torch.maximum(left.abs(), right.abs())) - TOLERANCE


def _choose_starts(kind: Int64[Tensor, " n"], excess: Float[Tensor, " n"], starts: int) -> Int64[Tensor, " starts"]:
    """The cases to ascend from: half are the worst of each configuration, half the worst in which the sides differ.

    Where both sides are equal because no box moves or all boxes are the same, the claim is neither broken nor near it.
    """
    worst = _worst_of_each(kind, excess)[: starts // 2]
    clear = (excess < -EVEN).nonzero().squeeze(1)
    return torch.cat([worst, clear[_worst_of_each(kind[clear], excess[clear])[: starts - len(worst)]]])


def _worst_of_each(kind: Int64[Tensor, " n"], excess: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The worst case of each configuration, worst first; then all other cases."""
    descending = excess.argsort(descending=True, stable=True)
    kinds = kind[descending]
    by_kind = kinds.argsort(stable=True)
    first = torch.ones_like(kinds, dtype=torch.bool)
    first[by_kind[1:]] = kinds[by_kind[1:]] != kinds[by_kind[:-1]]
    return torch.cat([descending[first], descending[~first]])


def _ascend(claim: Claim, loss: Loss, start: Tensor, source: torch.Generator, rounds: int) -> tuple[Tensor, int]:
    """The cases after steps each of which made them worse, and the number of cases tried."""
    best, value = start, _excess(claim.compare(loss, start))
    reach = torch.full((len(start), 1, 1), 0.3).to(start)
    count = 0
    for _ in range(rounds):
        tried = _steps(best, reach, claim.boxes, source)
        flat = tried.flatten(0, 1)
        about = claim.applies(flat)
        got = torch.full_like(flat[:, 0], -math.inf)
        if about.any():
            got[about] = _excess(claim.compare(loss, flat[about]))
        count += int(about.sum())
        top, which = got.view(len(best), STEPS).max(1)
        better = top > value
        best = torch.where(better[:, None], tried[torch.arange(len(best)), which], best)
        value = torch.where(better, top, value)
        reach = torch.where(better[:, None, None], reach, reach * 0.7)
    return best, count


def _steps(case: Tensor, reach: Tensor, boxes: int, source: torch.Generator) -> Float[Tensor, "starts steps d"]:
    """Neighbours of a case: a third with all numbers changed, a third with some, a third with two edges aligned."""
    n, third = len(case), STEPS // 3
    shape = (n, STEPS - third, case.shape[1])
    noise = torch.randn(shape, generator=source, dtype=torch.float64)
    noise[:, third:] *= torch.rand(shape, generator=source)[:, third:] < 0.3
    scale = case.abs() + case.abs().mean(1, keepdim=True) * 0.1
    moved = case[:, None] + noise.to(case) * reach * scale[:, None]
    return torch.cat([moved, _align_edges(case[:, None].expand(-1, third, -1), boxes, source)], 1)


def _align_edges(case: Tensor, boxes: int, source: torch.Generator) -> Float[Tensor, "starts steps d"]:
    """The cases, with one edge of a box in each moved to where another edge along the same axis lies."""
    flat = case.flatten(0, 1).clone()
    each = flat[:, : 4 * boxes].view(-1, boxes, 2, 2)  # case, box, (centre, side), axis
    edges = torch.stack([each[:, :, 0] - each[:, :, 1] / 2, each[:, :, 0] + each[:, :, 1] / 2], 2)
    row = torch.arange(len(flat))
    axis, moving, still = (torch.randint(m, (len(flat),), generator=source) for m in (2, 2 * boxes, 2 * boxes))
    edges[row, moving // 2, moving % 2, axis] = edges[row, still // 2, still % 2, axis]
    low, high = edges.unbind(2)
    flat[:, : 4 * boxes] = torch.stack([(low + high) / 2, high - low], 2).flatten(1)
    return flat.view(case.shape)


def _round_digits(claim: Claim, loss: Loss, case: Tensor) -> Tensor:
    """The case with the fewest digits that keep nine tenths of its violation."""
    least = 0.9 * _excess(claim.compare(loss, case[None]))
    if least <= 0:
        return case
    for digits in (0, 1, 2, 3):
        plain = (case * 10**digits).round() / 10**digits
        if claim.applies(plain[None]).all() and _excess(claim.compare(loss, plain[None])) >= least:
            return plain
    return case

"""The search for a counter-example to a claim about a loss, ``left <= right`` for every case.

A case is a row of numbers: a pair of boxes, a triple, a pair with two places on a path. A claim draws cases, says which
of them it is about, and works out its two sides. The search finds the worst case of every configuration (which box is
apart from, touches, overlaps, is inside, covers or equals which), ascends from the worst of those by random steps that
make the violation larger, and rounds the numbers of what it found for as long as the case stays a counter-example.

A claim is "not broken in so many cases": that is no proof.
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

TOLERANCE = 1e-6  # in units of 1 + the larger side: ten times the eps that peers add; float64 rounds at 1e-12 of it
EVEN = 1e-3  # sides that differ by less are taken for equal by the case's nature
STARTS, ROUNDS, STEPS = 96, 60, 18  # cases to ascend from; rounds; neighbours tried per case and round


class Look(NamedTuple):
    """Both sides of a claim for each case, and the boxes (x, y, w, h) that they come from."""

    left: Float[Tensor, " n"]
    right: Float[Tensor, " n"]
    boxes: Float[Tensor, "n k 4"]


class Claim(NamedTuple):
    """``left <= right`` for every case that it is about."""

    summary: str
    draw: Callable[[int, torch.Generator], Float[Tensor, "n d"]]
    look: Callable[[Loss, Float[Tensor, "n d"]], Look]
    about: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]]
    ascend: bool = True  # whether a case may be changed a little
    boxes: int = 2  # how many boxes a case begins with


class Verdict(NamedTuple):
    """Whether no counter-example was found, in how many cases; if one was, the worst: its boxes and both sides."""

    holds: bool
    cases: int
    violation: float  # left - right, 0 where the claim holds
    drawn: dict[int, int]  # of the cases that were drawn, how many have each configuration
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
) -> Verdict:
    """Draw about ``n`` cases and ascend from ``starts`` of them, in so many rounds, to the worst that can be found.

    Raises FloatingPointError where a side of the claim is not a number.
    """
    case = claim.draw(n, source).to(device)
    case = case[claim.about(case)]
    looked, kind = len(case), configuration(case, claim.boxes)
    excess = _excess(claim.look(loss, case))
    worst = case[_starts(kind, excess, starts)]
    if claim.ascend:
        worst, steps = _ascend(claim, loss, worst, source, rounds)
        looked += steps
    best = _rounded(claim, loss, worst[_excess(claim.look(loss, worst)).argmax()])
    found = claim.look(loss, best[None])
    numbers, counts = kind.unique(return_counts=True)
    drawn = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    if _excess(found) <= 0:
        return Verdict(True, looked, 0.0, drawn)
    sides = torch.cat([found.left, found.right])
    return Verdict(False, looked, float(sides[0] - sides[1]), drawn, xyxy(found.boxes[0]), sides)


def _excess(look: Look) -> Float[Tensor, " n"]:
    """By how much each case breaks its claim, over the tolerance."""
    left, right = look.left, look.right
    if not bool((left.isfinite() & right.isfinite()).all()):
        raise FloatingPointError("the loss or its gradient is not finite for boxes with an extent")
    return (left - right) / (1 + torch.maximum(left.abs(), right.abs())) - TOLERANCE


def _starts(kind: Int64[Tensor, " n"], excess: Float[Tensor, " n"], starts: int) -> Int64[Tensor, " starts"]:
    """Cases to ascend from: half the worst of each configuration, half the worst in which the sides differ.

    Where both sides are equal because nothing moves or all boxes are one, a claim is neither broken nor near it.
    """
    worst = _worst_of_each(kind, excess)[: starts // 2]
    clear = (excess < -EVEN).nonzero().squeeze(1)
    return torch.cat([worst, clear[_worst_of_each(kind[clear], excess[clear])[: starts - len(worst)]]])


def _worst_of_each(kind: Int64[Tensor, " n"], excess: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The worst case of each configuration, from bad to good; then the others."""
    descending = excess.argsort(descending=True, stable=True)
    kinds = kind[descending]
    by_kind = kinds.argsort(stable=True)
    first = torch.ones_like(kinds, dtype=torch.bool)
    first[by_kind[1:]] = kinds[by_kind[1:]] != kinds[by_kind[:-1]]
    return torch.cat([descending[first], descending[~first]])


def _ascend(claim: Claim, loss: Loss, start: Tensor, source: torch.Generator, rounds: int) -> tuple[Tensor, int]:
    """The cases after steps that each made them worse, and how many were tried."""
    best, value = start, _excess(claim.look(loss, start))
    reach = torch.full((len(start), 1, 1), 0.3).to(start)
    looked = 0
    for _ in range(rounds):
        tried = _steps(best, reach, claim.boxes, source)
        flat = tried.flatten(0, 1)
        about = claim.about(flat)
        got = torch.full_like(flat[:, 0], -math.inf)
        if about.any():
            got[about] = _excess(claim.look(loss, flat[about]))
        looked += int(about.sum())
        top, which = got.view(len(best), STEPS).max(1)
        better = top > value
        best = torch.where(better[:, None], tried[torch.arange(len(best)), which], best)
        value = torch.where(better, top, value)
        reach = torch.where(better[:, None, None], reach, reach * 0.7)
    return best, looked


def _steps(case: Tensor, reach: Tensor, boxes: int, source: torch.Generator) -> Float[Tensor, "starts steps d"]:
    """Neighbours: a third with all numbers changed, a third with some, a third with an edge moved onto another."""
    n, third = len(case), STEPS // 3
    shape = (n, STEPS - third, case.shape[1])
    noise = torch.randn(shape, generator=source, dtype=torch.float64)
    noise[:, third:] *= torch.rand(shape, generator=source)[:, third:] < 0.3
    scale = case.abs() + case.abs().mean(1, keepdim=True) * 0.1
    moved = case[:, None] + noise.to(case) * reach * scale[:, None]
    return torch.cat([moved, _aligned(case[:, None].expand(-1, third, -1), boxes, source)], 1)


def _aligned(case: Tensor, boxes: int, source: torch.Generator) -> Float[Tensor, "starts steps d"]:
    """The cases, in each of which one edge of a box lies where another edge along the same axis is."""
    flat = case.flatten(0, 1).clone()
    each = flat[:, : 4 * boxes].view(-1, boxes, 2, 2)  # case, box, (centre, side), axis
    edges = torch.stack([each[:, :, 0] - each[:, :, 1] / 2, each[:, :, 0] + each[:, :, 1] / 2], 2)
    row = torch.arange(len(flat))
    axis, moving, still = (torch.randint(m, (len(flat),), generator=source) for m in (2, 2 * boxes, 2 * boxes))
    edges[row, moving // 2, moving % 2, axis] = edges[row, still // 2, still % 2, axis]
    low, high = edges.unbind(2)
    flat[:, : 4 * boxes] = torch.stack([(low + high) / 2, high - low], 2).flatten(1)
    return flat.view(case.shape)


def _rounded(claim: Claim, loss: Loss, case: Tensor) -> Tensor:
    """The case with as few digits as leave it nine tenths of its violation."""
    least = 0.9 * _excess(claim.look(loss, case[None]))
    if least <= 0:
        return case
    for digits in (0, 1, 2, 3):
        plain = (case * 10**digits).round() / 10**digits
        if claim.about(plain[None]).all() and _excess(claim.look(loss, plain[None])) >= least:
            return plain
    return case

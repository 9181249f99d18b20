"""The search for a counter-example to a claim about a loss, ``left <= right`` for every case.

A case is a row of numbers: a pair of boxes, a triple, a pair with two places on a path. A claim draws cases, says of
which it holds, and works out its two sides. The search takes the worst of many, climbs from the worst few by small
random changes, and rounds the numbers of what it found for as long as the case stays a counter-example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.tasks.box_pairs import Loss, xyxy

TOLERANCE = 1e-6  # in units of 1 + the larger side: ten times the eps that peers add; float64 rounds at 1e-12 of it
START, ROUNDS, CLIMBERS = 8, 40, 32  # worst cases to climb from, steps, candidates a step and start


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
    climb: bool = True  # whether a case may be changed a little


class Verdict(NamedTuple):
    """Whether no counter-example was found, in how many cases; if one was, the worst: its boxes and both sides."""

    holds: bool
    cases: int
    violation: float  # left - right, 0 where the claim holds
    boxes: Float[Tensor, "k 4"] | None = None  # xyxy
    sides: Float[Tensor, "2"] | None = None


def search(claim: Claim, loss: Loss, n: int, source: torch.Generator, device: str = "cpu") -> Verdict:
    """Look for the worst of about ``n`` cases; raises FloatingPointError where a side is not a number."""
    case = claim.draw(n, source).to(device)
    case = case[claim.about(case)]
    looked = len(case)
    excess = _excess(claim.look(loss, case))
    worst = case[excess.topk(min(START, looked)).indices]
    if claim.climb:
        worst, steps = _climb(claim, loss, worst, source)
        looked += steps
    worst = worst[_excess(claim.look(loss, worst)).argmax()]
    worst = _rounded(claim, loss, worst)
    found = claim.look(loss, worst[None])
    if _excess(found) <= 0:
        return Verdict(True, looked, 0.0)
    sides = torch.cat([found.left, found.right])
    return Verdict(False, looked, float(sides[0] - sides[1]), xyxy(found.boxes[0]), sides)


def _excess(look: Look) -> Float[Tensor, " n"]:
    """By how much each case breaks its claim, over the tolerance."""
    left, right = look.left, look.right
    if not bool((left.isfinite() & right.isfinite()).all()):
        raise FloatingPointError("the loss or its gradient is not finite for boxes with an extent")
    return (left - right) / (1 + torch.maximum(left.abs(), right.abs())) - TOLERANCE


def _climb(claim: Claim, loss: Loss, start: Tensor, source: torch.Generator) -> tuple[Tensor, int]:
    """The cases after random steps that each made them worse."""
    best, value, reach = start, _excess(claim.look(loss, start)), torch.full((len(start), 1), 0.3).to(start)
    looked = 0
    for _ in range(ROUNDS):
        noise = torch.randn(len(best), CLIMBERS, best.shape[1], generator=source, dtype=torch.float64).to(best)
        scale = best.abs() + best.abs().mean(1, keepdim=True) * 0.1
        tried = best[:, None] + noise * (reach * scale)[:, None]
        flat = tried.flatten(0, 1)
        about = claim.about(flat)
        got = torch.full_like(flat[:, 0], -math.inf)
        if about.any():
            got[about] = _excess(claim.look(loss, flat[about]))
        looked += int(about.sum())
        top, which = got.view(len(best), CLIMBERS).max(1)
        better = top > value
        best = torch.where(better[:, None], tried[torch.arange(len(best)), which], best)
        value = torch.where(better, top, value)
        reach = torch.where(better[:, None], reach, reach * 0.7)
    return best, looked


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

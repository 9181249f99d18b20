"""What is claimed of box losses, each as ``left <= right`` for every case drawn: see ``counterexample``.

Where a claim says that something is not 0 (a loss, a gradient, a penalty), its left side is how far apart or unlike the
boxes are at which it is, so that the worst case is the clearest.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.tasks.boxes.arrangements import arranged
from bench.tasks.boxes.counterexample import Claim, Look
from bench.tasks.boxes.pairs import Loss, difference, gap, gradient, iou, log_uniform, pairs, targets, uniform

BLIND = 1e-12  # a loss or gradient up to here is 0: rounding
LARGE = 20.0  # no loss with a bound comes near; -log IoU without a least IoU would, as boxes outgrow one another


def ordinary(case: Float[Tensor, "n d"], boxes: int = 2) -> Bool[Tensor, " n"]:
    """Cases of boxes with sides from 1e-3 to 1e5, no two further apart than ten of the longest."""
    each = case[:, : 4 * boxes].view(-1, boxes, 4)
    centres, sides = each[..., :2], each[..., 2:]
    spread = (centres.amax(1) - centres.amin(1)).amax(1)
    return (sides > 1e-3).all(2).all(1) & (sides < 1e5).all(2).all(1) & (spread < 10 * sides.amax((1, 2)))


def _pairs(n: int, source: torch.Generator) -> Tensor:
    """Half of every family, half in every arrangement."""
    return torch.cat([torch.cat(pairs(n - n // 2, source), 1), arranged(n // 2, 2, source)])


def _halves(case: Tensor) -> tuple[Tensor, Tensor]:
    return case[:, :4], case[:, 4:8]


def _stack(*boxes: Tensor) -> Tensor:
    return torch.stack(boxes, 1)


def _non_negative(loss: Loss, case: Tensor) -> Look:
    pred, target = _halves(case)
    value = loss(pred, target)
    return Look(torch.zeros_like(value), value, _stack(pred, target))


def _zero_iff_equal(loss: Loss, case: Tensor) -> Look:
    """Left: how far from its target a box is that has no loss; or the loss of the target itself."""
    pred, target = _halves(case)
    blind = _blind(loss(pred, target) <= BLIND, pred, target)
    left = torch.maximum(blind, loss(target, target).abs())
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _minimum_unique(loss: Loss, case: Tensor) -> Look:
    """Left: how far from its target a box is whose loss is not above the target's own."""
    pred, target = _halves(case)
    left = _blind(loss(pred, target) <= loss(target, target) + BLIND, pred, target)
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _blind(blind: Tensor, pred: Tensor, target: Tensor) -> Tensor:
    """The boxes' difference where it goes unseen; one under a thousandth does not count."""
    apart = difference(pred, target)
    return torch.where(blind & (apart > 1e-3), apart, 0)


def _symmetric(loss: Loss, case: Tensor) -> Look:
    pred, target = _halves(case)
    one, other = loss(pred, target), loss(target, pred)
    return Look(torch.maximum(one, other), torch.minimum(one, other), _stack(pred, target))


def _triples(n: int, source: torch.Generator) -> Tensor:
    """Half three boxes in every arrangement; half pairs with a third box, near their path or to one or at random."""
    return torch.cat([_pairs_and_a_third(n - n // 2, source), arranged(n // 2, 3, source)])


def _pairs_and_a_third(n: int, source: torch.Generator) -> Tensor:
    pred, target = pairs(n, source)
    place = uniform(n, source, 0, 1, 4)
    between = target + place * (pred - target)
    other = pairs(n, source)[0][torch.randperm(n, generator=source)]
    near = target * (1 + uniform(n, source, -0.3, 0.3, 4))
    kind = torch.randint(3, (n, 1), generator=source)
    third = torch.where(kind == 0, between, torch.where(kind == 1, other, near))
    return torch.cat([pred, target, third], 1)


def _ordinary_triple(case: Tensor) -> Tensor:
    return ordinary(case, 3)


def _triangle(loss: Loss, case: Tensor) -> Look:
    """From the first box to the second, and by way of the third."""
    a, b, c = case.split(4, 1)
    return Look(loss(a, b), loss(a, c) + loss(c, b), _stack(a, b, c))


def _scales(n: int, source: torch.Generator) -> Tensor:
    return torch.cat([_pairs(n, source), uniform(n, source, -10, 10, 1)], 1)


def _scalable(case: Tensor) -> Tensor:
    return ordinary(case) & (case[:, 8].abs() <= 10)


def _scale_invariant(loss: Loss, case: Tensor) -> Look:
    """The pair, and the same scaled by a power of two, where no coordinate rounds."""
    pred, target = _halves(case)
    factor = 2 ** case[:, 8:].round()
    one, other = loss(pred, target), loss(factor * pred, factor * target)
    boxes = _stack(pred, target, factor * pred, factor * target)
    return Look(torch.maximum(one, other), torch.minimum(one, other), boxes)


def _stretched(n: int, source: torch.Generator) -> Tensor:
    """Pairs, three in four of them drawn apart and resized along none, one or both axes by up to a million."""
    pred, target = _halves(_pairs(n, source))
    factor = torch.where(torch.rand(n, 1, generator=source) < 0.25, 1, log_uniform(n, source, 1, 1e6, 1))
    along = torch.randint(-1, 2, (n, 2), generator=source)
    centre = target[:, :2] + factor * (pred - target)[:, :2]
    return torch.cat([centre, pred[:, 2:] * factor**along, target], 1)


def _bounded(loss: Loss, case: Tensor) -> Look:
    pred, target = _halves(case)
    value = loss(pred, target).abs()
    return Look(value, torch.full_like(value, LARGE), _stack(pred, target))


def _plainly_apart(n: int, source: torch.Generator) -> Tensor:
    families = torch.cat(pairs(n - n // 2, source, "apart", "equal_size", "equal_ratio"), 1)
    return torch.cat([families, arranged(n // 2, 2, source)])


def _gradient_apart(loss: Loss, case: Tensor) -> Look:
    """Left: the gap, in longer sides, across which nothing pulls."""
    pred, target = _halves(case)
    _, slopes = gradient(loss, pred, target)
    longer = case[:, [2, 3, 6, 7]].amax(1)
    still = slopes.norm(dim=1) * longer <= BLIND
    left = torch.where(still, gap(pred, target) / longer, 0)
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _moderately_apart(case: Tensor) -> Tensor:
    """Apart by at most three of the longer sides, sides within a factor of 4 and up to 25: nothing underflows."""
    pred, target = _halves(case)
    longer, apart = case[:, [2, 3, 6, 7]].amax(1), gap(pred, target)
    ratio = (pred / target)[:, 2:].log().abs().amax(1)
    return ordinary(case) & (apart > 0) & (apart < 3 * longer) & (longer < 25) & (ratio < math.log(4))


def _paths(n: int, source: torch.Generator) -> Tensor:
    """Pairs with two places on the way to the target, in half of the cases with little of it left."""
    near = torch.rand(n, 1, generator=source) < 0.5
    places = torch.where(near, 1 - log_uniform(n, source, 1e-4, 1, 2), uniform(n, source, 0, 1, 2))
    return torch.cat([_pairs(n, source), places.sort(1).values], 1)


def _on_path(case: Tensor) -> Tensor:
    first, second = case[:, 8], case[:, 9]
    return ordinary(case) & (first >= 0) & (first < second) & (second <= 1)


def _along(loss: Loss, case: Tensor, moving: Tensor) -> Look:
    """The loss further on the straight path to the target, and nearer its start."""
    pred, target = _halves(case)
    first, second = (pred + case[:, i : i + 1] * moving * (target - pred) for i in (8, 9))
    return Look(loss(second, target), loss(first, target), _stack(first, second, target))


def _falls_on_path(loss: Loss, case: Tensor) -> Look:
    return _along(loss, case, case.new_ones(4))


def _falls_to_centre(loss: Loss, case: Tensor) -> Look:
    return _along(loss, case, case.new_tensor([1, 1, 0, 0]))


def _degenerate(n: int, source: torch.Generator) -> Tensor:
    """Boxes without width, height, either or extent, inverted, equal, touching, tiny, huge.

    Half have coordinates among a few; half are arranged, at any scale from 1e-30 to 1e30, and one side in four is 0 or
    negative.
    """
    return torch.cat([_few_coordinates(n - n // 2, source), _spoilt(n // 2, source)])


def _spoilt(n: int, source: torch.Generator) -> Tensor:
    case = arranged(n, 2, source) * log_uniform(n, source, 1e-30, 1e30, 1)
    fate = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, -1], dtype=torch.float64)
    case[:, [2, 3, 6, 7]] *= fate[torch.randint(len(fate), (n, 4), generator=source)]
    return case


def _few_coordinates(n: int, source: torch.Generator) -> Tensor:
    values = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, -1.0, 1e-8, 1e8], dtype=torch.float64)
    corners = values[torch.randint(len(values), (n, 2, 4), generator=source)]
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], 2).flatten(1)


def _finite(loss: Loss, case: Tensor) -> Look:
    """Left: 1 where the loss or its gradient is not finite."""
    pred, target = _halves(case)
    value, slopes = gradient(loss, pred, target)
    left = (~(value.isfinite() & slopes.isfinite().all(1))).to(case)
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _resized(n: int, source: torch.Generator) -> Tensor:
    """Targets with a factor of 1.25 to 4, or its inverse."""
    factor = log_uniform(n, source, 1.25, 4, 1)
    inverted = torch.rand(n, 1, generator=source) < 0.5
    return torch.cat([targets(n, source), torch.where(inverted, 1 / factor, factor)], 1)


def _sees(loss: Loss, case: Tensor, exponents: tuple[int, int]) -> Look:
    """Left: the sides' change, as a logarithm, at which ``L - (1 - IoU)`` stays 0, up to what a peer's eps moves."""
    target, factor = case[:, :4], case[:, 4:]
    pred = torch.cat([target[:, :2], target[:, 2:] * factor ** case.new_tensor(exponents)], 1)
    penalty = loss(pred, target) - (1 - iou(pred, target))
    left = torch.where(penalty.abs() <= 1e-7, factor[:, 0].log().abs(), 0)
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _clearly_resized(case: Tensor) -> Tensor:
    """By a quarter to fourfold, of targets with sides from 4 to 100 and ratios from 1/4 to 4."""
    width, height, factor = case[:, 2:].unbind(1)
    sides = (case[:, 2:4] > 4).all(1) & (case[:, 2:4] < 100).all(1) & (width < 4 * height) & (height < 4 * width)
    return sides & (factor > 1 / 4) & (factor < 4) & ((factor > 1.25) | (factor < 1 / 1.25))


def _sees_size(loss: Loss, case: Tensor) -> Look:
    return _sees(loss, case, (1, 1))


def _sees_ratio(loss: Loss, case: Tensor) -> Look:
    return _sees(loss, case, (1, -1))


def _large_apart(n: int, source: torch.Generator) -> Tensor:
    """Predictions that are apart from their targets and no smaller, and factors to enlarge them by."""
    pred, target = _halves(torch.cat([torch.cat(pairs(n // 2, source, "apart"), 1), arranged(n - n // 2, 2, source)]))
    sides = torch.maximum(pred[:, 2:], target[:, 2:])
    return torch.cat([pred[:, :2], sides, target, log_uniform(n, source, 1, 3, 2)], 1)


def _enlargeable(case: Tensor) -> Tensor:
    """Apart even when enlarged by up to three, no smaller than the target, and no ratio beyond 8."""
    pred, target = _halves(case)
    factors, ratios = case[:, 8:], case[:, [2, 6]] / case[:, [3, 7]]
    plain = (
        ordinary(case) & (ratios > 1 / 8).all(1) & (ratios < 8).all(1) & (factors >= 1).all(1) & (factors < 3).all(1)
    )
    return plain & (pred[:, 2:] >= target[:, 2:]).all(1) & (gap(_enlarged(case), target) > 0)


def _enlarged(case: Tensor) -> Tensor:
    return torch.cat([case[:, :2], case[:, 2:4] * case[:, 8:10]], 1)


def _enlarging_costs(loss: Loss, case: Tensor) -> Look:
    """The loss of a box, and of the same enlarged about its centre, still apart."""
    pred, target = _halves(case)
    larger = _enlarged(case)
    return Look(loss(pred, target), loss(larger, target), _stack(pred, larger, target))


def _no_growth_apart(loss: Loss, case: Tensor) -> Look:
    """Left: the area that the prediction gains a unit of descent, in units of its root."""
    pred, target = _halves(case)
    _, slopes = gradient(loss, pred, target)
    left = -(slopes[:, 2] * pred[:, 3] + slopes[:, 3] * pred[:, 2])
    return Look(left, torch.zeros_like(left), _stack(pred, target))


def _any(case: Tensor) -> Tensor:
    return torch.ones_like(case[:, 0], dtype=torch.bool)


CLAIMS = {
    "non_negative": Claim("0 <= L", _pairs, _non_negative, ordinary),
    "zero_iff_equal": Claim("L is 0 for equal boxes, above 0 for all others", _pairs, _zero_iff_equal, ordinary),
    "minimum_unique": Claim("no other box has a loss as low as the target's", _pairs, _minimum_unique, ordinary),
    "symmetric": Claim("L(a, b) = L(b, a)", _pairs, _symmetric, ordinary),
    "triangle": Claim("L(a, b) <= L(a, c) + L(c, b)", _triples, _triangle, _ordinary_triple, boxes=3),
    "scale_invariant": Claim("scaled by 2^-10 to 2^10, a pair has the same loss", _scales, _scale_invariant, _scalable),
    "bounded": Claim(
        f"|L| is at most {LARGE:g} for boxes up to a million sides apart or unlike",
        _stretched, _bounded, _any, ascend=False,
    ),
    "gradient_apart": Claim(
        "boxes apart by at most three sides have a gradient", _plainly_apart, _gradient_apart, _moderately_apart,
    ),
    "falls_on_path": Claim(
        "never rises as x, y, w, h go straight to the target's", _paths, _falls_on_path, _on_path,
    ),
    "falls_to_centre": Claim(
        "never rises as the centre goes straight to the target's", _paths, _falls_to_centre, _on_path,
    ),
    "finite": Claim(
        "value and gradient are finite for boxes without extent, inverted, equal, huge",
        _degenerate, _finite, _any, ascend=False,
    ),
    "sees_size": Claim(
        "concentric boxes of one ratio and two sizes have a penalty beside 1 - IoU",
        _resized, _sees_size, _clearly_resized, boxes=1,
    ),
    "sees_ratio": Claim(
        "concentric boxes of one area and two ratios have a penalty beside 1 - IoU",
        _resized, _sees_ratio, _clearly_resized, boxes=1,
    ),
    "enlarging_costs": Claim(
        "a box that is apart and no smaller than its target gains nothing by being enlarged about its centre",
        _large_apart, _enlarging_costs, _enlargeable,
    ),
    "no_growth_apart": Claim(
        "descent does not enlarge a box that is apart and no smaller than its target",
        _large_apart, _no_growth_apart, _enlargeable,
    ),
}  # fmt: skip

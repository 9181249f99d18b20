"""Claims about box losses, each written as ``left <= right`` for every case.

``counterexample`` searches for exceptions. Where a claim says that something (a loss, a gradient, a penalty) is not 0,
its left side measures how far apart or how different the boxes are for which it is 0, so that the worst case is the
most obvious one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.tasks.boxes.arrangements import arrange
from bench.tasks.boxes.counterexample import Claim, Inequality
from bench.tasks.boxes.pairs import Loss, difference, draw_log_uniform, draw_uniform, gap, gradient, iou, pairs, targets

BLIND = 1e-12  # a loss or gradient up to here counts as 0, up to rounding
LARGE = 20.0  # far above every bounded loss; -log IoU without a least IoU exceeds it for boxes of very different size


def is_ordinary(case: Float[Tensor, "n d"], boxes: int = 2) -> Bool[Tensor, " n"]:
    """Which cases have boxes of ordinary size: sides from 1e-3 to 1e5, centres at most ten longest sides apart."""
    each = case[:, : 4 * boxes].view(-1, boxes, 4)
    centres, sides = each[..., :2], each[..., 2:]
    spread = (centres.amax(1) - centres.amin(1)).amax(1)
    return (sides > 1e-3).all(2).all(1) & (sides < 1e5).all(2).all(1) & (spread < 10 * sides.amax((1, 2)))


def _draw_pairs(n: int, source: torch.Generator) -> Tensor:
    """Draw pairs of boxes, half of them of all families and half in every arrangement."""
    return torch.cat([torch.cat(pairs(n - n // 2, source), 1), arrange(n // 2, 2, source)])


def _split(case: Tensor) -> tuple[Tensor, Tensor]:
    return case[:, :4], case[:, 4:8]


def _stack(*boxes: Tensor) -> Tensor:
    return torch.stack(boxes, 1)


def _compare_non_negative(loss: Loss, case: Tensor) -> Inequality:
    pred, target = _split(case)
    value = loss(pred, target)
    return Inequality(torch.zeros_like(value), value, _stack(pred, target))


def _compare_zero_iff_equal(loss: Loss, case: Tensor) -> Inequality:
    """Left: how far a box with loss 0 is from its target; or the loss of the target itself."""
    pred, target = _split(case)
    blind = _hidden_difference(loss(pred, target) <= BLIND, pred, target)
    left = torch.maximum(blind, loss(target, target).abs())
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _compare_minimum_unique(loss: Loss, case: Tensor) -> Inequality:
    """Left: how far a box is from its target whose loss is not above that of the target itself."""
    pred, target = _split(case)
    left = _hidden_difference(loss(pred, target) <= loss(target, target) + BLIND, pred, target)
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _hidden_difference(blind: Tensor, pred: Tensor, target: Tensor) -> Tensor:
    """The difference of the boxes where the loss does not see it; under a thousandth it does not count."""
    apart = difference(pred, target)
    return torch.where(blind & (apart > 1e-3), apart, 0)


def _compare_symmetric(loss: Loss, case: Tensor) -> Inequality:
    pred, target = _split(case)
    one, other = loss(pred, target), loss(target, pred)
    return Inequality(torch.maximum(one, other), torch.minimum(one, other), _stack(pred, target))


def _draw_triples(n: int, source: torch.Generator) -> Tensor:
    """Draw three boxes, half of the cases in every arrangement.

    The other half are pairs with a third box between them, near the target, or at random.
    """
    return torch.cat([_draw_pairs_and_a_third(n - n // 2, source), arrange(n // 2, 3, source)])


def _draw_pairs_and_a_third(n: int, source: torch.Generator) -> Tensor:
    pred, target = pairs(n, source)
    place = draw_uniform(n, source, 0, 1, 4)
    between = target + place * (pred - target)
    other = pairs(n, source)[0][torch.randperm(n, generator=source)]
    near = target * (1 + draw_uniform(n, source, -0.3, 0.3, 4))
    kind = torch.randint(3, (n, 1), generator=source)
    third = torch.where(kind == 0, between, torch.where(kind == 1, other, near))
    return torch.cat([pred, target, third], 1)


def _is_ordinary_triple(case: Tensor) -> Tensor:
    return is_ordinary(case, 3)


def _compare_triangle(loss: Loss, case: Tensor) -> Inequality:
    """Left: from the first box to the second. Right: by way of the third."""
    a, b, c = case.split(4, 1)
    return Inequality(loss(a, b), loss(a, c) + loss(c, b), _stack(a, b, c))


def _draw_scales(n: int, source: torch.Generator) -> Tensor:
    return torch.cat([_draw_pairs(n, source), draw_uniform(n, source, -10, 10, 1)], 1)


def _is_scalable(case: Tensor) -> Tensor:
    return is_ordinary(case) & (case[:, 8].abs() <= 10)


def _compare_scale_invariant(loss: Loss, case: Tensor) -> Inequality:
    """The pair, and the same pair scaled by a power of two, which rounds no coordinate."""
    pred, target = _split(case)
    factor = 2 ** case[:, 8:].round()
    one, other = loss(pred, target), loss(factor * pred, factor * target)
    boxes = _stack(pred, target, factor * pred, factor * target)
    return Inequality(torch.maximum(one, other), torch.minimum(one, other), boxes)


def _draw_stretched(n: int, source: torch.Generator) -> Tensor:
    """Draw pairs, three in four of which are moved apart and resized by up to a million.

    This is along none, one or both axes.
    """
    pred, target = _split(_draw_pairs(n, source))
    factor = torch.where(torch.rand(n, 1, generator=source) < 0.25, 1, draw_log_uniform(n, source, 1, 1e6, 1))
    along = torch.randint(-1, 2, (n, 2), generator=source)
    centre = target[:, :2] + factor * (pred - target)[:, :2]
    return torch.cat([centre, pred[:, 2:] * factor**along, target], 1)


def _compare_bounded(loss: Loss, case: Tensor) -> Inequality:
    pred, target = _split(case)
    value = loss(pred, target).abs()
    return Inequality(value, torch.full_like(value, LARGE), _stack(pred, target))


def _draw_apart(n: int, source: torch.Generator) -> Tensor:
    families = torch.cat(pairs(n - n // 2, source, "apart", "equal_size", "equal_ratio"), 1)
    return torch.cat([families, arrange(n // 2, 2, source)])


def _compare_gradient_apart(loss: Loss, case: Tensor) -> Inequality:
    """Left: the gap, in longer sides, at which there is no gradient."""
    pred, target = _split(case)
    _, slopes = gradient(loss, pred, target)
    longer = case[:, [2, 3, 6, 7]].amax(1)
    still = slopes.norm(dim=1) * longer <= BLIND
    left = torch.where(still, gap(pred, target) / longer, 0)
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _is_moderately_apart(case: Tensor) -> Tensor:
    """Boxes with a gap of under three longer sides, side ratios under 4 and sides under 25: nothing underflows."""
    pred, target = _split(case)
    longer, apart = case[:, [2, 3, 6, 7]].amax(1), gap(pred, target)
    ratio = (pred / target)[:, 2:].log().abs().amax(1)
    return is_ordinary(case) & (apart > 0) & (apart < 3 * longer) & (longer < 25) & (ratio < math.log(4))


def _draw_paths(n: int, source: torch.Generator) -> Tensor:
    """Draw pairs with two places on the straight path to the target, in half of the cases both close to its end."""
    near = torch.rand(n, 1, generator=source) < 0.5
    places = torch.where(near, 1 - draw_log_uniform(n, source, 1e-4, 1, 2), draw_uniform(n, source, 0, 1, 2))
    return torch.cat([_draw_pairs(n, source), places.sort(1).values], 1)


def _is_on_path(case: Tensor) -> Tensor:
    first, second = case[:, 8], case[:, 9]
    return is_ordinary(case) & (first >= 0) & (first < second) & (second <= 1)


def _compare_along(loss: Loss, case: Tensor, moving: Tensor) -> Inequality:
    """Left: the loss at the place nearer the target. Right: the loss at the place nearer the start."""
    pred, target = _split(case)
    first, second = (pred + case[:, i : i + 1] * moving * (target - pred) for i in (8, 9))
    return Inequality(loss(second, target), loss(first, target), _stack(first, second, target))


def _compare_falls_on_path(loss: Loss, case: Tensor) -> Inequality:
    return _compare_along(loss, case, case.new_ones(4))


def _compare_falls_to_centre(loss: Loss, case: Tensor) -> Inequality:
    return _compare_along(loss, case, case.new_tensor([1, 1, 0, 0]))


def _draw_degenerate(n: int, source: torch.Generator) -> Tensor:
    """Draw boxes without width or height or both, inverted, equal, touching, tiny or huge.

    Half of the cases have coordinates from a short list. The others are arranged, scaled by 1e-30 to 1e30, and one side
    in four is set to 0 or made negative.
    """
    return torch.cat([_draw_few_coordinates(n - n // 2, source), _draw_flat_or_inverted(n // 2, source)])


def _draw_flat_or_inverted(n: int, source: torch.Generator) -> Tensor:
    case = arrange(n, 2, source) * draw_log_uniform(n, source, 1e-30, 1e30, 1)
    fate = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, -1], dtype=torch.float64)
    case[:, [2, 3, 6, 7]] *= fate[torch.randint(len(fate), (n, 4), generator=source)]
    return case


def _draw_few_coordinates(n: int, source: torch.Generator) -> Tensor:
    values = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, -1.0, 1e-8, 1e8], dtype=torch.float64)
    corners = values[torch.randint(len(values), (n, 2, 4), generator=source)]
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], 2).flatten(1)


def _compare_finite(loss: Loss, case: Tensor) -> Inequality:
    """Left: 1 where the loss or its gradient is not finite."""
    pred, target = _split(case)
    value, slopes = gradient(loss, pred, target)
    left = (~(value.isfinite() & slopes.isfinite().all(1))).to(case)
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _draw_resized(n: int, source: torch.Generator) -> Tensor:
    """Draw targets, each with a factor of 1.25 to 4 or its inverse by which the prediction is resized."""
    factor = draw_log_uniform(n, source, 1.25, 4, 1)
    inverted = torch.rand(n, 1, generator=source) < 0.5
    return torch.cat([targets(n, source), torch.where(inverted, 1 / factor, factor)], 1)


def _compare_penalty(loss: Loss, case: Tensor, exponents: tuple[int, int]) -> Inequality:
    """Left: log change of the sides for which ``L - (1 - IoU)`` stays 0, up to the eps of other libraries."""
    target, factor = case[:, :4], case[:, 4:]
    pred = torch.cat([target[:, :2], target[:, 2:] * factor ** case.new_tensor(exponents)], 1)
    penalty = loss(pred, target) - (1 - iou(pred, target))
    left = torch.where(penalty.abs() <= 1e-7, factor[:, 0].log().abs(), 0)
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _is_clearly_resized(case: Tensor) -> Tensor:
    """Factors of 1/4 to 1/1.25 or 1.25 to 4, on targets with sides from 4 to 100 and aspect ratios from 1/4 to 4."""
    width, height, factor = case[:, 2:].unbind(1)
    sides = (case[:, 2:4] > 4).all(1) & (case[:, 2:4] < 100).all(1) & (width < 4 * height) & (height < 4 * width)
    return sides & (factor > 1 / 4) & (factor < 4) & ((factor > 1.25) | (factor < 1 / 1.25))


def _compare_sees_size(loss: Loss, case: Tensor) -> Inequality:
    return _compare_penalty(loss, case, (1, 1))


def _compare_sees_ratio(loss: Loss, case: Tensor) -> Inequality:
    return _compare_penalty(loss, case, (1, -1))


def _draw_large_apart(n: int, source: torch.Generator) -> Tensor:
    """Draw predictions that are apart from their targets and no smaller, with factors to enlarge them by."""
    pred, target = _split(torch.cat([torch.cat(pairs(n // 2, source, "apart"), 1), arrange(n - n // 2, 2, source)]))
    sides = torch.maximum(pred[:, 2:], target[:, 2:])
    return torch.cat([pred[:, :2], sides, target, draw_log_uniform(n, source, 1, 3, 2)], 1)


def _is_enlargeable(case: Tensor) -> Tensor:
    """Boxes that stay apart when enlarged up to 3 times, no smaller than the target, of aspect ratios under 8."""
    pred, target = _split(case)
    factors, ratios = case[:, 8:], case[:, [2, 6]] / case[:, [3, 7]]
    plain = (
        is_ordinary(case) & (ratios > 1 / 8).all(1) & (ratios < 8).all(1) & (factors >= 1).all(1) & (factors < 3).all(1)
    )
    return plain & (pred[:, 2:] >= target[:, 2:]).all(1) & (gap(_enlarge(case), target) > 0)


def _enlarge(case: Tensor) -> Tensor:
    return torch.cat([case[:, :2], case[:, 2:4] * case[:, 8:10]], 1)


def _compare_enlarging_costs(loss: Loss, case: Tensor) -> Inequality:
    """Left: the loss of a box. Right: that of the box enlarged about its centre, where the two still do not overlap."""
    pred, target = _split(case)
    larger = _enlarge(case)
    return Inequality(loss(pred, target), loss(larger, target), _stack(pred, larger, target))


def _compare_no_growth_apart(loss: Loss, case: Tensor) -> Inequality:
    """Left: the area that the prediction gains per unit of descent, in units of its root."""
    pred, target = _split(case)
    _, slopes = gradient(loss, pred, target)
    left = -(slopes[:, 2] * pred[:, 3] + slopes[:, 3] * pred[:, 2])
    return Inequality(left, torch.zeros_like(left), _stack(pred, target))


def _accept_any(case: Tensor) -> Tensor:
    return torch.ones_like(case[:, 0], dtype=torch.bool)


CLAIMS = {  # said in words in bench.tasks.boxes.declarations
    "non_negative": Claim(_draw_pairs, _compare_non_negative, is_ordinary),
    "zero_iff_equal": Claim(_draw_pairs, _compare_zero_iff_equal, is_ordinary),
    "minimum_unique": Claim(_draw_pairs, _compare_minimum_unique, is_ordinary),
    "symmetric": Claim(_draw_pairs, _compare_symmetric, is_ordinary),
    "triangle": Claim(_draw_triples, _compare_triangle, _is_ordinary_triple, boxes=3),
    "scale_invariant": Claim(_draw_scales, _compare_scale_invariant, _is_scalable),
    "bounded": Claim(_draw_stretched, _compare_bounded, _accept_any, ascend=False),
    "gradient_apart": Claim(_draw_apart, _compare_gradient_apart, _is_moderately_apart),
    "falls_on_path": Claim(_draw_paths, _compare_falls_on_path, _is_on_path),
    "falls_to_centre": Claim(_draw_paths, _compare_falls_to_centre, _is_on_path),
    "finite": Claim(_draw_degenerate, _compare_finite, _accept_any, ascend=False),
    "sees_size": Claim(_draw_resized, _compare_sees_size, _is_clearly_resized, boxes=1),
    "sees_ratio": Claim(_draw_resized, _compare_sees_ratio, _is_clearly_resized, boxes=1),
    "enlarging_costs": Claim(_draw_large_apart, _compare_enlarging_costs, _is_enlargeable),
    "no_growth_apart": Claim(_draw_large_apart, _compare_no_growth_apart, _is_enlargeable),
}

"""Box losses: against scalar formulas, differences and identities, and on the boxes that break such losses."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implementations.boxes import LOSSES
from implementations.boxes.geometry import pairwise_iou

NAMES = ["iou", "giou", "diou", "ciou"]
SIZES = [0.0, 1e-45, 1e-30, 1e-19, 1e-8, 0.5, 1.0, 1.0000001, 1e8, 1e30, 3e38]
NASTY = sorted({sign * size for size in SIZES for sign in (-1, 1)})


def scalar(name, p, t, alpha=None):
    """The papers' formulas in plain Python, for boxes with sides; ``alpha`` freezes CIoU's weight."""
    (w, h), (wg, hg) = (p[2] - p[0], p[3] - p[1]), (t[2] - t[0], t[3] - t[1])
    inner = max(0, min(p[2], t[2]) - max(p[0], t[0])) * max(0, min(p[3], t[3]) - max(p[1], t[1]))
    union = w * h + wg * hg - inner
    cw, ch = max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])
    overlap = inner / union
    rho2 = ((p[0] + p[2] - t[0] - t[2]) / 2) ** 2 + ((p[1] + p[3] - t[1] - t[3]) / 2) ** 2
    v = 4 / math.pi**2 * (math.atan(wg / hg) - math.atan(w / h)) ** 2
    alpha = v / (1 - overlap + v) if alpha is None and name == "ciou" else alpha
    penalty = {"iou": 0, "giou": (cw * ch - union) / (cw * ch), "diou": rho2 / (cw**2 + ch**2)}
    return 1 - overlap + (penalty["diou"] + alpha * v if name == "ciou" else penalty[name])


def weight(p, t):
    """CIoU's alpha at a pair."""
    v = 4 / math.pi**2 * (math.atan((t[2] - t[0]) / (t[3] - t[1])) - math.atan((p[2] - p[0]) / (p[3] - p[1]))) ** 2
    return v / (scalar("iou", p, t) + v)


def boxes(n, seed, dtype=torch.float64):
    """Boxes of sides .2 to 2.2 with corners in a square of 3: about half of the pairs overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner = 3 * torch.rand(n, 2, dtype=torch.float64, generator=generator)
    sides = 0.2 + 2 * torch.rand(n, 2, dtype=torch.float64, generator=generator)
    return torch.cat([corner, corner + sides], 1).to(dtype)


def centred(x, y, w, h):
    return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], dtype=torch.float64)


def value_and_gradient(name, pred, target):
    pred = pred.detach().requires_grad_()
    value = LOSSES[name](pred, target)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_scalar_formula(name):
    pred, target = boxes(500, 1), boxes(500, 2)
    expected = [scalar(name, p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    # Rounding of a dozen operations in another order.
    torch.testing.assert_close(
        LOSSES[name](pred, target), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_central_differences_with_the_weight_frozen(name):
    step = 1e-6
    pairs = torch.stack([boxes(100, 3), boxes(100, 4)]).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](*pairs).sum(), pairs)
    for i, (p, t) in enumerate(pairs.detach().transpose(0, 1).tolist()):
        alpha = weight(p, t)
        for side, k in itertools.product((0, 1), range(4)):
            ends = []
            for sign in (1, -1):
                pair = [list(p), list(t)]
                pair[side][k] += sign * step
                ends.append(scalar(name, *pair, alpha=alpha))
            # The step's own error is its square; rounding is 1e-16 over the step.
            assert gradient[side, i, k].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_published_penalties():
    target = centred(0, 0, 2, 2)
    near, far = centred(4, 4, 4, 2), centred(4, 4, 6, 3)
    penalty = {n: [(LOSSES[n](b, target) - LOSSES["iou"](b, target)).item() for b in (near, far)] for n in NAMES}
    assert penalty["giou"] == pytest.approx([0.7143, 0.5769], abs=5e-5)  # both fall although the box only grows
    assert penalty["diou"] == pytest.approx([0.3765, 0.3012], abs=5e-5)


def test_distance_penalty_has_its_true_gradient():
    box = torch.tensor([11.5, 10.8, 1.2, 0.9], dtype=torch.float64, requires_grad=True)
    corners = torch.stack([*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)])[None]
    target = centred(10, 10, 1, 1)
    penalty = LOSSES["diou"](corners, target, reduction="sum") - LOSSES["iou"](corners, target, reduction="sum")
    (gradient,) = torch.autograd.grad(penalty, box)
    assert (-gradient).tolist() == pytest.approx([-0.150, -0.058, 0.078, 0.052], abs=5e-4)  # three digits are known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [1e-8, 1.0, 1e8])
def test_zero_exactly_at_the_target_and_nowhere_else(name, side):
    target = boxes(200, 5) * side
    value, gradient = value_and_gradient(name, target, target)
    assert (value == 0).all()
    assert gradient.abs().max() * side < 1e-14  # a minimum; rounding alone
    assert (LOSSES[name](boxes(200, 6) * side, target) > 0).all()
    assert (LOSSES[name](target * (1 + 1e-6), target) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_place_do_not_matter(name):
    pred, target = boxes(200, 7), boxes(200, 8)
    value, gradient = value_and_gradient(name, pred, target)
    for factor in (2.0**-40, 2.0**40):  # a power of two: nothing rounds
        scaled, steeper = value_and_gradient(name, pred * factor, target * factor)
        assert torch.equal(scaled, value)
        assert torch.equal(steeper * factor, gradient)
    for factor in (1e-8, 3.0, 1e8):
        torch.testing.assert_close(LOSSES[name](pred * factor, target * factor), value, rtol=0, atol=1e-14)
    moved = LOSSES[name](pred + 100, target + 100)
    torch.testing.assert_close(moved, value, rtol=0, atol=1e-12)  # coordinates of 100 round to 1e-14, sides are .2


@pytest.mark.parametrize("name", NAMES)
def test_eps_moves_nothing_at_ordinary_sizes(name):
    pred, target = boxes(200, 9), boxes(200, 10)
    assert torch.equal(LOSSES[name](pred, target, eps=1e-7), LOSSES[name](pred, target, eps=1e-12))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_finite_for_every_finite_box(name, dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor(NASTY, dtype=dtype)
    pred, target = (values[torch.randint(len(NASTY), (50_000, 4), generator=generator)] for _ in range(2))
    target[::5] = pred[::5]  # identical
    target[1::5, :2] = pred[1::5, 2:]  # touching at a corner
    target[2::5, 0] = pred[2::5, 2]  # touching along a side
    value, gradient = value_and_gradient(name, pred, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value.min() >= -1e-6  # the rounding of float32
    assert value.max() <= 2.5 + 1e-6  # CIoU has the largest bound: 1 + 1 + v^2 / (1 + v) with v at most 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_finite_for_any_finite_float(coordinates):
    pred, target = torch.tensor(coordinates, dtype=torch.float32).view(2, 1, 4)
    for name in NAMES:
        value, gradient = value_and_gradient(name, pred, target)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -5.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_row_leaves_its_neighbours_alone(name, bad):
    pred, target = boxes(9, 11), boxes(9, 12)
    value, gradient = value_and_gradient(name, pred, target)
    for column in range(4):
        spoilt = pred.clone()
        spoilt[4, column] = bad
        other_value, other_gradient = value_and_gradient(name, spoilt, target)
        others = torch.arange(9) != 4
        assert torch.equal(other_value[others], value[others])
        assert torch.equal(other_gradient[others], gradient[others])
        if math.isnan(bad):
            assert other_value[4].isnan()
            assert LOSSES[name](target, spoilt)[4].isnan()


@pytest.mark.parametrize("name", NAMES)
def test_an_inverted_side_counts_as_none(name):
    pred, target = centred(1.0, 2.0, -3.0, 1.0), centred(0.5, 2.0, 2.0, 2.0)
    assert torch.equal(LOSSES[name](pred, target), LOSSES[name](centred(1.0, 2.0, 0.0, 1.0), target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name, dtype):
    pred, target = boxes(50, 13, dtype), boxes(50, 14, dtype)
    value = LOSSES[name](pred, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](pred.float(), target.float()))
    assert value_and_gradient(name, pred, target)[1].dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_flat_boxes_still_pull_on_their_height(name):
    flat, target = torch.tensor([[0.0, 1.0, 2.0, 1.0]], dtype=torch.float64), centred(1, 1, 2, 2)
    _, gradient = value_and_gradient(name, flat, target)
    assert gradient[0, 3] < 0 < gradient[0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_reductions(name):
    pred, target = boxes(7, 15), boxes(7, 16)
    rows = LOSSES[name](pred, target)
    assert rows.shape == (7,)
    assert torch.equal(LOSSES[name](pred, target, reduction="sum"), rows.sum())
    assert torch.equal(LOSSES[name](pred, target, reduction="mean"), rows.sum() / 7)
    assert LOSSES[name](pred[:0], target[:0]).shape == (0,)
    assert LOSSES[name](pred[:0], target[:0], reduction="mean") == 0


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("pred", "target", "options", "message"),
    [
        (torch.zeros(3, 5), torch.zeros(3, 4), {}, r"pred has shape \(3, 5\).*\(n, 4\)"),
        (torch.zeros(3, 4), torch.zeros(4), {}, r"target has shape \(4,\)"),
        (torch.zeros(3, 4), torch.zeros(1, 4), {}, "3 pred boxes and 1 target"),
        (torch.zeros(3, 4).long(), torch.zeros(3, 4), {}, "pred is torch.int64"),
        (torch.zeros(3, 4), torch.zeros(3, 4), {"reduction": "avg"}, "reduction is 'avg'.*'mean'"),
        (torch.zeros(3, 4), torch.zeros(3, 4), {"eps": 0.0}, "eps is 0.0"),
        (torch.zeros(3, 4), torch.tensor([[0, 0, 1, 1], [2, 0, 1, 1.0]] * 2)[:3], {"validate": True}, r"target\[1\]"),
        (torch.tensor([[0, 0, 1, math.nan]]), torch.zeros(1, 4), {"validate": True}, r"pred\[0\].*nan"),
    ],
)
def test_bad_input_is_named(pred, target, options, message):
    with pytest.raises(ValueError, match=message):
        LOSSES["ciou"](pred, target, **options)


@pytest.mark.unchecked
def test_pairwise_iou_is_the_row_by_row_one():
    a, b = boxes(5, 17), boxes(7, 18)
    table = pairwise_iou(a, b)
    assert table.shape == (5, 7)
    rows = 1 - LOSSES["iou"](a.repeat_interleave(7, 0), b.repeat(5, 1))
    torch.testing.assert_close(table.flatten(), rows, rtol=0, atol=1e-15)  # 1 - (1 - IoU) rounds once
    with pytest.raises(ValueError, match="b has shape"):
        pairwise_iou(a, b[0])

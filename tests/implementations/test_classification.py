"""Classification losses: against the papers' formulas in plain Python, differences, minima, and extreme logits."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from implementations.boxes import CLASSIFICATION_LOSSES as LOSSES
from implementations.boxes.classification import iacs_targets

OPTIONS = [
    ("focal", {}),
    ("focal", {"alpha": None, "gamma": 0.5}),
    ("quality_focal", {}),
    ("quality_focal", {"beta": 0.0}),
    ("quality_focal", {"beta": 1.0}),
    ("generalised_focal", {"labels": (-0.5, 2.0), "beta": 3.0}),
    ("varifocal", {}),
    ("varifocal", {"alpha": 1.5, "gamma": 0.5}),
    ("varifocal", {"detach_weight": True}),
]
ELEMENTWISE = ["focal", "quality_focal", "generalised_focal", "varifocal"]
NAMES = [*ELEMENTWISE, "distribution_focal"]
BINS = 6


def scalar(name, x, y, *, frozen=None, alpha=None, gamma=2.0, beta=2.0, labels=(0.0, 1.0), **_):
    """The papers' formulas; ``frozen`` is the logit at which varifocal's weight is held."""
    p = 1 / (1 + math.exp(-x))
    entropy = -(y * math.log(p) + (1 - y) * math.log(1 - p))
    if name == "focal":
        p_t, alpha_t = (p, alpha) if y == 1 else (1 - p, None if alpha is None else 1 - alpha)
        return -(1 if alpha_t is None else alpha_t) * (1 - p_t) ** gamma * math.log(p_t)
    if name == "quality_focal":
        return abs(y - p) ** beta * entropy
    if name == "generalised_focal":
        left, right = labels
        expected = left * (1 - p) + right * p
        return -(abs(y - expected) ** beta) * ((right - y) * math.log(1 - p) + (y - left) * math.log(p))
    weight = p if frozen is None else 1 / (1 + math.exp(-frozen))
    return y * entropy if y > 0 else alpha * weight**gamma * entropy


def defaults(name, options):
    return {"focal": {"alpha": 0.25}, "varifocal": {"alpha": 0.75}}.get(name, {}) | options


def sample(name, n, seed, labels=(0.0, 1.0)):
    """Logits of -4 to 4 and targets of which a third are either end; 0 and 1 alone for focal."""
    generator = torch.Generator().manual_seed(seed)
    x, y, pick = torch.rand(3, n, dtype=torch.float64, generator=generator)
    ends = (pick * 6).floor()
    y = (pick > 0.5).double() if name == "focal" else torch.where(ends == 0, 0, torch.where(ends == 1, 1, y))
    return 8 * x - 4, labels[0] + (labels[1] - labels[0]) * y


def distances(n, seed):
    """Logits over bins, and distances with whole numbers and both ends among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, BINS, dtype=torch.float64, generator=generator)
    y = (BINS - 1) * torch.rand(n, dtype=torch.float64, generator=generator)
    y[: 2 * BINS] = torch.arange(BINS).repeat(2)
    return logits, y


def scalar_distribution(logits, y):
    exponentials = [math.exp(x) for x in logits]
    p = [e / sum(exponentials) for e in exponentials]
    left = min(int(y), BINS - 2)
    return -((left + 1 - y) * math.log(p[left]) + (y - left) * math.log(p[left + 1]))


def pair(name, n=9, seed=1):
    return distances(max(n, 2 * BINS), seed) if name == "distribution_focal" else sample(name, n, seed)


def value_and_gradient(loss, logits, targets, **options):
    logits = logits.detach().requires_grad_()
    value = loss(logits, targets, **options)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_values_are_the_scalar_formula(name, options):
    x, y = sample(name, 600, 1, options.get("labels", (0.0, 1.0)))
    expected = [scalar(name, a, b, **defaults(name, options)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    # The formula's 1 - p rounds to 1e-16, which is 1e-14 of the smallest p here.
    torch.testing.assert_close(
        LOSSES[name](x, y, **options), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_gradients_are_central_differences_with_the_weight_frozen(name, options):
    step = 1e-6
    x, y = sample(name, 300, 2, options.get("labels", (0.0, 1.0)))
    _, gradient = value_and_gradient(LOSSES[name], x, y, **options)
    for a, b, slope in zip(x.tolist(), y.tolist(), gradient.tolist(), strict=True):
        f = partial(scalar, name, y=b, frozen=a if options.get("detach_weight") else None, **defaults(name, options))
        # The step's own error is its square; rounding is 1e-16 of the loss over the step.
        assert slope == pytest.approx((f(a + step) - f(a - step)) / (2 * step), rel=1e-8, abs=1e-8)


def test_distribution_focal_is_the_scalar_formula_with_its_gradient():
    step, loss = 1e-6, LOSSES["distribution_focal"]
    logits, y = distances(60, 3)
    value, gradient = value_and_gradient(loss, logits, y)
    rows = list(zip(logits.tolist(), y.tolist(), strict=True))
    expected = torch.tensor([scalar_distribution(*row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-13)  # rounding of a sum of six
    for i, (x, target) in enumerate(rows):
        for j in range(BINS):
            ends = [
                scalar_distribution([v + sign * step * (j == k) for k, v in enumerate(x)], target) for sign in (1, -1)
            ]
            assert gradient[i, j].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)  # as above


def test_focal_without_focus_is_half_of_the_cross_entropy():
    x, y = sample("focal", 100, 4)
    half = LOSSES["focal"](x, y, alpha=0.5, gamma=0.0)
    torch.testing.assert_close(half, binary_cross_entropy_with_logits(x, y, reduction="none") / 2)


def test_focal_label_in_between_weighs_both():
    x, y = sample("quality_focal", 100, 5)
    on, off = (LOSSES["focal"](x, torch.full_like(x, label)) for label in (1.0, 0.0))
    torch.testing.assert_close(LOSSES["focal"](x, y), y * on + (1 - y) * off)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_focal_takes_labels_of_any_real_dtype(dtype):
    x, y = sample("focal", 100, 6)
    assert torch.equal(LOSSES["focal"](x, y.to(dtype)), LOSSES["focal"](x, y))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_quality_focal_on_labels_is_focal_without_balance(beta):
    x, y = sample("focal", 100, 7)
    x = x * 10  # to 1e-17 of a probability: nothing may cancel
    torch.testing.assert_close(
        LOSSES["quality_focal"](x, y, beta=beta), LOSSES["focal"](x, y, alpha=None, gamma=beta), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("labels", [(0.0, 1.0), (3.0, 4.0), (-0.5, 2.0)])
def test_generalised_focal_is_least_at_the_interpolation(labels, beta):
    loss, (left, right) = partial(LOSSES["generalised_focal"], labels=labels, beta=beta), labels
    y = torch.linspace(left, right, 12, dtype=torch.float64)[1:-1]
    best = ((y - left) / (right - y)).log()  # p_r = (y - l) / (r - l)
    value, gradient = value_and_gradient(loss, best, y)
    if beta > 0:
        assert value.abs().max() < 1e-14  # rounding of the expected label
    if beta != 1:  # it has a kink there
        assert gradient.abs().max() < 1e-13
    for move in (-3.0, -0.1, -1e-3, 1e-3, 0.1, 3.0):
        assert (loss(best + move, y) > value).all()


def test_distribution_focal_is_least_at_the_interpolation():
    _, y = distances(40, 8)
    left = y.floor().clamp(max=BINS - 2).long()
    share = torch.zeros(40, BINS, dtype=torch.float64)
    share.scatter_(1, left[:, None], (left + 1 - y)[:, None]).scatter_(1, left[:, None] + 1, (y - left)[:, None])
    value, gradient = value_and_gradient(LOSSES["distribution_focal"], share.clamp(min=1e-300).log(), y)
    assert gradient.abs().max() < 1e-14  # it is convex in the logits, so this is its minimum
    torch.testing.assert_close((share * torch.arange(BINS)).sum(1), y)  # whose mean is the distance
    assert (LOSSES["distribution_focal"](torch.zeros(40, BINS).double(), y) > value).all()


def test_distribution_focal_holds_distances_to_its_bins():
    logits, _ = distances(2 * BINS, 9)
    out, ends = torch.tensor([-2.0, BINS + 1.0, 1e30]), torch.tensor([0.0, BINS - 1.0, BINS - 1.0])
    assert torch.equal(LOSSES["distribution_focal"](logits[:3], out), LOSSES["distribution_focal"](logits[:3], ends))
    sides = LOSSES["distribution_focal"](logits[:12].view(3, 4, BINS), torch.zeros(3, 4))
    assert torch.equal(sides.flatten(), LOSSES["distribution_focal"](logits[:12], torch.zeros(12)))


def test_varifocal_at_its_ends():
    x, _ = sample("varifocal", 100, 10)
    entropy = partial(binary_cross_entropy_with_logits, x, reduction="none")
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    torch.testing.assert_close(LOSSES["varifocal"](x, one), entropy(one))
    torch.testing.assert_close(LOSSES["varifocal"](x, zero), 0.75 * x.sigmoid() ** 2 * entropy(zero))
    assert (LOSSES["varifocal"](x, zero + 1e-9) < 1e-7).all()  # q BCE: no focal term, so nothing is left of it


def test_a_detached_weight_changes_the_gradient_of_negatives_alone():
    x, y = sample("varifocal", 100, 11)
    value, gradient = value_and_gradient(LOSSES["varifocal"], x, y)
    same, other = value_and_gradient(LOSSES["varifocal"], x, y, detach_weight=True)
    assert torch.equal(value, same)
    assert torch.equal(gradient[y > 0], other[y > 0])
    assert (other[y == 0] > 0).all()
    assert (other[y == 0] < gradient[y == 0]).all()  # the weight grows with the logit as well


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "options"), [*OPTIONS, ("focal", {"gamma": 0.01}), ("varifocal", {"gamma": 30.0, "alpha": 1.0})]
)
def test_finite_for_large_logits(name, options, dtype):
    largest = min(1e30, torch.finfo(dtype).max)
    sizes = torch.tensor([0.0, 1e-30, 1e-4, 1.0, 16.0, 89.0, 104.0, 745.0, 1e4, largest], dtype=torch.float64)
    x = torch.cat([sizes, -sizes]).to(dtype).repeat(5)
    left, right = options.get("labels", (0.0, 1.0))
    y = torch.linspace(left, right, 5).repeat_interleave(len(x) // 5)
    value, gradient = value_and_gradient(LOSSES[name], x, y, **options)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (value >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_distribution_focal_is_finite_for_large_logits(dtype):
    generator = torch.Generator().manual_seed(0)
    largest = min(1e30, torch.finfo(dtype).max)
    levels = torch.tensor([-largest, -1e4, 0.0, 1.0, 1e4, largest])
    logits = levels[torch.randint(6, (500, BINS), generator=generator)].to(dtype)
    value, gradient = value_and_gradient(LOSSES["distribution_focal"], logits, 5 * torch.rand(500, generator=generator))
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (value >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_in_its_element(name):
    logits, targets = pair(name)
    value, gradient = value_and_gradient(LOSSES[name], logits, targets)
    others = torch.arange(len(targets)) != 4
    for spoil in (0, 1):
        spoilt = [logits.clone(), targets.clone()]
        spoilt[spoil][4] = math.nan
        if name == "distribution_focal" and not spoil:
            spoilt[0][4, 1:] = logits[4, 1:]  # one bin is enough
        other_value, other_gradient = value_and_gradient(LOSSES[name], *spoilt)
        assert other_value[4].isnan()
        assert other_gradient[4].isnan().all()
        assert torch.equal(other_value[others], value[others])
        assert torch.equal(other_gradient[others], gradient[others])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, targets = (tensor.to(dtype) for tensor in pair(name))
    value, gradient = value_and_gradient(LOSSES[name], logits, targets)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(value, LOSSES[name](logits.float(), targets.float()))


@pytest.mark.parametrize("name", NAMES)
def test_reductions(name):
    logits, targets = pair(name)
    rows, reduced = LOSSES[name](logits, targets), partial(LOSSES[name], logits, targets)
    assert rows.shape == targets.shape
    assert torch.equal(reduced(reduction="sum"), rows.sum())
    assert torch.equal(reduced(reduction="mean"), rows.sum() / len(rows))
    assert LOSSES[name](logits[:0], targets[:0], reduction="mean") == 0


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_reduction_over_the_positives(name):
    logits, targets = (tensor.view(3, 4) for tensor in sample(name, 12, 12))
    positives = int((targets > 0).sum())
    assert 1 < positives < 12
    loss = partial(LOSSES[name], reduction="positives")
    assert torch.equal(loss(logits, targets), LOSSES[name](logits, targets).sum() / positives)
    background = torch.zeros_like(targets)
    assert torch.equal(loss(logits, background), LOSSES[name](logits, background).sum())  # none counts as one


def test_iacs_targets_hold_the_iou_at_the_class_of_a_positive():
    ious = torch.tensor([0.7, math.nan, 0.2, math.nan], requires_grad=True)
    targets = iacs_targets(torch.tensor([2, -1, 0, 1]), ious, 3)
    expected = torch.tensor([[0, 0, 0.7], [0, 0, 0], [0.2, 0, 0], [0, math.nan, 0]])
    torch.testing.assert_close(targets, expected, rtol=0, atol=0, equal_nan=True)
    assert not targets.requires_grad
    assert iacs_targets(torch.tensor([], dtype=torch.int64), torch.tensor([]), 3).shape == (0, 3)
    checked = iacs_targets(torch.tensor([2, -1]), torch.tensor([0.7, math.nan]), 3, validate=True)
    assert torch.equal(checked, targets[:2])  # no one asks for the IoU of the background


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "logits", "targets", "options", "message"),
    [
        ("focal", torch.zeros(3, 2), torch.zeros(3), {}, r"targets have shape \(3,\).*logits, \(3, 2\)"),
        ("focal", torch.zeros(3).long(), torch.zeros(3), {}, "logits are torch.int64.*floating-point"),
        ("focal", torch.zeros(3), torch.zeros(3).cfloat(), {}, "targets are torch.complex64.*real"),
        ("quality_focal", torch.zeros(3), torch.zeros(3).long(), {}, "targets are torch.int64.*floating"),
        ("focal", torch.zeros(3), torch.zeros(3), {"alpha": 1.5}, "alpha is 1.5; accepted is 0 to 1"),
        ("focal", torch.zeros(3), torch.zeros(3), {"gamma": -1.0}, "gamma is -1.0.*at least 0"),
        ("quality_focal", torch.zeros(3), torch.zeros(3), {"beta": 0.5}, "beta is 0.5.*0, or at least 1"),
        ("generalised_focal", torch.zeros(3), torch.zeros(3), {"labels": (1.0, 1.0)}, r"labels are \(1.0, 1.0\)"),
        ("varifocal", torch.zeros(3), torch.zeros(3), {"alpha": math.nan}, "alpha is nan"),
        ("varifocal", torch.zeros(3), torch.zeros(3), {"gamma": math.inf}, "gamma is inf"),
        ("varifocal", torch.zeros(3), torch.zeros(3), {"reduction": "avg"}, "reduction is 'avg'.*'positives'"),
        ("distribution_focal", torch.zeros(3, 1), torch.zeros(3), {}, r"logits have shape \(3, 1\).*2 bins"),
        ("distribution_focal", torch.zeros(3, 8), torch.zeros(3, 8), {}, r"targets have shape \(3, 8\).*\(3,\)"),
        ("distribution_focal", torch.zeros(3, 8), torch.zeros(3), {"reduction": "positives"}, "'sum'$"),
        ("focal", torch.tensor([0, math.inf]), torch.zeros(2), {"validate": True}, r"logits\[1\] is inf.*finite"),
        ("varifocal", torch.zeros(2, 2), torch.tensor([[0, 1.0], [1.2, 0]]), {"validate": True}, r"targets\[1, 0\]"),
        ("generalised_focal", torch.zeros(2), torch.zeros(2), {"labels": (1.0, 2.0), "validate": True}, "0.0.*1 to 2"),
        ("distribution_focal", torch.zeros(2, 8), torch.tensor([7, 7.5]), {"validate": True}, r"targets\[1\].*0 to 7"),
    ],
)  # fmt: skip
def test_bad_input_is_named(name, logits, targets, options, message):
    with pytest.raises(ValueError, match=message):
        LOSSES[name](logits, targets, **options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("labels", "ious", "classes", "message"),
    [
        (torch.zeros(3), torch.zeros(3), 2, "labels are torch.float32.*integers"),
        (torch.zeros(3, 1).long(), torch.zeros(3, 1), 2, r"labels are torch.int64 \(3, 1\)"),
        (torch.zeros(3).long(), torch.zeros(2), 2, r"ious are torch.float32 \(2,\).*\(3,\)"),
        (torch.zeros(3).long(), torch.zeros(3), 0, "classes is 0"),
        (torch.tensor([0, 2]), torch.zeros(2), 2, r"labels\[1\] is 2; accepted is -1 to 1"),
        (torch.tensor([0, 1]), torch.tensor([0.5, 1.5]), 2, r"ious\[1\] is 1.5; accepted is 0 to 1"),
    ],
)
def test_bad_iacs_input_is_named(labels, ious, classes, message):
    with pytest.raises(ValueError, match=message):
        iacs_targets(labels, ious, classes, validate=True)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_tensor_is_refused(name):
    logits = torch.zeros((4, BINS) if name == "distribution_focal" else 4)
    for make in (np.asarray, torch.Tensor.tolist, iter, lambda column: None):
        with pytest.raises(ValueError, match=r"^logits is of type \S+; accepted is a torch.Tensor"):
            LOSSES[name](make(logits), torch.zeros(4))
        with pytest.raises(ValueError, match=r"^targets is of type \S+; accepted is a torch.Tensor"):
            LOSSES[name](logits, make(torch.zeros(4)))


@pytest.mark.unchecked
def test_focal_takes_its_arguments_in_torchvision_s_places():
    logits, targets = torch.linspace(-3, 3, 8), torch.arange(8) % 2
    by_name = LOSSES["focal"](logits, targets, alpha=0.4, gamma=1.5, reduction="mean")
    assert torch.equal(LOSSES["focal"](logits, targets, 0.4, 1.5, "mean"), by_name)
    with pytest.raises(ValueError, match="alpha is 'mean'; accepted is a number"):
        LOSSES["focal"](logits, targets, "mean")

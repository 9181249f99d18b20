"""Box losses against the papers' formulas in plain Python, in value and, with what is constant frozen, in gradient."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from implementations.boxes import LOSSES
from implementations.boxes.losses import RunningMean

WIOU = {"state": 0.4}
VARIANTS = [
    *((name, {}) for name, entry in LOSSES.items() if entry.family != "peer" and name not in ("wiou_v2", "wiou_v3")),
    ("wiou_v2", WIOU),
    ("wiou_v3", WIOU),
    ("l1", {"form": "cxcywh"}),
    ("smooth_l1", {"form": "cxcywh", "beta": 0.3}),
    ("bounded_iou", {"beta": 0.2}),
    ("ciou", {"alpha": "attached"}),
    ("ciou", {"alpha": "thresholded"}),
    ("ciou", {"alpha": "thresholded_attached"}),
    ("eiou", {"sides": "offset"}),
    ("siou", {"theta": 2.0}),
    ("siou", {"distance": "unsquared"}),
    ("siou", {"distance": "rewarded"}),
    ("shape_iou", {"scale": 1.5, "theta": 2.0}),
    ("mpdiou", {"image_size": (4.0, 6.0)}),
    ("alpha_iou", {"power": 0.5}),
    ("alpha_giou", {"power": 2.0}),
    ("alpha_diou", {"power": 2.0}),
    ("alpha_ciou", {"power": 2.0, "alpha": "attached"}),
    ("focal_eiou", {"gamma": 2.0}),
    ("focal_eiou", {"weight": "attached"}),
    ("wiou_v2", WIOU | {"gamma": 2.0}),
    ("wiou_v3", WIOU | {"alpha": 1.5}),
    ("wiou_v3", WIOU | {"delta": 2.0}),
    ("piou_v2", {"strength": 0.8}),
    ("piou_v2", {"weight": "detached"}),
    ("inner_iou", {"ratio": 1.3}),
    *(("inner_iou", {"base": base}) for base in ("giou", "diou", "ciou", "eiou", "siou")),
    ("focaler_iou", {"lower": 0.1, "upper": 0.6}),
    ("focaler_iou", {"base": "giou"}),
    ("nwd", {"constant": 2.0}),
    ("kld", {"function": "sqrt"}),
    ("kld", {"tau": 2.0}),
    ("kld", {"direction": "target_to_pred"}),
]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in options.items() if k != "state")]) for name, options in VARIANTS]


def scalar(name, p, t, sg=lambda value: value, **options):
    """One loss of one pair of boxes with sides; ``sg`` is called on what the paper or its code holds constant."""
    b = SimpleNamespace(w=p[2] - p[0], h=p[3] - p[1], wg=t[2] - t[0], hg=t[3] - t[1], p=p, t=t)
    b.cw, b.ch = max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])
    b.dx, b.dy = (p[0] + p[2] - t[0] - t[2]) / 2, (p[1] + p[3] - t[1] - t[3]) / 2
    inner = max(0, min(p[2], t[2]) - max(p[0], t[0])) * max(0, min(p[3], t[3]) - max(p[1], t[1]))
    b.union = b.w * b.h + b.wg * b.hg - inner
    b.iou, b.rho = inner / b.union, (b.dx**2 + b.dy**2) / (b.cw**2 + b.ch**2)
    b.empty = (b.cw * b.ch - b.union) / (b.cw * b.ch)
    b.P = (abs(p[0] - t[0]) + abs(p[2] - t[2])) / (4 * b.wg) + (abs(p[1] - t[1]) + abs(p[3] - t[3])) / (4 * b.hg)
    return FORMULAS[name](b, sg, **options)


def differences(b, form):
    corners = [abs(x - y) for x, y in zip(b.p, b.t, strict=True)]
    return corners if form == "xyxy" else [abs(b.dx), abs(b.dy), abs(b.w - b.wg), abs(b.h - b.hg)]


def huber(z, beta):
    return z * z / (2 * beta) if z < beta else z - beta / 2


def aspect(b, sg, alpha="detached"):
    v = 4 / math.pi**2 * (math.atan(b.wg / b.hg) - math.atan(b.w / b.h)) ** 2
    weight = v / (1 - b.iou + v) * (b.iou > 0.5 or not alpha.startswith("thresholded"))
    return (weight if alpha in ("attached", "thresholded_attached") else sg(weight)) * v


def bounded(b, beta):
    places = [max(0, (s - 2 * abs(d)) / (s + 2 * abs(d))) for d, s in ((b.dx, b.wg), (b.dy, b.hg))]
    sizes = [min(b.w / b.wg, b.wg / b.w), min(b.h / b.hg, b.hg / b.h)]
    return sum(2 * huber(1 - bound, beta) for bound in places + sizes)


def eiou(b, sides="difference"):
    wrong = (b.w - b.wg, b.h - b.hg) if sides == "difference" else (b.dx, b.dy)
    return 1 - b.iou + b.rho + (wrong[0] / b.cw) ** 2 + (wrong[1] / b.ch) ** 2


def shape_cost(b, theta, hh=1, ww=1):
    changes = hh * abs(b.w - b.wg) / max(b.w, b.wg), ww * abs(b.h - b.hg) / max(b.h, b.hg)
    return sum((1 - math.exp(-change)) ** theta for change in changes)


def siou(b, theta=4, distance="squared"):
    angle = math.sin(2 * math.asin(min(abs(b.dx), abs(b.dy)) / math.hypot(b.dx, b.dy)))
    power, sign = (1 if distance == "unsquared" else 2), (1 if distance == "rewarded" else -1)
    ratios = abs(b.dx / b.cw) ** power, abs(b.dy / b.ch) ** power
    cost = sum(1 - math.exp(sign * (2 - angle) * ratio) for ratio in ratios)
    return 1 - b.iou + (cost + shape_cost(b, theta)) / 2


def shape_iou(b, scale=0, theta=4):
    ww, hh = (2 * s**scale / (b.wg**scale + b.hg**scale) for s in (b.wg, b.hg))
    distance = (hh * b.dx**2 + ww * b.dy**2) / (b.cw**2 + b.ch**2)
    return 1 - b.iou + distance + shape_cost(b, theta, hh, ww) / 2


def mpdiou(b, image_size=None):
    height, width = image_size or (b.ch, b.cw)
    return 1 - b.iou + sum((x - y) ** 2 for x, y in zip(b.p, b.t, strict=True)) / (width**2 + height**2)


def wiou(b, sg):
    return math.exp((b.dx**2 + b.dy**2) / sg(b.cw**2 + b.ch**2)) * (1 - b.iou)


def wiou_v3(b, sg, state, alpha=1.9, delta=3):
    beta = sg((1 - b.iou) / state)
    return beta / (delta * alpha ** (beta - delta)) * wiou(b, sg)


def focal_eiou(b, sg, gamma=0.5, weight="detached"):
    return (b.iou**gamma if weight == "attached" else sg(b.iou**gamma)) * eiou(b)


def piou_v2(b, sg, strength=1.3, weight="attached"):
    u = strength * math.exp(-b.P)
    attention = 3 * u * math.exp(-(u**2))
    return (attention if weight == "attached" else sg(attention)) * (2 - b.iou - math.exp(-(b.P**2)))


def remapped(b, sg, base, other):
    losses = {"giou": 1 - b.iou + b.empty, "diou": 1 - b.iou + b.rho, "ciou": 1 - b.iou + b.rho + aspect(b, sg)}
    losses |= {"iou": 1 - b.iou, "eiou": eiou(b), "siou": siou(b)}
    return losses[base] + b.iou - other


def inner_iou(b, sg, ratio=0.75, base="iou"):
    sides = [(ratio * pred, ratio * target, d) for pred, target, d in ((b.w, b.wg, b.dx), (b.h, b.hg, b.dy))]
    x, y = (max(0, min(d + p / 2, t / 2) - max(d - p / 2, -t / 2)) for p, t, d in sides)
    return remapped(b, sg, base, x * y / (ratio**2 * (b.w * b.h + b.wg * b.hg) - x * y))


def nwd(b, constant=12.8):
    return 1 - math.exp(-math.sqrt(b.dx**2 + b.dy**2 + ((b.w - b.wg) ** 2 + (b.h - b.hg) ** 2) / 4) / constant)


def kld(b, function="log", tau=1, direction="pred_to_target"):
    axes = [(b.w, b.wg, b.dx), (b.h, b.hg, b.dy)]
    if direction == "target_to_pred":
        axes = [(g, s, d) for s, g, d in axes]
    # Variances s^2 / 4: (tr + Mahalanobis - 2 + log of the determinants' ratio) / 2.
    divergence = sum(s**2 / g**2 + 4 * d**2 / g**2 - 1 + math.log(g**2 / s**2) for s, g, d in axes) / 2
    return 1 - 1 / (tau + (math.log(1 + divergence) if function == "log" else math.sqrt(divergence)))


FORMULAS = {
    "l1": lambda b, sg, form="xyxy": sum(differences(b, form)),
    "smooth_l1": lambda b, sg, form="xyxy", beta=1: sum(huber(z, beta) for z in differences(b, form)),
    "bounded_iou": lambda b, sg, beta=1: bounded(b, beta),
    "iou": lambda b, sg: 1 - b.iou,
    "iou_log": lambda b, sg: -math.log(max(b.iou, 1e-7)),
    "giou": lambda b, sg: 1 - b.iou + b.empty,
    "diou": lambda b, sg: 1 - b.iou + b.rho,
    "ciou": lambda b, sg, alpha="detached": 1 - b.iou + b.rho + aspect(b, sg, alpha),
    "eiou": lambda b, sg, **options: eiou(b, **options),
    "siou": lambda b, sg, **options: siou(b, **options),
    "shape_iou": lambda b, sg, **options: shape_iou(b, **options),
    "mpdiou": lambda b, sg, **options: mpdiou(b, **options),
    "piou": lambda b, sg: 2 - b.iou - math.exp(-(b.P**2)),
    "alpha_iou": lambda b, sg, power=3: 1 - b.iou**power,
    "alpha_giou": lambda b, sg, power=3: 1 - b.iou**power + b.empty**power,
    "alpha_diou": lambda b, sg, power=3: 1 - b.iou**power + b.rho**power,
    "alpha_ciou": lambda b, sg, power=3, alpha="detached": (
        1 - b.iou**power + b.rho**power + aspect(b, sg, alpha) ** power
    ),
    "focal_eiou": focal_eiou,
    "wiou_v1": wiou,
    "wiou_v2": lambda b, sg, state, gamma=0.5: sg((1 - b.iou) / state) ** gamma * wiou(b, sg),
    "wiou_v3": wiou_v3,
    "piou_v2": piou_v2,
    "inner_iou": inner_iou,
    "focaler_iou": lambda b, sg, lower=0, upper=0.95, base="iou": remapped(
        b, sg, base, min(1, max(0, (b.iou - lower) / (upper - lower)))
    ),
    "nwd": lambda b, sg, **options: nwd(b, **options),
    "kld": lambda b, sg, **options: kld(b, **options),
}


def boxes(n, seed):
    """Boxes of sides .2 to 2.2 with corners in a square of 3: about half of the pairs overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner = 3 * torch.rand(n, 2, dtype=torch.float64, generator=generator)
    return torch.cat([corner, corner + 0.2 + 2 * torch.rand(n, 2, dtype=torch.float64, generator=generator)], 1)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_values_are_the_scalar_formula(name, options):
    pred, target = boxes(500, 1), boxes(500, 2)
    expected = [scalar(name, p, t, **options) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    # Rounding of a dozen operations in another order, on values up to 10; a root of a difference has half its digits.
    tolerance = 1e-9 if options.get("function") == "sqrt" else 2e-14
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](pred, target, **options), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_gradients_are_central_differences_with_constants_frozen(name, options):
    step = 1e-6
    # Half of the pairs apart or a little overlapped, half close to their targets, where IoU is above .5.
    pred, target = boxes(60, 3), boxes(60, 4)
    pred[30:] = target[30:] + 0.05 * boxes(30, 5)
    pairs = torch.stack([pred, target]).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](*pairs, **options).sum(), pairs)
    for i, (p, t) in enumerate(pairs.detach().transpose(0, 1).tolist()):
        constants = []
        scalar(name, p, t, sg=lambda value, seen=constants: seen.append(value) or value, **options)
        for side, k in itertools.product((0, 1), range(4)):
            ends = []
            for sign in (1, -1):
                pair, frozen = [list(p), list(t)], iter(constants)
                pair[side][k] += sign * step
                ends.append(scalar(name, *pair, sg=lambda value, frozen=frozen: next(frozen), **options))
            # The step's own error is its square; rounding is 1e-16 over the step; slopes reach 1e2 (logarithms).
            assert gradient[side, i, k].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if v[1] not in ({}, WIOU)])
def test_an_option_changes_value_or_gradient(name, options):
    pred, target = boxes(50, 6).requires_grad_(), boxes(50, 7)
    seen = []
    for given in (options, WIOU if name in ("wiou_v2", "wiou_v3") else {}):
        value = LOSSES[name](pred, target, **given)
        seen.append((value.detach(), *torch.autograd.grad(value.sum(), pred)))
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(*seen, strict=True))


def test_published_penalties():
    target = torch.tensor([[-1.0, -1, 1, 1]], dtype=torch.float64)
    grown = torch.tensor([[[2.0, 3, 6, 5]], [[1, 2.5, 7, 5.5]]], dtype=torch.float64)  # 4 x 2 and 6 x 3 about (4, 4)

    def penalty(name, **options):
        return [(LOSSES[name](b, target, **options) - LOSSES["iou"](b, target)).item() for b in grown]

    assert penalty("giou") == pytest.approx([0.7143, 0.5769], abs=5e-5)  # these fall although the box only grows
    assert penalty("diou") == pytest.approx([0.3765, 0.3012], abs=5e-5)
    shape = shape_cost(SimpleNamespace(w=4, h=2, wg=2, hg=2), 4), shape_cost(SimpleNamespace(w=6, h=3, wg=2, hg=2), 4)
    for distance, known in (("squared", [0.6374, 0.5364]), ("unsquared", [0.9219, 0.8531])):
        cost = [2 * p - s for p, s in zip(penalty("siou", distance=distance), shape, strict=True)]
        assert cost == pytest.approx(known, abs=1e-4)  # published to the fourth digit, once cut and not rounded
    assert penalty("piou") == pytest.approx([0.9817, 0.9817], abs=5e-5)  # this one stays


@pytest.mark.parametrize(
    ("gradient", "known"), [("true", (-0.150, -0.058, 0.078, 0.052)), ("authors", (-0.566, -0.4235, 0.130, 0.130))]
)
def test_distance_penalty_has_its_true_gradient_and_the_authors(gradient, known):
    box = torch.tensor([11.5, 10.8, 1.2, 0.9], dtype=torch.float64, requires_grad=True)
    corners = torch.stack([*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)])[None]
    target = torch.tensor([[9.5, 9.5, 10.5, 10.5]], dtype=torch.float64)
    loss, overlap = (LOSSES[name](corners, target, reduction="sum", gradient=gradient) for name in ("diou", "iou"))
    (found,) = torch.autograd.grad(loss - overlap, box)
    assert (-found).tolist() == pytest.approx(known, abs=5e-4)  # three digits are known


@pytest.mark.parametrize("name", ["iou", "giou", "diou", "ciou"])
def test_the_authors_gradients_leave_the_value_alone(name):
    pred, target = boxes(200, 8), boxes(200, 9)
    slopes = {}
    for gradient in ("true", "authors", "authors_clamped"):
        each = pred.clone().requires_grad_()
        value = LOSSES[name](each, target, gradient=gradient)
        assert torch.equal(value, LOSSES[name](pred, target))
        (slopes[gradient],) = torch.autograd.grad(value.sum(), each)
    apart = LOSSES["iou"](pred, target) == 1
    assert (slopes["authors"] - slopes["true"]).abs().max() > 0.1
    different = (slopes["authors"] != slopes["authors_clamped"]).any(1)
    assert different.any() == (name == "giou")  # only GIoU differentiates the intersection of boxes that are apart
    assert not different[~apart].any()


def test_the_authors_iou_gradient_is_twice_the_true_one_along_the_sides():
    pred, target = boxes(50, 10), boxes(50, 11)
    corners = torch.tensor([[1, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]], dtype=torch.float64)
    slopes = []
    for gradient in ("authors", "true"):
        each = pred.clone().requires_grad_()
        (slope,) = torch.autograd.grad(LOSSES["iou"](each, target, gradient=gradient).sum(), each)
        slopes.append(slope @ corners)  # with respect to x, y, w, h
    twice = torch.tensor([1.0, 1, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(slopes[0], slopes[1] * twice, rtol=0, atol=1e-12)


def test_the_unscaled_aspect_gradient_lacks_its_factor():
    pred, target = boxes(50, 12).requires_grad_(), boxes(50, 13)
    with_factor, without, distance = (
        torch.autograd.grad(loss.sum(), pred)[0]
        for loss in (
            LOSSES["ciou"](pred, target),
            LOSSES["ciou"](pred, target, aspect="unscaled"),
            LOSSES["diou"](pred, target),
        )
    )
    square = (pred[:, 2:] - pred[:, :2]).square().sum(1, keepdim=True)
    torch.testing.assert_close(without - distance, square * (with_factor - distance), rtol=0, atol=1e-12)


def test_wiou_takes_the_mean_of_the_batch_of_training_or_a_number():
    pred, target = boxes(40, 14), boxes(40, 15)
    mean = LOSSES["iou"](pred, target).mean()
    for name in ("wiou_v2", "wiou_v3"):
        by_batch = LOSSES[name](pred, target)
        assert torch.equal(by_batch, LOSSES[name](pred, target, state=mean.item()))
        state = RunningMean(momentum=0.25)
        first, second = (LOSSES[name](pred, target, state=state) for _ in range(2))
        expected = [0.75 + 0.25 * mean, 0.75 * (0.75 + 0.25 * mean) + 0.25 * mean]  # moved before it is used
        for value, at in zip((first, second), expected, strict=True):
            torch.testing.assert_close(value, LOSSES[name](pred, target, state=at), rtol=1e-12, atol=0)
        assert float(state.value) == pytest.approx(float(expected[1]), rel=1e-12)
        LOSSES[name](pred * math.nan, target, state=state)
        assert float(state.value) == pytest.approx(float(expected[1]), rel=1e-12)
    assert (1 - RunningMean.over(batches=890, epochs=34.0).momentum) ** (890 * 34) == pytest.approx(0.05)

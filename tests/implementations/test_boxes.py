"""The contract of box losses: identities, and the boxes that break such losses; test_box_formulas has their values."""

import functools
import inspect
import math
import pickle
import pydoc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implementations.boxes import LOSSES, NMS
from implementations.boxes.geometry import pairwise_iou
from implementations.boxes.losses import pairwise

WIOU = ("wiou_v2", "wiou_v3")  # rows share the batch's mean unless they are given one
COORDINATES = ("l1", "smooth_l1")  # see coordinates, not boxes
NAMES = [name for name, entry in LOSSES.items() if entry.family != "peer"]
SCALED = [name for name in NAMES if name not in (*COORDINATES, "nwd")]  # the same at every scale
VARIANTS = [
    *((name, {}) for name in NAMES),
    *(("ciou", {"alpha": alpha}) for alpha in ("attached", "thresholded", "thresholded_attached")),
    ("ciou", {"aspect": "unscaled"}),
    *((name, {"gradient": "authors"}) for name in ("iou", "giou", "diou", "ciou")),
    ("giou", {"gradient": "authors_clamped"}),
    ("eiou", {"sides": "offset"}),
    ("siou", {"distance": "unsquared"}),
    ("siou", {"distance": "rewarded"}),
    ("shape_iou", {"scale": 5.0}),
    ("mpdiou", {"image_size": (480.0, 640.0)}),
    ("alpha_ciou", {"power": 0.5}),
    ("focal_eiou", {"weight": "attached"}),
    ("inner_iou", {"ratio": 1.3, "base": "ciou"}),
    ("l1", {"form": "cxcywh"}),
    ("smooth_l1", {"beta": 1e-3}),
    ("bounded_iou", {"beta": 0.2}),
    ("kld", {"function": "sqrt", "direction": "target_to_pred"}),
]
SIZES = [0.0, 1e-45, 1e-30, 1e-19, 1e-8, 0.5, 1.0, 1.0000001, 1e8, 1e30, 3e38]
BOUNDS = {
    "iou": 1,
    "giou": 2,
    "diou": 2,
    "ciou": 2.5,
    "eiou": 4,
    "siou": 3,
    "piou": 2,
    "nwd": 1,
    "kld": 1,
}  # v^2 / (1 + v) is at most 1/2
NASTY = sorted({sign * size for size in SIZES for sign in (-1, 1)})


def boxes(n, seed, dtype=torch.float64):
    """Boxes of sides .2 to 2.2 with corners in a square of 3: about half of the pairs overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner = 3 * torch.rand(n, 2, dtype=torch.float64, generator=generator)
    sides = 0.2 + 2 * torch.rand(n, 2, dtype=torch.float64, generator=generator)
    return torch.cat([corner, corner + sides], 1).to(dtype)


def centred(x, y, w, h):
    return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], dtype=torch.float64)


def value_and_gradient(name, pred, target, **options):
    pred = pred.detach().requires_grad_()
    value = LOSSES[name](pred, target, **options)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


def own(name):
    """Options with which no row depends on another."""
    return {"state": 0.4} if name in WIOU else {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [1e-8, 1.0, 1e8])
def test_zero_exactly_at_the_target_and_nowhere_else(name, side):
    target = boxes(200, 5) * side
    value, gradient = value_and_gradient(name, target, target)
    assert (value == 0).all()
    assert gradient.abs().max() * side < 1e-14  # a minimum; rounding alone
    other = boxes(200, 6) * side
    if name == "focal_eiou":  # weighs boxes that are apart with nothing
        other = other[LOSSES["iou"](other, target) < 1]
        target = target[: len(other)]
        other = target + 0.1 * other
    assert (LOSSES[name](other, target) > 0).all()
    if name != "focaler_iou":  # is content with an IoU of .95
        assert (LOSSES[name](target * (1 + 1e-6), target) > 0).all()


@pytest.mark.parametrize("name", SCALED)
def test_scale_and_place_do_not_matter(name):
    pred, target = boxes(200, 7), boxes(200, 8)
    value, gradient = value_and_gradient(name, pred, target)
    for factor in (2.0**-40, 2.0**40):  # a power of two: nothing rounds
        scaled, steeper = value_and_gradient(name, pred * factor, target * factor)
        assert torch.equal(scaled, value)
        assert torch.equal(steeper * factor, gradient)
    steep = 100 if name == "iou_log" else 1  # a logarithm divides the rounding of an IoU by it
    for factor in (1e-8, 3.0, 1e8):
        torch.testing.assert_close(LOSSES[name](pred * factor, target * factor), value, rtol=0, atol=1e-14 * steep)
    moved = LOSSES[name](pred + 100, target + 100)
    torch.testing.assert_close(moved, value, rtol=0, atol=1e-12 * steep)  # coordinates of 100 round to 1e-14


def test_three_losses_know_scale():
    """Each by its own law: a length, a length in units of beta, and a share in units of the constant."""
    pred, target = boxes(200, 7), boxes(200, 8)
    rounding = {"rtol": 1e-13, "atol": 0}
    of_four = {name: LOSSES[name](4 * pred, 4 * target) for name in ("l1", "smooth_l1", "nwd")}
    torch.testing.assert_close(of_four["l1"], 4 * LOSSES["l1"](pred, target), **rounding)
    torch.testing.assert_close(of_four["smooth_l1"], 4 * LOSSES["smooth_l1"](pred, target, beta=0.25), **rounding)
    torch.testing.assert_close(of_four["nwd"], 1 - (1 - LOSSES["nwd"](pred, target)) ** 4, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "iou_log"])  # eps is its largest value
def test_eps_moves_nothing_at_ordinary_sizes(name):
    pred, target = boxes(200, 9), boxes(200, 10)
    assert torch.equal(LOSSES[name](pred, target, eps=1e-7), LOSSES[name](pred, target, eps=1e-12))


def label(value):
    return value if isinstance(value, str) else "-".join(map(str, value.values()))


@functools.cache
def nasty_pairs(dtype):
    """Pairs of boxes whose coordinates are of all sizes: apart, identical, touching at a corner or along a side."""
    generator = torch.Generator().manual_seed(0)
    largest = torch.finfo(dtype).max
    values = torch.tensor(NASTY, dtype=torch.float64).clamp(-largest, largest).to(dtype)
    pred, target = (values[torch.randint(len(NASTY), (20_000, 4), generator=generator)] for _ in range(2))
    target[::5] = pred[::5]
    target[1::5, :2] = pred[1::5, 2:]
    target[2::5, 0] = pred[2::5, 2]
    return pred, target


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=label)
def test_finite_for_every_finite_box(name, options, dtype):
    pred, target = nasty_pairs(dtype)
    value, gradient = value_and_gradient(name, pred, target, **options)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    if "rewarded" not in options.values():
        assert value.min() >= -2e-6  # the rounding of float32
    if name in BOUNDS and not options:
        assert value.max() <= BOUNDS[name] + 2e-6


def within_the_unit_square(n, least, dtype, seed=0):
    """Boxes with sides from ``least`` to 1, some at an edge or across a corner of the square, and some equal."""
    generator = torch.Generator().manual_seed(seed)
    sides = least ** torch.rand(2, n, 2, dtype=torch.float64, generator=generator)
    place = torch.tensor([0.0, 1.0, 0.5, 0.3])[torch.randint(4, (2, n, 2), generator=generator)]
    low = (1 - sides) * place
    pred, target = torch.cat([low, low + sides], 2)
    overlap = least * torch.randint(3, (n, 1), generator=generator)  # slivers, and touching boxes
    target[::3] = torch.cat([pred[:, 2:] - overlap, pred[:, 2:] - overlap + sides[1]], 1)[::3]
    target[1::7] = pred[1::7]
    return pred.to(dtype), target.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=label)
def test_the_gradient_has_the_stated_bound(name, options, dtype):
    """On either side: of ordinary boxes against ordinary ones, lines and points."""
    steep = name == "iou_log" or options.get("power", 1) < 1 or options.get("weight") == "attached"
    for eps in (1e-7, 1e-3):
        pred, target = within_the_unit_square(3000, eps, dtype)
        pred[:1000, 2] = pred[:1000, 0]
        pred[500:1500, 3] = pred[500:1500, 1]
        for one, other in ((pred, target), (target, pred)):
            one, other = one.clone().requires_grad_(), other.clone().requires_grad_()
            value = LOSSES[name](one, other, eps=eps, **own(name), **options).sum()
            unit = (torch.maximum(one, other)[:, 2:] - torch.minimum(one, other)[:, :2]).amax(1)
            sized = torch.maximum(*((box[:, 2:] - box[:, :2]).amin(1) for box in (one, other))) >= eps * unit
            for slopes in torch.autograd.grad(value, (one, other), materialize_grads=True):
                slopes = slopes.double().abs().amax(1)
                bound = 8 / eps ** (2 if steep else 1) / unit.double()
                assert (slopes[sized] <= bound[sized]).all()
                assert slopes.max() <= torch.finfo(dtype).max


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=96, max_size=96))
def test_finite_for_any_finite_float(coordinates):
    pred, target = torch.tensor(coordinates, dtype=torch.float32).view(2, 12, 4)
    for name in NAMES:
        value, gradient = value_and_gradient(name, pred, target)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -5.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_row_leaves_its_neighbours_alone(name, bad):
    pred, target = boxes(9, 11), boxes(9, 12)
    value, gradient = value_and_gradient(name, pred, target, **own(name))
    for column in range(4):
        spoilt = pred.clone()
        spoilt[4, column] = bad
        other_value, other_gradient = value_and_gradient(name, spoilt, target, **own(name))
        others = torch.arange(9) != 4
        assert torch.equal(other_value[others], value[others])
        assert torch.equal(other_gradient[others], gradient[others])
        if math.isnan(bad):
            assert other_value[4].isnan()
            assert LOSSES[name](target, spoilt, **own(name))[4].isnan()
            assert LOSSES[name](spoilt, target)[others].isfinite().all()  # nor does it enter the mean of a batch


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COORDINATES])
def test_an_inverted_side_counts_as_none(name):
    pred, target = centred(1.0, 2.0, -3.0, 1.0), centred(0.5, 2.0, 2.0, 2.0)
    assert torch.equal(LOSSES[name](pred, target), LOSSES[name](centred(1.0, 2.0, 0.0, 1.0), target))


@pytest.mark.parametrize("name", COORDINATES)
def test_a_loss_of_coordinates_pulls_an_inverted_box_open(name):
    _, gradient = value_and_gradient(name, centred(1.0, 2.0, -3.0, 1.0), centred(0.5, 2.0, 2.0, 2.0))
    assert gradient[0, 2] < 0 < gradient[0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name, dtype):
    pred, target = boxes(50, 13, dtype), boxes(50, 14, dtype)
    value = LOSSES[name](pred, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](pred.float(), target.float()))
    assert value_and_gradient(name, pred, target)[1].dtype == dtype


# A power of IoU above 1 is flat at 0, where Focal-EIoU has no weight.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"alpha_iou", "alpha_giou", "alpha_diou", "focal_eiou"}))
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
        (torch.zeros(1, 4), torch.zeros(1, 4), {"alpha": "frozen"}, "alpha is 'frozen'; accepted are 'detached'"),
        (torch.zeros(1, 4), torch.zeros(1, 4), {"gradient": "mine"}, "gradient is 'mine'"),
        (torch.zeros(1, 4), torch.zeros(1, 4), {"aspect": 1}, "aspect is 1"),
    ],
)
@pytest.mark.parametrize("call", [LOSSES["ciou"], lambda *a, **o: pairwise(LOSSES["ciou"], *a, **o)])
def test_bad_input_is_named(call, pred, target, options, message):
    if call is LOSSES["ciou"] or not (options.keys() & {"reduction"} or len(pred) != len(target)):
        with pytest.raises(ValueError, match=message):
            call(pred, target, **options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smooth_l1", {"beta": 0.0}), ("bounded_iou", {"beta": -1.0}), ("l1", {"form": "xywh"}),
        ("eiou", {"sides": "both"}), ("siou", {"theta": 0.0}), ("siou", {"distance": "cubed"}),
        ("shape_iou", {"theta": 0.0}), ("mpdiou", {"image_size": (0.0, 5.0)}), ("alpha_iou", {"power": 0.0}),
        ("focal_eiou", {"gamma": 0.0}), ("focal_eiou", {"weight": "free"}), ("wiou_v2", {"gamma": 0.0}),
        ("wiou_v3", {"alpha": 0.0}), ("wiou_v3", {"delta": 0.0}), ("piou_v2", {"strength": 0.0}),
        ("piou_v2", {"weight": "free"}), ("inner_iou", {"ratio": 0.0}), ("inner_iou", {"base": "l1"}),
        ("focaler_iou", {"lower": 0.9, "upper": 0.5}), ("nwd", {"constant": 0.0}), ("kld", {"function": "exp"}),
        ("kld", {"tau": 0.5}), ("kld", {"direction": "both"}),
    ],
)  # fmt: skip
def test_a_bad_option_is_named_with_what_is_accepted(name, options):
    (option,) = options if len(options) == 1 else ("upper",)
    with pytest.raises(ValueError, match=rf"{option}.*accepted"):
        LOSSES[name](boxes(2, 19), boxes(2, 20), **options)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", list(LOSSES))
def test_arguments_in_torchvision_s_places(name):
    pred, target = boxes(6, 19), boxes(6, 20)
    for reduction in ("none", "mean", "sum"):
        by_name = LOSSES[name](pred, target, reduction=reduction, eps=1e-6)
        assert torch.equal(LOSSES[name](pred, target, reduction, 1e-6), by_name)
    for wrong in (0.4, None, "average", 1e-6):
        with pytest.raises(ValueError, match=r"^reduction is .*; accepted are 'none', 'mean', 'sum'"):
            LOSSES[name](pred, target, wrong)
    for wrong in ("mean", None, True, -1e-6, math.nan):
        with pytest.raises(ValueError, match=r"^eps is .*; accepted is a"):
            LOSSES[name](pred, target, "sum", wrong)
    for make in (np.asarray, torch.Tensor.tolist, iter, lambda column: None):
        with pytest.raises(ValueError, match=r"^pred is of type \S+; accepted is a torch.Tensor"):
            LOSSES[name](make(pred), target)
        with pytest.raises(ValueError, match=r"^target is of type \S+; accepted is a torch.Tensor"):
            LOSSES[name](pred, make(target))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} has no option 'epsilon'"):
        LOSSES[name](boxes(2, 19), boxes(2, 20), epsilon=1)
    assert list(inspect.signature(LOSSES[name].resolve()).parameters)[:5] == [
        "pred", "target", "reduction", "eps", "validate",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_is_the_row_by_row_one(name):
    a, b = boxes(5, 17), boxes(7, 18)
    table = pairwise(LOSSES[name], a, b, **own(name))
    assert table.shape == (5, 7)
    assert torch.equal(table.flatten(), LOSSES[name](a.repeat_interleave(7, 0), b.repeat(5, 1), **own(name)))


def test_the_readme_s_lines_run():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = readme[readme.index("## Boxes in Python") :].split("```python\n")[1].split("```")[0]
    given = {"pred": boxes(6, 21), "target": boxes(6, 22), "truths": boxes(4, 23), "boxes": boxes(6, 24)}
    given |= {"scores": torch.rand(6), "labels": torch.tensor([0, 0, 1, 1, 2, 2]), "image": torch.tensor([0] * 5 + [1])}
    exec(lines, given)
    assert given["cost"].shape == (6, 4)
    assert given["loss"].shape == ()
    assert given["mean"].value != 1
    assert given["kept"].boxes.shape == (len(given["kept"].indices), 4)


def test_a_loss_and_an_nms_go_by_their_function_s_name():
    """As a decorated function would: pickled by name, documented by help(), with the options in the signature."""
    for made, option in ((LOSSES["ciou"].resolve(), "alpha"), (NMS["soft_gaussian"].resolve(), "sigma")):
        assert pickle.loads(pickle.dumps(made)) is made
        assert made.__doc__.splitlines()[0] in pydoc.render_doc(made)
        assert option in inspect.signature(made).parameters


def test_pairwise_refuses_a_peer():
    with pytest.raises(TypeError, match="torchvision_giou"):
        pairwise(LOSSES["torchvision_giou"], boxes(2, 19), boxes(3, 20))


@pytest.mark.unchecked
def test_pairwise_iou_is_the_row_by_row_one():
    a, b = boxes(5, 17), boxes(7, 18)
    table = pairwise_iou(a, b)
    assert table.shape == (5, 7)
    rows = 1 - LOSSES["iou"](a.repeat_interleave(7, 0), b.repeat(5, 1))
    torch.testing.assert_close(table.flatten(), rows, rtol=0, atol=1e-15)  # 1 - (1 - IoU) rounds once
    with pytest.raises(ValueError, match="b has shape"):
        pairwise_iou(a, b[0])

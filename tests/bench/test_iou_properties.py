"""The search finds what is known of box losses by itself, finds planted defects, and shows true counter-examples."""

import math

import pytest
import torch

from bench.task import Context
from bench.tasks.box_claims import CLAIMS
from bench.tasks.box_pairs import FAMILIES, LossParameters, difference, gap, gradient, iou, pairs, xyxy
from bench.tasks.counterexample import TOLERANCE, search
from bench.tasks.iou_properties import Parameters, iou_properties
from implementations.boxes import LOSSES

CASES = 4000
VARIANTS = {
    "siou_rewarded": ("siou", {"distance": "rewarded"}),
    "eiou_offset": ("eiou", {"sides": "offset"}),
    "ciou_thresholded": ("ciou", {"alpha": "thresholded"}),
    "mpdiou_image": ("mpdiou", {"image_size": [480.0, 640.0]}),
}


def bound(name):
    loss, options = VARIANTS.get(name, (name, {}))
    return LossParameters(loss=loss, options=options).bound(rowwise=True)


def decide(claim, loss, seed=0):
    return search(CLAIMS[claim], loss, CASES, torch.Generator().manual_seed(seed))


def holds(claim, *names):
    return [name for name in names if decide(claim, bound(name)).holds]


def box(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# What is known of the losses, property by property: those that have it, those that do not.
KNOWN = {
    "non_negative": ("iou giou diou ciou eiou siou piou wiou_v3 nwd kld l1", "siou_rewarded"),
    "zero_iff_equal": ("iou giou ciou eiou siou nwd kld", "focal_eiou focaler_iou siou_rewarded torchvision_giou"),
    "minimum_unique": ("iou giou diou ciou eiou siou piou nwd", "focal_eiou focaler_iou siou_rewarded"),
    "symmetric": ("l1 iou giou diou ciou eiou siou mpdiou nwd", "piou kld bounded_iou"),  # a side of the target divides
    "triangle": ("l1 iou nwd", "iou_log smooth_l1 kld eiou_offset"),  # metrics, and convex functions of them
    "scale_invariant": ("iou giou diou ciou eiou siou mpdiou piou kld", "l1 smooth_l1 nwd mpdiou_image"),
    "bounded": ("iou giou diou eiou siou siou_rewarded nwd kld bounded_iou", "l1 smooth_l1 mpdiou_image"),
    "gradient_apart": ("l1 giou diou ciou eiou siou wiou_v1 nwd kld", "iou iou_log alpha_iou focal_eiou focaler_iou"),
    "falls_on_path": ("l1 iou giou diou", "focal_eiou siou_rewarded"),
    "falls_to_centre": ("l1 iou giou diou ciou siou", "siou_rewarded focal_eiou eiou"),
    "finite": ("ciou siou kld nwd wiou_v3 torchvision_giou torchvision_diou", "torchvision_ciou"),
    "sees_size": ("eiou siou shape_iou piou", "iou giou diou ciou eiou_offset torchvision_ciou"),
    "sees_ratio": ("giou ciou eiou siou torchvision_ciou", "iou diou eiou_offset ciou_thresholded"),
    "enlarging_costs": ("l1 iou piou", "giou diou ciou eiou siou wiou_v1"),
    "no_growth_apart": ("l1 iou piou wiou_v1", "giou diou ciou siou"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_search_finds_what_is_known(claim):
    having, lacking = (names.split() for names in KNOWN[claim])
    assert holds(claim, *having, *lacking) == having


@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_do_not_hang_on_the_seed(seed):
    for claim, (having, lacking) in KNOWN.items():
        for name, expected in ((having.split()[-1], True), (lacking.split()[0], False)):
            assert decide(claim, bound(name), seed).holds == expected, (claim, name)


def _away(boxes, targets):
    return (boxes - targets).abs().sum(1)


# Toy losses with one defect each, which the claim beside them must find.
PLANTED = {
    "non_negative": lambda b, t: _away(b, t) * (iou(b, t) - 1e-3).sign(),
    "zero_iff_equal": lambda b, t: (
        _away(b, t) * ((b[:, 2] / b[:, 3] - t[:, 2] / t[:, 3]).abs() > 1e-9)
    ),  # blind to equal ratios
    "minimum_unique": lambda b, t: (_away(b, t) - 0.2 * t[:, 2]).abs(),
    "symmetric": lambda b, t: _away(b, t) / t[:, 2],
    "triangle": lambda b, t: _away(b, t).square(),
    "scale_invariant": lambda b, t: _away(b, t).log1p(),
    "bounded": lambda b, t: _away(b, t) / t[:, 2:].sum(1),
    "gradient_apart": lambda b, t: _away(b, t).clamp(max=t[:, 2]),
    "falls_on_path": lambda b, t: _away(b, t) * (1 + (5 * _away(b, t) / t[:, 2]).sin() / 2),
    "falls_to_centre": lambda b, t: _away(b, t) * (1 + (5 * _away(b, t) / t[:, 2]).sin() / 2),
    "finite": lambda b, t: (xyxy(b) - xyxy(t)).square().sum(1).sqrt(),  # no gradient at the target
    "sees_size": lambda b, t: 1 - iou(b, t) + (b[:, 2] / b[:, 3] - t[:, 2] / t[:, 3]) ** 2,
    "sees_ratio": lambda b, t: 1 - iou(b, t) + (b[:, 2:].prod(1) / t[:, 2:].prod(1)).log() ** 2,
    "enlarging_costs": lambda b, t: _away(b, t) / b[:, 2],
    "no_growth_apart": lambda b, t: _away(b, t) / b[:, 2],
}
SOUND = {"bounded": lambda b, t: _away(b, t) / (1 + _away(b, t)), "scale_invariant": lambda b, t: 1 - iou(b, t)}


@pytest.mark.parametrize("claim", CLAIMS)
def test_planted_defects_are_found_and_sound_losses_pass(claim):
    assert not decide(claim, PLANTED[claim]).holds
    assert decide(claim, SOUND.get(claim, _away)).holds


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_counter_example_is_one(claim):
    """The boxes that are kept break the claim when they are looked at afresh."""
    name = KNOWN[claim][1].split()[0]
    loss, verdict = bound(name), decide(claim, bound(name))
    low, high = verdict.boxes[:, :2], verdict.boxes[:, 2:]
    a, b, *rest = torch.cat([(low + high) / 2, high - low], 1)[:, None]
    left, right = verdict.sides.tolist()
    assert verdict.violation == left - right > TOLERANCE
    scale = 1 + abs(left) + abs(right)
    near = {"rel": 1e-6, "abs": 1e-9 * scale}  # the corners round
    if claim == "non_negative":
        assert float(loss(a, b)) == pytest.approx(right, **near)
        assert right < 0
    elif claim in ("zero_iff_equal", "minimum_unique"):
        assert float(loss(a, b)) <= 1e-9 < left
        assert float(difference(a, b)) == pytest.approx(left, **near)
    elif claim == "symmetric":
        assert sorted([float(loss(a, b)), float(loss(b, a))]) == pytest.approx([right, left], **near)
    elif claim == "triangle":
        (c,) = rest
        assert float(loss(a, b)) == pytest.approx(left, **near)
        assert float(loss(a, c) + loss(c, b)) == pytest.approx(right, **near)
    elif claim == "scale_invariant":
        assert sorted([float(loss(a, b)), float(loss(*rest))]) == pytest.approx([right, left], **near)
    elif claim == "bounded":
        assert float(loss(a, b)) == pytest.approx(left, **near)
    elif claim == "gradient_apart":
        assert gap(a, b) > 0
        assert gradient(loss, a, b)[1].abs().max() < 1e-12
    elif claim in ("falls_on_path", "falls_to_centre", "enlarging_costs"):
        (target,) = rest
        worse, better = (a, b) if claim == "enlarging_costs" else (b, a)
        assert float(loss(worse, target)) == pytest.approx(left, **near)
        assert float(loss(better, target)) == pytest.approx(right, **near)
    elif claim == "finite":
        value, slopes = gradient(loss, a, b)
        assert not (value.isfinite() & slopes.isfinite().all()).item()
    elif claim in ("sees_size", "sees_ratio"):
        torch.testing.assert_close(a[:, :2], b[:, :2], rtol=1e-9, atol=1e-9)
        assert float(loss(a, b)) == pytest.approx(float(1 - iou(a, b)), abs=1e-6)
        assert difference(a, b) > 0.1
    else:
        assert claim == "no_growth_apart"
        _, slopes = gradient(loss, a, b)
        stepped = a - 1e-6 * slopes
        assert stepped[0, 2:].prod() > a[0, 2:].prod()
        assert gap(a, b) > 0


def test_ciou_is_blind_to_size_at_equal_ratios_alone():
    verdict = decide("sees_size", bound("ciou"))
    sides = verdict.boxes[:, 2:] - verdict.boxes[:, :2]
    torch.testing.assert_close(sides[0, 0] / sides[0, 1], sides[1, 0] / sides[1, 1])
    assert (sides[0] / sides[1]).log().abs().min() > math.log(1.25)
    pred, target = pairs(500, torch.Generator().manual_seed(0), "equal_ratio")
    # Its whole penalty beyond distance is the aspect term: off the centre too, CIoU is DIoU there.
    torch.testing.assert_close(bound("ciou")(pred, target), bound("diou")(pred, target), rtol=0, atol=1e-15)


def test_the_facts_penalties_under_concentric_enlargement():
    """A box of 4x2 at (4, 4) grows to 6x3 beside a target of 2x2 at (0, 0): figures as published, to their digits."""
    case = box(4, 4, 4, 2, 0, 0, 2, 2, 1.5, 1.5)
    claim = CLAIMS["enlarging_costs"]
    assert claim.about(case).all()
    shape = [(1 - math.exp(-change)) ** 4 for change in (1 / 2, 0, 2 / 3, 1 / 3)]  # |dt| / max t, before and after
    known = {"giou": (0.7143, 0.5769), "diou": (0.3765, 0.3012), "piou": (0.9817, 0.9817), "siou": (0.6374, 0.5364)}
    for name, figures in known.items():
        look = claim.look(bound(name), case)
        penalties = [float(look.left) - 1, float(look.right) - 1]  # the boxes do not overlap
        if name == "siou":  # (D + O) / 2
            penalties = [2 * penalties[0] - sum(shape[:2]), 2 * penalties[1] - sum(shape[2:])]
        assert penalties == pytest.approx(figures, abs=5.1e-5)
        assert (look.left > look.right + TOLERANCE).item() == (name != "piou")


def test_the_families_are_what_they_are_called():
    drawn = {name: pairs(300, torch.Generator().manual_seed(0), name) for name in FAMILIES}
    ratios = {name: pred[:, 2:] / target[:, 2:] for name, (pred, target) in drawn.items()}
    assert (gap(*drawn["apart"]) > 0).all()
    assert gap(*drawn["touching"]).abs().max() < 1e-12 * 100  # coordinates of 100
    within = (drawn["nested"][0] - drawn["nested"][1]).abs()
    assert (within[:, :2] <= within[:, 2:] / 2 + 1e-12).all()
    assert (drawn["concentric"][0][:, :2] == drawn["concentric"][1][:, :2]).all()
    torch.testing.assert_close(ratios["equal_ratio"][:, 0], ratios["equal_ratio"][:, 1])
    assert (ratios["equal_size"] == 1).all()
    assert difference(*drawn["near_equal"]).max() < 0.1
    assert ratios["unlike"].log10().abs().max() > 2
    assert 0.2 < (gap(*drawn["random"]) > 0).double().mean() < 0.8
    pred, target = pairs(100, torch.Generator().manual_seed(0))
    assert pred.shape == target.shape == (100, 4)  # 9 families do not divide it


def test_the_record_holds_every_property_and_its_counter_examples():
    context = Context(seed=3)
    measured = iou_properties.run(Parameters(loss="giou", cases=500), context)
    assert measured.keys() == iou_properties.measures.keys()
    for claim in CLAIMS:
        found = measured[claim].value == 0
        assert measured[claim].n >= 100
        assert (measured[f"{claim}_violation"].value > 0) == found
        assert (f"{claim}_boxes" in context.arrays) == (f"{claim}_sides" in context.arrays) == found
    again = Context(seed=3)
    assert iou_properties.run(Parameters(loss="giou", cases=500), again) == measured
    assert all(torch.equal(again.arrays[name], kept) for name, kept in context.arrays.items())


def test_rows_of_wiou_are_independent_in_the_search_alone():
    pred, target = pairs(50, torch.Generator().manual_seed(0), "random")
    for name in ("wiou_v2", "wiou_v3"):
        rowwise, batched = (LossParameters(loss=name).bound(rowwise=flag) for flag in (True, False))
        torch.testing.assert_close(rowwise(pred, target)[:5], rowwise(pred[:5], target[:5]))
        assert not torch.equal(batched(pred, target)[:5], batched(pred[:5], target[:5]))
        own = LossParameters(loss=name, options={"state": 0.25}).bound(rowwise=True)
        assert torch.equal(own(pred, target), LOSSES[name](xyxy(pred), xyxy(target), state=0.25))


def test_a_loss_that_is_not_a_number_has_no_properties():
    with pytest.raises(FloatingPointError, match="not finite"):
        decide("symmetric", lambda b, t: _away(b, t) * math.nan)

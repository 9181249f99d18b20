"""The search finds what is known of box losses by itself, finds planted defects, and shows true counter-examples."""

import math

import pytest
import torch

from bench.task import Context
from bench.tasks.boxes.arrangements import RELATIONS, arrange, configuration, orders, relation
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.claims import CLAIMS, LARGE
from bench.tasks.boxes.counterexample import TOLERANCE, search
from bench.tasks.boxes.declarations import PROPERTIES, iou_properties
from bench.tasks.boxes.declarations import PropertiesParameters as Parameters
from bench.tasks.boxes.pairs import FAMILIES, difference, gap, gradient, iou, pairs, xyxy
from implementations.boxes import LOSSES

CASES, STARTS, ROUNDS = 3000, 24, 25
pytestmark = pytest.mark.unchecked  # shape checks would take longer than the searches
VARIANTS = {
    "siou_rewarded": ("siou", {"distance": "rewarded"}),
    "eiou_offset": ("eiou", {"sides": "offset"}),
    "ciou_thresholded": ("ciou", {"alpha": "thresholded"}),
    "focaler_ciou": ("focaler_iou", {"base": "ciou"}),
    "ciou_attached": ("ciou", {"alpha": "attached"}),
    "shape_iou_1": ("shape_iou", {"scale": 1.0}),
    "mpdiou_image": ("mpdiou", {"image_size": [480.0, 640.0]}),
}


def loss_of(name):
    loss, options = VARIANTS.get(name, (name, {}))
    return bind(loss, options, rowwise=True)


def decide(claim, loss, seed=0):
    return search(CLAIMS[claim], loss, CASES, torch.Generator().manual_seed(seed), starts=STARTS, rounds=ROUNDS)


def holds(claim, *names):
    return [name for name in names if decide(claim, loss_of(name)).holds]


def box(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# What is known of the losses, property by property: those that have it, those that do not.
KNOWN = {
    "non_negative": ("iou giou diou ciou eiou siou piou wiou_v3 nwd kld l1", "siou_rewarded"),
    "zero_iff_equal": (
        "iou giou ciou eiou siou nwd kld",
        "focal_eiou focaler_iou focaler_ciou siou_rewarded torchvision_giou",
    ),
    "minimum_unique": ("iou giou diou ciou eiou siou piou nwd", "focal_eiou focaler_iou siou_rewarded"),
    "symmetric": ("l1 iou giou diou ciou eiou siou mpdiou nwd", "piou kld bounded_iou"),  # a side of the target divides
    "triangle": (  # metrics and increasing concave functions of them; those that a box around both cuts short
        "l1 iou nwd alpha_iou inner_iou",
        "iou_log diou ciou siou shape_iou mpdiou torchvision_diou torchvision_ciou ciou_attached ciou_thresholded "
        "shape_iou_1 smooth_l1 kld eiou_offset",
    ),
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


def test_every_claim_is_said_in_words():
    assert list(PROPERTIES) == list(CLAIMS)
    assert f"at most {LARGE:g} " in PROPERTIES["bounded"]


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_search_finds_what_is_known(claim):
    having, lacking = (names.split() for names in KNOWN[claim])
    assert holds(claim, *having, *lacking) == having


@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_do_not_hang_on_the_seed(seed):
    for claim, (having, lacking) in KNOWN.items():
        for name, expected in ((having.split()[-1], True), (lacking.split()[0], False)):
            assert decide(claim, loss_of(name), seed).holds == expected, (claim, name)


def xywh(corners):
    low, high = corners[:, :2], corners[:, 2:]
    return torch.cat([(low + high) / 2, high - low], 1)


def covers(a, b):
    """Whether each box a is at least as far out as b on all four sides."""
    return ((a - b)[:, :2].abs() <= (a - b)[:, 2:] / 2).all(1)


def between(value, low, high):
    return (value > low) & (value < high)


def gaps(b, t):
    """Along x and along y, in the longest side: negative where they overlap."""
    return ((b - t)[:, :2].abs() - (b + t)[:, 2:] / 2) / torch.cat([b, t], 1)[:, [2, 3, 6, 7]].amax(1, keepdim=True)


def away(b, t):
    """The L1 distance of x, y, w, h: a norm's, so it has every property that does not speak of scale or overlap."""
    return (b - t).abs().sum(1)


def unlike(b, t):
    return (b[:, 2:] / t[:, 2:]).log().abs().amax(1)


def left(b, t):
    """How far the boxes are apart, in sides of the target."""
    return away(b, t) / t[:, 2:].sum(1)


def flat(b):
    return (b[:, 2:] <= 0).any(1)


# For each property a loss that has it but for one corner of all cases, and one that has it by the proof beside it.
PLANTED = {
    "non_negative": lambda b, t: away(b, t) - 1e4 * (covers(b, t) & (unlike(b, t) > 6)),
    "zero_iff_equal": lambda b, t: away(b, t) * ~(covers(t, b) & (b[:, 0] + b[:, 2] / 2 == t[:, 0] + t[:, 2] / 2)),
    "minimum_unique": lambda b, t: 1 - iou(b, t) + away(b, t) - 1e4 * (covers(t, b) & (unlike(b, t) > 6)),
    "symmetric": lambda b, t: away(b, t) * (1 + 0.01 * (covers(b, t) & (unlike(b, t) > 4))),
    "triangle": lambda b, t: away(b, t) * (1 - 0.6 * covers(t, b)),  # a short cut by a box around the first
    "scale_invariant": lambda b, t: 1 - iou(b, t) + 1e-3 * (t[:, 2:].amax(1) > 3e4),
    "bounded": lambda b, t: 1 - iou(b, t) + 100 * (covers(b, t) & (unlike(b, t) > 12)),
    "gradient_apart": lambda b, t: away(b, t) * ~((gaps(b, t).amax(1) > 2.5) & (gaps(b, t) > 0).all(1)),
    "falls_on_path": lambda b, t: left(b, t) + 0.02 * (between(left(b, t), 0.005, 0.01) & covers(b, t)),
    "falls_to_centre": lambda b, t: left(b, t) + 0.02 * between(left(b, t) - unlike(b, t) / 9, 0.005, 0.01),
    "finite": lambda b, t: away(b, t) + (0 * b[:, 2] / (1 - 1.0 * (flat(t) & ~flat(b) & covers(b, t)))),
    "sees_size": lambda b, t: 1 - iou(b, t) + away(b, t) * ~((b[:, 2] > 3.5 * t[:, 2]) & (t[:, 2] > 3 * t[:, 3])),
    "sees_ratio": lambda b, t: 1 - iou(b, t) + away(b, t) * ~((b[:, 2] > 3.5 * t[:, 2]) & (t[:, 2] > 3 * t[:, 3])),
    "enlarging_costs": lambda b, t: away(b, t) - 2 * b[:, 3] * ((gaps(b, t)[:, 1] < 0) & (b[:, 2] > 5 * b[:, 3])),
    "no_growth_apart": lambda b, t: away(b, t) - 2 * b[:, 3] * ((gaps(b, t)[:, 1] < 0) & (b[:, 2] > 5 * b[:, 3])),
}
SOUND = {
    "scale_invariant": lambda b, t: 1 - iou(b, t),  # a quotient of areas
    "bounded": lambda b, t: away(b, t) / (1 + away(b, t)),  # below 1
    "sees_size": lambda b, t: 1 - iou(b, t) + away(b, t),  # the penalty is 0 for equal boxes alone
    "sees_ratio": lambda b, t: 1 - iou(b, t) + away(b, t),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_defect_in_one_corner_is_found_and_sound_losses_pass(claim):
    for seed in (0, 1):
        assert not decide(claim, PLANTED[claim], seed).holds
    assert decide(claim, SOUND.get(claim, away)).holds


@pytest.mark.parametrize("share", [0.15, 0.45, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["apart", "touching", "overlapping", "inside", "covering"])
def test_a_short_cut_is_found_through_a_third_box_of_any_relation(kind, share):
    """A norm that is cheaper between boxes of one relation breaks the triangle inequality by way of such a box."""

    def loss(a, b):
        return away(a, b) * torch.where(relation(a, b) == RELATIONS.index(kind), share, 1.0)

    verdict = decide("triangle", loss)
    assert not verdict.holds
    a, b, c = xywh(verdict.boxes)[:, None]
    assert RELATIONS.index(kind) in (relation(a, c).item(), relation(c, b).item())


def test_three_boxes_in_a_row_break_the_triangle_inequality():
    """Of the second, which covers the others; figures derived by hand, in closed form where the loss has one."""
    case = torch.cat([box(5, 0.5, 10, 1), box(15, 0.5, 10, 1), box(10, 0.5, 20, 1)], 1)  # from a to b by way of c
    claim = CLAIMS["triangle"]
    assert claim.applies(case).all()
    direct = 1 + 100 / 401  # centres 10 apart, no overlap, diagonal^2 = 20^2 + 1
    known = {
        "diou": (direct, 2 * (0.5 + 25 / 401)), "torchvision_diou": (direct, 2 * (0.5 + 25 / 401)),
        "siou": (1.1967, 1.1415), "shape_iou": (direct, 1.1487),
    }  # fmt: skip
    for name, sides in known.items():
        inequality = claim.compare(loss_of(name), case)
        assert [inequality.left.item(), inequality.right.item()] == pytest.approx(sides, abs=5.1e-5)
    false = [*known, "ciou", "torchvision_ciou", "ciou_attached", "ciou_thresholded", "shape_iou_1"]
    for name in false:
        inequality = claim.compare(loss_of(name), case)
        assert inequality.left > inequality.right + TOLERANCE, name


def test_every_order_of_edges_is_drawn():
    """1, 13 and 409 weak orders of the edges of one, two and three intervals (Allen; OEIS A055203)."""
    assert [len(orders(k)) for k in (1, 2, 3)] == [1, 13, 409]
    case = arrange(4000, 2, torch.Generator().manual_seed(0))
    edges = xyxy(case.view(-1, 2, 4)).view(-1, 2, 2, 2).movedim(3, 1)  # case, axis, box, edge
    order = torch.sign(
        (edges[:, :, 0, :, None] - edges[:, :, 1, None])
        * (edges[:, :, 0, :, None] - edges[:, :, 1, None]).abs().gt(1e-9)
    )
    assert len(order.flatten(1).unique(dim=0)) == 13 * 13
    sides = case[:, [2, 3, 6, 7]]
    assert sides.min() > 1e-3
    assert sides.log10().max() - sides.log10().min() > 4


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("apart", (5, 0, 1, 1)), ("apart", (0, 3, 8, 1)), ("touching", (3, 0, 2, 2)), ("touching", (3, 3, 2, 2)),
        ("touching", (3, 0, 2, 9)), ("overlapping", (1, 1, 4, 4)), ("overlapping", (0, 0, 9, 1)),
        ("covering", (0, 0, 2, 2)), ("covering", (1, 1, 2, 2)), ("covering", (0, 1, 4, 2)), ("inside", (0, 0, 5, 5)),
        ("inside", (1, 0, 6, 4)), ("equal", (0, 0, 4, 4)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 1e-3, 3e4])
def test_relations_are_what_they_are_called(kind, other, scale):
    found = relation(scale * box(0, 0, 4, 4), scale * box(*other))
    assert RELATIONS[int(found)] == kind


PAIRWISE = [name for name, claim in CLAIMS.items() if claim.boxes == 2]


@pytest.mark.parametrize("claim", PAIRWISE)
def test_pairs_are_drawn_in_every_relation(claim):
    """Fifty at least of each relation that the claim is about, as the note under the table says."""
    case = CLAIMS[claim].draw(20_000, torch.Generator().manual_seed(0))
    counts = configuration(case[CLAIMS[claim].applies(case)], 2).bincount(minlength=len(RELATIONS))
    about_apart = claim in ("gradient_apart", "enlarging_costs", "no_growth_apart")
    assert (counts[: 1 if about_apart else len(RELATIONS)] >= 50).all(), counts


def test_triples_are_drawn_in_every_configuration_that_exists():
    """Those that exist are found by going through all orders of three intervals' edges, along both axes."""
    x, y = (each.flatten() for each in torch.meshgrid(torch.arange(409), torch.arange(409), indexing="ij"))
    edges = torch.stack([orders(3)[x], orders(3)[y]], 3).double()  # case, box, edge, axis
    every = torch.cat([edges.mean(2), edges[:, :, 1] - edges[:, :, 0]], 2).flatten(1)
    exist = set(configuration(every, 3).tolist())
    case = CLAIMS["triangle"].draw(20_000, torch.Generator().manual_seed(0))
    drawn = set(configuration(case[CLAIMS["triangle"].applies(case)], 3).tolist())
    all_equal = len(RELATIONS) ** 3 - 1
    assert len(exist) == 97
    assert drawn | {all_equal} == exist  # three equal boxes break no inequality


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_counter_example_is_one(claim):
    """The boxes that are kept break the claim when they are looked at afresh."""
    name = KNOWN[claim][1].split()[0]
    loss, verdict = loss_of(name), decide(claim, loss_of(name))
    a, b, *rest = xywh(verdict.boxes)[:, None]
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
    verdict = decide("sees_size", loss_of("ciou"))
    sides = verdict.boxes[:, 2:] - verdict.boxes[:, :2]
    torch.testing.assert_close(sides[0, 0] / sides[0, 1], sides[1, 0] / sides[1, 1])
    assert (sides[0] / sides[1]).log().abs().min() > math.log(1.25)
    pred, target = pairs(500, torch.Generator().manual_seed(0), "equal_ratio")
    # Its whole penalty beyond distance is the aspect term: off the centre too, CIoU is DIoU there.
    torch.testing.assert_close(loss_of("ciou")(pred, target), loss_of("diou")(pred, target), rtol=0, atol=1e-15)


def test_the_facts_penalties_under_concentric_enlargement():
    """A box of 4x2 at (4, 4) grows to 6x3 beside a target of 2x2 at (0, 0): figures as published, to their digits."""
    case = box(4, 4, 4, 2, 0, 0, 2, 2, 1.5, 1.5)
    claim = CLAIMS["enlarging_costs"]
    assert claim.applies(case).all()
    shape = [(1 - math.exp(-change)) ** 4 for change in (1 / 2, 0, 2 / 3, 1 / 3)]  # |dt| / max t, before and after
    known = {"giou": (0.7143, 0.5769), "diou": (0.3765, 0.3012), "piou": (0.9817, 0.9817), "siou": (0.6374, 0.5364)}
    for name, figures in known.items():
        inequality = claim.compare(loss_of(name), case)
        penalties = [float(inequality.left) - 1, float(inequality.right) - 1]  # the boxes do not overlap
        if name == "siou":  # (D + O) / 2
            penalties = [2 * penalties[0] - sum(shape[:2]), 2 * penalties[1] - sum(shape[2:])]
        assert penalties == pytest.approx(figures, abs=5.1e-5)
        assert (inequality.left > inequality.right + TOLERANCE).item() == (name != "piou")


def test_the_families_are_what_they_are_called():
    drawn = {name: pairs(300, torch.Generator().manual_seed(0), name) for name in FAMILIES}
    ratios = {name: pred[:, 2:] / target[:, 2:] for name, (pred, target) in drawn.items()}
    assert (gap(*drawn["apart"]) > 0).all()
    assert gap(*drawn["touching"]).abs().max() < 1e-12 * 100  # coordinates of 100
    within = (drawn["nested"][0] - drawn["nested"][1]).abs()
    assert (within[:, :2] <= within[:, 2:] / 2 + 1e-12).all()
    assert (drawn["concentric"][0][:, :2] == drawn["concentric"][1][:, :2]).all()
    assert (drawn["scaled"][0][:, :2] == drawn["scaled"][1][:, :2]).all()
    torch.testing.assert_close(ratios["scaled"][:, 0], ratios["scaled"][:, 1])
    assert ratios["scaled"].log().abs().log10().frac().unique().numel() > 100  # at every distance from 1
    torch.testing.assert_close(ratios["equal_ratio"][:, 0], ratios["equal_ratio"][:, 1])
    assert (ratios["equal_size"] == 1).all()
    assert difference(*drawn["near_equal"]).max() < 0.1
    assert ratios["unlike"].log10().abs().max() > 2
    assert 0.2 < (gap(*drawn["random"]) > 0).double().mean() < 0.8
    pred, target = pairs(101, torch.Generator().manual_seed(0))
    assert pred.shape == target.shape == (101, 4)  # 10 families do not divide it


def test_the_record_holds_every_property_and_its_counter_examples():
    context = Context(seed=3)
    measured = iou_properties.run(Parameters(loss="giou", cases=500, starts=4), context)
    assert measured.keys() == iou_properties.measures.keys()
    for claim in CLAIMS:
        found = measured[claim].value == 0
        assert measured[claim].n >= 100
        assert (measured[f"{claim}_violation"].value > 0) == found
        assert context.arrays[f"{claim}_drawn"].shape[1] == 2
        assert (f"{claim}_boxes" in context.arrays) == (f"{claim}_sides" in context.arrays) == found
    again = Context(seed=3)
    assert iou_properties.run(Parameters(loss="giou", cases=500, starts=4), again) == measured
    assert all(torch.equal(again.arrays[name], kept) for name, kept in context.arrays.items())


def test_rows_of_wiou_are_independent_in_the_search_alone():
    pred, target = pairs(50, torch.Generator().manual_seed(0), "random")
    for name in ("wiou_v2", "wiou_v3"):
        rowwise, batched = (bind(name, rowwise=flag) for flag in (True, False))
        torch.testing.assert_close(rowwise(pred, target)[:5], rowwise(pred[:5], target[:5]))
        assert not torch.equal(batched(pred, target)[:5], batched(pred[:5], target[:5]))
        own = bind(name, {"state": 0.25}, rowwise=True)
        assert torch.equal(own(pred, target), LOSSES[name](xyxy(pred), xyxy(target), state=0.25))


def test_a_loss_that_is_not_a_number_has_no_properties():
    with pytest.raises(FloatingPointError, match="not finite"):
        decide("symmetric", lambda b, t: away(b, t) * math.nan)

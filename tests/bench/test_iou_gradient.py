"""Gradient fields: their grids, their numbers against hand-made losses, and what is known of the losses."""

import math

import pytest
import torch

from bench.plan.suite import find, read
from bench.task import Context
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.declarations import SHARES, iou_gradient
from bench.tasks.boxes.declarations import GradientParameters as Parameters
from bench.tasks.boxes.gradient import SETS, assess, field_boxes
from bench.tasks.boxes.pairs import gap, iou


def run(loss, seed=0, **changes):
    context = Context(seed)
    measured = iou_gradient.run(Parameters(loss=loss, **changes), context)
    return {name: value.value for name, value in measured.items()}, context.arrays


def target(boxes):
    return boxes.new_tensor([[0, 0, 1, 1]]).expand(len(boxes), 4)


def error(boxes, targets):
    return (boxes - targets).abs().sum(1)


class _Backwards(torch.autograd.Function):
    """A loss with the gradient of its negative, as a sign flipped in a hand-written one."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return -slope


def test_a_sound_loss_has_no_defect():
    for field in SETS[:2]:
        _, boxes = field_boxes(field, Parameters(loss="l1"))
        figures = assess(error, boxes, target(boxes))
        assert [figures[name] for name in ("zero", "uphill", "away")] == [0, 0, 0]
        assert figures["spike"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "loss"),
    [
        ("zero", lambda b, t: error(b, t).detach() + 0 * b.sum(1)),
        ("uphill", lambda b, t: _Backwards.apply(error(b, t))),
        ("away", lambda b, t: -error(b, t)),  # downhill, and away
        ("worse", iou),
    ],
)
def test_defects_are_counted(share, loss):
    """Each over points of which it is true of all: overlapping, sides half to twice the target's."""
    boxes = torch.cat([torch.rand(200, 2) - 0.5, 0.5 + 1.5 * torch.rand(200, 2)], 1).double()
    assert assess(loss, boxes, target(boxes))[share] == 1
    assert assess(error, boxes, target(boxes))[share] <= (share == "worse")  # a step of |w| may cost overlap


def test_a_share_is_of_points_and_a_spike_over_the_median():
    boxes = torch.tensor([[x, 0.3, 1.2, 0.9] for x in (-2.0, -1.0, 1.0, 2.0)], dtype=torch.float64)
    steep = assess(lambda b, t: b[:, 0].clamp(min=0) ** 3, boxes, target(boxes))
    assert steep["zero"] == 0.5
    assert steep["spike"] == pytest.approx(12 / 3)  # slopes 3 and 12: torch's median is the lower of two
    assert assess(lambda b, t: 0 * b.sum(1), boxes, target(boxes))["spike"] == 0


def test_points_at_the_target_do_not_count():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.5, 0, 1, 1]], dtype=torch.float64)
    assert assess(lambda b, t: 0 * b.sum(1), boxes, target(boxes))["zero"] == 1
    assert assess(error, boxes, target(boxes))["zero"] == 0


def test_grids_are_rows_of_x_and_miss_kinks():
    parameters = Parameters(loss="iou", points=6)
    across, boxes = field_boxes("position", parameters)
    assert across.tolist() == pytest.approx([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    table = boxes.view(6, 6, 4)
    assert (table[..., 0] == across).all()
    assert (table[..., 1] == across[:, None]).all()
    assert (table[..., 2:] == torch.tensor([2.0, 1.5])).all()
    across, boxes = field_boxes("size", parameters)
    table = boxes.view(6, 6, 4)
    assert (table[..., 2] == across).all()
    assert (table[..., 3] == across[:, None]).all()
    assert (table[..., :2] == 0).all()
    assert across.log().abs().max() < math.log(5)
    for field in SETS[:2]:
        _, boxes = field_boxes(field, Parameters(loss="iou"))
        ends = torch.stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
        assert ((ends.abs() - 0.5).abs() > 1e-3).all()  # no edge on a line through one of the target's
        assert (boxes != target(boxes)).any(1).all()


def test_plain_iou_has_no_gradient_where_boxes_are_apart_and_only_there():
    measured, arrays = run("iou")
    _, boxes = field_boxes("position", Parameters(loss="iou"))
    apart = (gap(boxes, target(boxes)) > 0).view(40, 40)
    still = torch.stack([arrays[f"position_{name}"] for name in ("gx", "gy", "gw", "gh")]).abs().amax(0) == 0
    assert torch.equal(still, apart)
    assert measured["position_zero"] == pytest.approx(apart.double().mean().item())
    assert (arrays["position_loss"][apart] == 1).all()


def test_what_is_known_of_the_losses_shows():
    giou, diou, piou, v2, rewarded = (
        run(loss, options=options)[0]
        for loss, options in [
            ("giou", {}),
            ("diou", {}),
            ("piou", {}),
            ("piou_v2", {}),
            ("siou", {"distance": "rewarded"}),
        ]
    )
    assert giou["position_zero"] == diou["position_zero"] == piou["position_zero"] == 0
    assert giou["position_away"] > 0.1  # it enlarges a box that is apart
    assert piou["position_away"] == 0  # it does not
    assert v2["position_away"] > 0.5  # its weight, differentiated, pushes poor boxes off
    assert run("piou_v2", options={"weight": "detached"})[0]["position_away"] == 0
    assert rewarded["pairs_away"] > 0.2 > run("siou")[0]["pairs_away"]
    assert all(each["pairs_uphill"] == 0 for each in (giou, diou, piou, v2))  # true gradients


def test_gradients_that_are_not_the_loss_s_go_uphill_or_away():
    true, authors = (run("giou", options={"gradient": name})[0] for name in ("true", "authors"))
    assert authors["position_away"] > true["position_away"] + 0.2  # sides answer to both axes
    assert run("focal_eiou")[0]["size_uphill"] > 0.2  # a constant weight is not the derivative's
    assert run("ciou", options={"aspect": "unscaled"})[0]["size_uphill"] > run("ciou")[0]["size_uphill"] == 0


def test_the_record_holds_every_field():
    measured, arrays = run("eiou", points=10)
    assert measured.keys() == iou_gradient.measures.keys()
    assert measured.keys() == {f"{name}_{what}" for name in SETS for what in (*SHARES, "spike")}
    for field in SETS[:2]:
        assert arrays[f"{field}_axis"].shape == (10,)
        loss = bind("eiou")
        _, boxes = field_boxes(field, Parameters(loss="eiou", points=10))
        boxes.requires_grad_()
        value = loss(boxes, target(boxes))
        (slopes,) = torch.autograd.grad(value.sum(), boxes)
        assert torch.equal(arrays[f"{field}_loss"], value.detach().view(10, 10))
        for i, name in enumerate(("gx", "gy", "gw", "gh")):
            assert torch.equal(arrays[f"{field}_{name}"], slopes[:, i].view(10, 10))
    assert run("eiou", seed=1, points=10)[0]["pairs_spike"] != measured["pairs_spike"]


def test_a_gradient_that_is_not_a_number_has_diverged(tmp_path, monkeypatch):
    (tmp_path / "torn_loss.py").write_text("def loss(pred, target):\n    return (0 * pred.sum(1)).sqrt()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FloatingPointError, match=r"torn_loss:loss.*position"):
        run("torn_loss:loss")


def test_the_suite_s_pictures_are_of_arrays_that_are_kept():
    _, arrays = run("iou", points=4)
    drawn = [spec for spec in read(find("iou")).plot if spec.task == "iou_gradient"]
    named = {name for spec in drawn for name in spec.references() if name.startswith("@")}
    assert len(drawn) >= 3
    assert named <= {f"@{name}" for name in arrays}

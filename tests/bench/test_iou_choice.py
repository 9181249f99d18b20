"""Which loss when: the situations are what they are called, the figures those of the boxes, and known losers lose."""

import itertools

import pytest
import torch

from bench.task import Context
from bench.tasks.boxes.calls import bind
from bench.tasks.boxes.choice import (
    FIGURES,
    SITUATIONS,
    STEPS,
    WIDEST,
    draw_pairs,
    first_iteration,
    mean_with_interval,
    rate,
    show_target,
)
from bench.tasks.boxes.declarations import ChoiceParameters as Parameters
from bench.tasks.boxes.declarations import iou_choice
from bench.tasks.boxes.pairs import descend, gap, iou, pairs, unit_pairs

pytestmark = pytest.mark.unchecked  # shape checks would take longer than the descents


def run(loss, situation, pairs=60, iterations=200, seed=0):
    context = Context(seed)
    measured = iou_choice.run(Parameters(loss=loss, situation=situation, pairs=pairs, iterations=iterations), context)
    return {name: getattr(value, "value", value) for name, value in measured.items()}, context.arrays, measured


def test_situations_are_what_they_are_called():
    drawn = {name: draw_pairs(each, 100, torch.Generator().manual_seed(0)) for name, each in SITUATIONS.items()}
    assert drawn.keys() == set(Parameters.model_fields["situation"].annotation.__args__)
    assert all(len(boxes) == len(targets) == 100 for boxes, targets in drawn.values())
    overlap = {name: iou(*pair) for name, pair in drawn.items()}
    assert (gap(*drawn["apart"]) > 0).all()
    assert ((overlap["poor"] > 0) & (overlap["poor"] <= 0.2)).all()
    within = (drawn["nested"][0] - drawn["nested"][1]).abs()
    assert (within[:, :2] <= within[:, 2:] / 2 + 1e-12).all()
    boxes, targets = drawn["equal_ratio"]
    torch.testing.assert_close(boxes[:, 2] / boxes[:, 3], targets[:, 2] / targets[:, 3])
    assert ((overlap["fine"] >= 0.75) & (overlap["fine"] <= 0.94)).all()
    sides = {name: targets[:, 2:].prod(1).sqrt() for name, (_, targets) in drawn.items()}
    torch.testing.assert_close(sides["poor"], torch.ones(100).double())
    assert 1 / 4 < sides["mixed"].min() < 1 / 3 < 3 < sides["mixed"].max() < 4


def test_noise_is_of_the_target_shown_alone():
    _, targets = draw_pairs(SITUATIONS["noisy"], 500, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    one, other = itertools.islice(show_target(SITUATIONS["noisy"], targets, source), 2)
    sides = targets[:, 2:].repeat(1, 2)
    assert ((one - targets) / sides).std().item() == pytest.approx(0.1, rel=0.1)  # 2,000 numbers: 1.6 % a deviation
    assert not torch.equal(one, other)
    assert torch.equal(next(show_target(SITUATIONS["poor"], targets, source)), targets)


def test_the_first_iteration_there():
    reached = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.bool)
    # A box that leaves again counts from the first; one that never gets there counts as the last.
    assert first_iteration(reached).tolist() == [2, 0, 3]


def test_a_mean_has_its_interval():
    value = mean_with_interval(torch.tensor([0.0, 1.0] * 50, dtype=torch.float64))
    assert value.value == 0.5
    assert value.interval[1] - 0.5 == pytest.approx(1.96 * 0.5 / 10, rel=0.01)  # n - 1 for n


def test_descent_is_the_protocol():
    boxes, targets = unit_pairs(20, torch.Generator().manual_seed(0), "random")
    steps = []
    for moved in descend(lambda b, t: (b - t).square().sum(1) / 2, boxes, itertools.repeat(targets), 20):
        steps.append((moved - boxes, boxes))
        boxes = moved
    for eta, (step, before) in zip([0.1] * 16 + [0.01] * 2 + [0.001] * 2, steps, strict=True):
        torch.testing.assert_close(step, -eta * (2 - iou(before, targets))[:, None] * (before - targets))


def test_the_rate_is_chosen_on_some_pairs_and_judged_on_others():
    values, arrays, measured = run("eiou", "poor", iterations=50)
    assert measured.keys() == iou_choice.measures.keys()
    curves = arrays["iou_curves"]
    assert curves.shape == (51, len(arrays["rates"]))
    chosen = arrays["rates"].tolist().index(values["rate"])
    assert chosen <= int(curves[-1].argmax())
    assert arrays["iou_final_choosing"].mean().item() == pytest.approx(curves[-1, chosen].item())
    assert curves[-1].max() - curves[-1, chosen] < 0.02  # a standard error of 30 differences
    for name in FIGURES:
        assert values[name] == pytest.approx(arrays[name].mean().item())
        assert (arrays[name].shape, arrays[f"{name}_choosing"].shape) == ((60,), (30,))
        assert not torch.equal(arrays[name][:30], arrays[f"{name}_choosing"])
    boxes, targets = draw_pairs(SITUATIONS["poor"], 60, torch.Generator().manual_seed(1))  # 0 chooses
    *_, moved = descend(bind("eiou"), boxes, itertools.repeat(targets), 50, values["rate"])
    torch.testing.assert_close(arrays["iou_final"], iou(moved, targets), rtol=0, atol=1e-9)
    assert 0 < values["to_75"] <= values["to_95"] <= 50
    assert run("eiou", "poor", iterations=50)[0] == values
    assert run("eiou", "poor", iterations=50, seed=1)[0] != values


@pytest.mark.parametrize("factor", [1e-7, 1e-3, 0.05, 300, 1e3])
def test_a_best_rate_at_the_edge_widens_the_grid(factor, tmp_path, monkeypatch):
    """The best rate follows the loss's steepness far beyond the rates tried at first."""
    lines = ["from implementations.boxes import LOSSES", f"def loss(p, t): return {factor} * LOSSES['l1'](p, t)"]
    name = f"steep_loss_{str(factor).replace('.', '_').replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    values, arrays, _ = run(f"{name}:loss", "poor", pairs=30, iterations=60)
    assert values["at_edge"] == (factor == 1e-7)  # beyond the widest grid, which says so
    if not values["at_edge"]:
        assert 0.005 < values["rate"] * factor < 0.2
        assert (arrays["rates"] < values["rate"]).sum() >= 2 <= (arrays["rates"] > values["rate"]).sum()


def test_rates_are_written_as_one_writes_them():
    assert [rate(step) for step in STEPS] == [3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    assert (rate(WIDEST[0]), rate(WIDEST[-1])) == (1e-6, 1e4)


@pytest.mark.parametrize(("loss", "situation"), [("piou", "poor"), ("eiou", "noisy"), ("wiou_v2", "poor")])
def test_rates_do_not_touch_one_another(loss, situation):
    """Each curve is that of its rate alone, in one batch or, for a loss whose rows depend on it, in its own."""
    arrays = run(loss, situation, pairs=40, iterations=20)[1]
    source = torch.Generator().manual_seed(0)
    boxes, targets = draw_pairs(SITUATIONS[situation], 20, source)
    for i, step in enumerate(arrays["rates"].tolist()):
        noise = torch.Generator().manual_seed(0)
        seen = show_target(SITUATIONS[situation], targets, noise)
        *_, moved = descend(bind(loss), boxes, seen, 20, step)
        assert arrays["iou_curves"][-1, i].item() == pytest.approx(iou(moved, targets).mean().item(), abs=1e-9)


def test_steepness_is_no_merit(tmp_path, monkeypatch):
    """Three tenths of the loss end as the loss does, at ten thirds of the rate."""
    lines = [
        "from implementations.boxes import LOSSES",
        "def loss(pred, target):",
        "    return 0.3 * LOSSES['l1'](pred, target)",
    ]
    (tmp_path / "gentle_loss.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    gentle, plain = (run(loss, "poor", pairs=30)[0] for loss in ("gentle_loss:loss", "l1"))
    assert (gentle["rate"], plain["rate"]) == (0.1, 0.03)
    assert gentle["iou_final"] == pytest.approx(plain["iou_final"], abs=1e-9)


def test_known_losers_lose():
    end = {
        (loss, situation): run(loss, situation, pairs=40, iterations=100)[0]["iou_final"]
        for loss, situation in [("iou", "apart"), ("giou", "apart"), ("iou", "poor"), ("eiou", "poor"),
                                ("diou", "mixed"), ("diou", "poor")]
    }  # fmt: skip
    assert end["iou", "apart"] == 0  # no gradient
    assert end["giou", "apart"] > 0.2
    assert end["eiou", "poor"] > end["iou", "poor"]  # it sees sides
    assert end["diou", "mixed"] < end["diou", "poor"]  # a rate has a scale


def test_a_loss_that_is_not_a_number_has_diverged(tmp_path, monkeypatch):
    (tmp_path / "lost_loss.py").write_text("def loss(pred, target):\n    return float('nan') * pred.sum(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FloatingPointError, match="lost_loss:loss"):
        run("lost_loss:loss", "poor", iterations=10)


def test_pairs_in_units_of_the_target():
    boxes, targets = unit_pairs(30, torch.Generator().manual_seed(0))
    plain, plain_targets = pairs(30, torch.Generator().manual_seed(0))
    torch.testing.assert_close(targets[:, 2:].prod(1), torch.ones(30).double())
    torch.testing.assert_close(iou(boxes, targets), iou(plain, plain_targets))

"""The regression experiment: its cases and rates, what must move and what must not, and known totals."""

import sys

import pytest
import torch

from bench.task import Context
from bench.tasks.iou_regression import CASES, CENTRE, Parameters, cases, descent, disc, iou_regression, rates, simulate
from implementations.boxes import LOSSES

# Total errors of the true gradients at iterations 160 and 200, in 1e6, as known to the digits shown, each with its
# relative standard deviation over the shift of 100 points (six shifts).
TOTALS = {
    "iou": ((5.93, 0.005, 0.007), (5.88, 0.005, 0.007)),
    "giou": ((0.32, 0.005, 0.004), (0.03, 0.005, 0.072)),
    "diou": ((0.30, 0.005, 0.008), (0.05, 0.005, 0.036)),
    "ciou": ((0.26, 0.005, 0.004), (0.007, 0.0005, 0.075)),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_at_full_iterations(name):
    parameters, context = Parameters(loss=name, points=100), Context()
    measured = iou_regression.run(parameters, context)
    for measure, (known, digit, deviation) in zip(("error_decay", "error_final"), TOTALS[name], strict=True):
        # Half the last digit known, and three standard deviations of the sampling.
        assert measured[measure].value / 1e6 == pytest.approx(known, abs=digit + 3 * deviation * known)
    assert measured.keys() == iou_regression.measures.keys()
    curve, surface = context.arrays["error_curve"], context.arrays["error_surface"]
    assert curve.shape == (200,)
    assert curve.dtype == torch.float64
    assert surface.shape == (100,)
    assert surface.sum().item() * 50 == pytest.approx(measured["error_final"].value, rel=1e-12)  # 5,000 of 100 points
    assert curve.sum().item() == measured["error_sum"].value
    assert (measured["iou_final"].value > 0.98) == (name != "iou")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TOTALS)
def test_chunks_change_no_bit(name, dtype):
    positions = disc(11).to(dtype)
    whole = simulate(LOSSES[name], positions, rates(20), chunk=11)
    for chunk in (1, 4):
        split = simulate(LOSSES[name], positions, rates(20), chunk=chunk)
        assert torch.equal(split.error, whole.error)
        assert torch.equal(split.iou, whole.iou)


def test_plain_iou_moves_nothing_that_is_apart():
    boxes, targets = cases(disc(20))
    *_, moved = descent(LOSSES["iou"], boxes, targets, rates(20))
    reach = (boxes[:, 2:] + targets[:, 2:]) / 2
    apart = ((boxes - targets)[:, :2].abs() > reach).any(1)
    assert 0.5 < apart.double().mean() < 1
    assert torch.equal(moved[apart], boxes[apart])
    assert (moved[~apart] != boxes[~apart]).any(1).all()


@pytest.mark.parametrize("name", TOTALS)
def test_a_box_on_its_target_stays(name):
    _, targets = cases(torch.tensor([CENTRE], dtype=torch.float64))
    *_, moved = descent(LOSSES[name], targets, targets, rates(20))
    assert (moved - targets).abs().max() < 1e-12  # rounding of the corners, not a step of eta


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_error_falls(name):
    error = simulate(LOSSES[name], disc(20), rates(100)).error.sum(1)
    assert (error.diff() <= 0)[:40].all()  # later, steps of .1 hop over the kinks
    assert error[-1] < error[0] / 2


def test_an_update_is_the_protocols():
    boxes, targets = (torch.tensor([box], dtype=torch.float64) for box in ([10.5, 10, 1, 1], [10, 10, 1, 1]))
    (moved,) = descent(LOSSES["iou"], boxes, targets, [0.1])
    # IoU = i / (2 - i) with overlap i = 1/2 - d along x: by hand, grad IoU = 2 / (2 - i)^2 di, and (2 - IoU) = 5/3.
    slope = 2 / 1.5**2
    assert moved[0, 0].item() == pytest.approx(10.5 - 0.1 * 5 / 3 * slope, abs=1e-12)
    assert moved[0, 1].item() == pytest.approx(10, abs=1e-12)


def test_rates_are_the_papers_at_200():
    assert rates(200) == [0.1] * 160 + [0.01] * 20 + [0.001] * 20


def test_cases_are_every_anchor_with_every_target():
    boxes, targets = cases(torch.tensor([[8.0, 9.0], [11.0, 12.0]], dtype=torch.float64))
    assert boxes.shape == targets.shape == (2 * CASES, 4)
    assert len(torch.cat([boxes, targets], 1).unique(dim=0)) == 2 * CASES
    assert (boxes[CASES:, :2] == torch.tensor([11.0, 12.0])).all()
    torch.testing.assert_close(targets[:, 2:].prod(1), torch.ones(2 * CASES).double())
    ratio = targets[:, 2] / targets[:, 3]
    assert ratio.min().item() == pytest.approx(1 / 4)
    assert ratio.max().item() == pytest.approx(4)


def test_points_are_even_on_the_disc():
    radius = (disc(1000, seed=3) - torch.tensor(CENTRE)).norm(dim=1)
    assert radius.max() < 3
    for part in (0.1, 0.5, 0.9):  # that of the area within 3 sqrt(part); the set is even to a few points in a thousand
        assert (radius < 3 * part**0.5).double().mean().item() == pytest.approx(part, abs=0.005)
    assert not torch.equal(disc(5, seed=1), disc(5, seed=2))
    assert torch.equal(disc(5, seed=1), disc(9, seed=1)[:5])


def test_a_loss_that_is_not_a_number_has_diverged(tmp_path, monkeypatch):
    (tmp_path / "broken_loss.py").write_text("def loss(pred, target):\n    return pred.sum(1) * float('nan')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_loss", raising=False)
    with pytest.raises(FloatingPointError, match=r"broken_loss:loss.*5 points"):
        iou_regression.run(Parameters(loss="broken_loss:loss", points=5, iterations=10), Context())

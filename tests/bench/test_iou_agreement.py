"""Agreement with IoU: rank correlations of known order, their intervals, and what is known of the losses."""

import numpy as np
import pytest
import torch

from bench.task import Context
from bench.tasks.boxes.declarations import AgreementParameters as Parameters
from bench.tasks.boxes.declarations import iou_agreement
from bench.tasks.intervals import correlate

FAST = {"pairs": 200, "iterations": 30, "resamples": 40}


def run(loss, seed=0, **changes):
    context = Context(seed)
    return iou_agreement.run(Parameters(loss=loss, **(FAST | changes)), context), context.arrays


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_a_correlation_is_of_ranks(name):
    x = np.random.default_rng(0).random(100)
    rising = correlate(name, x, np.exp(9 * x), resamples=30, seed=0)
    assert rising.value == pytest.approx(1)
    assert rising.interval == pytest.approx((1, 1))
    assert correlate(name, x, -(x**3), resamples=30, seed=0).value == pytest.approx(-1)
    assert correlate(name, x, np.ones(100), resamples=30, seed=0) is None
    assert correlate(name, np.zeros(100), x, resamples=30, seed=0) is None


def test_kendall_by_hand():
    # Of six pairs of (1, 2, 3, 4) and (2, 1, 3, 4), one is exchanged: (5 - 1) / 6.
    value = correlate("kendall", np.arange(4.0), np.array([2.0, 1, 3, 4]), resamples=20, seed=0)
    assert value.value == pytest.approx(4 / 6)
    assert value.n == 4


def test_an_interval_covers_the_truth():
    """Of 100 samples of normals with correlation .5, tau is 1/3; 95 % of intervals hold it, five errors are 11 %."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(100):
        x = rng.standard_normal(80)
        y = 0.5 * x + 0.75**0.5 * rng.standard_normal(80)
        low, high = correlate("kendall", x, y, resamples=100, seed=seed).interval
        held += low <= 1 / 3 <= high
    assert held >= 84


def test_functions_of_iou_agree_with_it_in_full():
    for loss in ("iou", "iou_log", "alpha_iou"):
        measured, _ = run(loss)
        for name in ("spearman_overlapping", "kendall_overlapping", "spearman_all", "kendall_all"):
            assert measured[name].value == pytest.approx(1)


def test_what_is_known_of_the_losses_shows():
    diou, l1, focal = (run(loss)[0] for loss in ("diou", "l1", "focal_eiou"))
    assert 1 > diou["kendall_overlapping"].value > l1["kendall_overlapping"].value > 0.1
    assert focal["kendall_all"].value < -0.5  # nothing where boxes are apart: the worse the overlap, the lower the loss
    iou, _ = run("iou")
    assert iou["final_spearman_all"].value > 0.5  # what is apart stays so


def test_the_record_holds_the_pairs_that_it_is_of():
    measured, arrays = run("giou")
    assert measured.keys() == iou_agreement.measures.keys()
    overlapping = arrays["iou"] > 0
    assert measured["spearman_all"].n == 200
    assert measured["spearman_overlapping"].n == int(overlapping.sum())
    assert 0.3 < overlapping.double().mean() < 0.6
    assert arrays["final_iou"].mean() > arrays["iou"].mean()
    torch.testing.assert_close(arrays["targets"][:, 2:].prod(1), torch.ones(200).double())
    for value in measured.values():
        assert value.interval[0] <= value.value <= value.interval[1]
    assert run("giou")[0] == measured
    assert run("giou", seed=1)[0] != measured


def test_a_loss_without_ranks_has_no_correlation(tmp_path, monkeypatch):
    (tmp_path / "flat_loss.py").write_text("def loss(pred, target):\n    return 0 * pred.sum(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("flat_loss:loss")[0] == {}


def test_a_loss_that_is_not_a_number_has_diverged(tmp_path, monkeypatch):
    (tmp_path / "void_loss.py").write_text("def loss(pred, target):\n    return float('nan') * pred.sum(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FloatingPointError, match="void_loss:loss"):
        run("void_loss:loss")

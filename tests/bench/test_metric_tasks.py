"""The metrics' own bench: figures move as a fault says they must, bias falls with n, peers agree."""

import numpy as np
import pytest

from bench.task import Context
from bench.tasks.metrics.declarations import BiasParameters as Bias
from bench.tasks.metrics.declarations import SensitivityParameters as Sensitivity
from bench.tasks.metrics.declarations import SpeedParameters as Speed
from bench.tasks.metrics.declarations import metric_bias, metric_sensitivity, metric_speed


@pytest.fixture(scope="module")
def figures():
    kinds = ("noise", "class_drop", "mode_drop", "memorised")
    cells = [("clean", "blur", 0.0), *((kind, kind, 0.5) for kind in kinds)]
    return {
        name: {m: v.value for m, v in _sensitivity(disturbance, level).items()} for name, disturbance, level in cells
    }


def _sensitivity(disturbance, level):
    return metric_sensitivity.run(Sensitivity(disturbance=disturbance, level=level, n=600), Context())


def test_what_each_figure_answers_to(figures):
    clean = figures["clean"]
    assert figures["noise"]["fd_fmnist"] > 10 * clean["fd_fmnist"]
    assert figures["noise"]["kid_fmnist"] > 0.1 > abs(clean["kid_fmnist"])
    assert figures["noise"]["precision"] < clean["precision"] - 0.1
    for dropped in ("class_drop", "mode_drop"):  # what is left is as real as before
        assert figures[dropped]["precision"] > clean["precision"] - 0.03
        assert figures[dropped]["recall"] < clean["recall"] - 0.1
        assert figures[dropped]["coverage"] < clean["coverage"] - 0.02


def test_copies_pass_for_better_than_real_but_for_the_tests_of_copying(figures):
    clean, copied = figures["clean"], figures["memorised"]
    assert copied["fd_fmnist"] < clean["fd_fmnist"]
    assert copied["coverage"] > clean["coverage"]
    assert copied["c_t"] < -5 < abs(clean["c_t"])
    assert copied["authenticity"] == pytest.approx(clean["authenticity"] / 2, abs=0.05)  # half are copies
    assert copied["memorised"] == pytest.approx(0.5, abs=0.01)


def test_the_bias_of_fd_falls_with_n_and_that_of_kid_is_none():
    found = {
        (figure, n): metric_bias.run(Bias(figure=figure, n=n, draws=6), Context())["value"]
        for figure in ("fd_fmnist", "fd_infinity", "kid_fmnist") for n in (200, 800)
    }  # fmt: skip
    ratio = found["fd_fmnist", 200].value / found["fd_fmnist", 800].value
    assert 2.5 < ratio < 6  # 1 / n would give 4
    assert abs(found["fd_infinity", 800].value) < found["fd_fmnist", 800].value / 2
    low, high = found["kid_fmnist", 200].interval
    assert low < 0 < high


@pytest.mark.parametrize(
    ("contest", "peer", "apart"),
    # 1e-8 of the traces, of 8 and 3,000; counts over counts; the same arithmetic.
    [
        ("frechet", "scipy_sqrtm", 1e-8),
        ("frechet_mixed", "scipy_sqrtm", 1e-5),
        ("prdc", "prdc", 1e-12),
        ("coco", "faster_coco_eval", 1e-12),
    ],
)
def test_peers_agree(contest, peer, apart, capsys):
    parameters = Speed(contest=contest, entries=["fidmap", peer], rounds=2, share=0.02)
    found = metric_speed.run(parameters, Context())
    assert found["fidmap"]["difference"] < apart
    for name in ("fidmap", peer):
        low, high = found[name]["ratio"].interval
        assert low <= found[name]["ratio"].value * (1 + 1e-9)
        assert np.isfinite([low, high]).all()
    assert found[peer]["ratio"].value == 1


def test_who_takes_no_part_is_named():
    with pytest.raises(ValueError, match="'prdc' takes no part in frechet; there are fidmap, scipy_sqrtm"):
        metric_speed.run(Speed(contest="frechet", entries=["fidmap", "prdc"], share=0.01), Context())

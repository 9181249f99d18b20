"""Intervals hold what they say, over the first 100 of the 2,000 trials of the suite ``coverage``, of its seed."""

from __future__ import annotations

import pytest

from bench.task import Context
from bench.tasks.metrics.coverage import GROUPS
from bench.tasks.metrics.declarations import CoverageParameters as Parameters
from bench.tasks.metrics.declarations import coverage

pytestmark = pytest.mark.unchecked  # the shape checker would take most of the time

CASES = [
    {"interval": "fd", "law": "skewed", "resamples": 30},
    {"interval": "fd_debiased", "law": "sparse", "n": 64},
    {"interval": "kid", "law": "heavy"},
    {"interval": "energy", "law": "sparse"},
    {"interval": "cmmd", "law": "shifted"},
    {"interval": "precision", "law": "sparse", "n": 40, "d": 3, "resamples": 20},
    {"interval": "density", "law": "sparse", "n": 40, "d": 3, "resamples": 20},
    {"interval": "vendi", "law": "skewed", "resamples": 30},
    {"interval": "is", "law": "sparse", "n": 200},
    {"interval": "c2st", "law": "equal"},
    {"interval": "fd_floor", "law": "heavy"},
    {"interval": "share", "n": 70},
    {"interval": "bits_per_dim", "n": 400},
    {"interval": "median", "n": 60},
    {"interval": "paired_ratio", "n": 60},
    {"interval": "prediction", "n": 20},
    {"interval": "AP", "law": "strong", "resamples": 20},
    {"interval": "AP50", "law": "strong", "resamples": 20},
    {"interval": "AP75", "law": "strong", "resamples": 20},
    {"interval": "AR100", "law": "strong", "resamples": 20},
    {"interval": "AP_difference", "law": "strong", "n": 60},
    {"interval": "AR100_difference", "law": "strong", "n": 60},
    {"interval": "fd_difference", "law": "skewed"},
    {"interval": "kid_difference", "law": "skewed"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_holds_its_target_88_to_99_times_of_100(case):
    """At .95, fewer than 88 and 100 have a probability of half a percent each."""
    found = coverage.run(Parameters(trials=100, **case), Context(seed=0))
    assert 0.88 <= found["coverage"].value <= 0.99 + 0.01 * (case["interval"] == "fd_debiased")  # it may be too wide
    if "difference" in case["interval"]:  # of equal methods: a verdict that there is one is wrong
        assert found["target"] == 0
        assert found["told_apart"].value == pytest.approx(1 - found["coverage"].value)


def test_fd_seldom_covers_the_laws_and_the_debiased_distance_does():
    context, settings = Context(seed=1), {"law": "heavy", "n": 60, "d": 16, "trials": 40, "resamples": 10}
    fd, debiased = (coverage.run(Parameters(interval=name, **settings), context) for name in ("fd", "fd_debiased"))
    assert fd["of_laws"].value < 0.5
    assert fd["coverage"].value > 0.85
    assert debiased["of_laws"].value > 0.85
    assert fd["mean"] > 1.5 * debiased["target"] > 0


def test_every_interval_belongs_to_one_group_and_is_a_row_of_the_suite():
    from pathlib import Path

    import bench
    from bench.plan.suite import read

    names = list(Parameters.model_fields["interval"].annotation.__args__)
    assert sorted(name for group in GROUPS for name in group.names) == sorted(names)
    suite = read(Path(bench.__file__).parent / "suites" / "coverage.toml")
    assert {name for block in suite.block for name in block.axes["interval"]} == set(names)
    shown = {name for table in suite.table for name in table.where["interval"]}
    assert shown == set(names)


def test_trials_repeat_and_a_target_is_their_mean_where_it_is_of_this_n():
    context = Context(seed=2)
    parameters = Parameters(interval="vendi", trials=20, resamples=5, n=30)
    found = coverage.run(parameters, context)
    assert found == coverage.run(parameters, Context(seed=2))
    assert found != coverage.run(parameters, Context(seed=3))
    assert found["target"] == found["mean"] == pytest.approx(float(context.arrays["trials"][:, 0].mean()))
    assert found["coverage"].n == 20

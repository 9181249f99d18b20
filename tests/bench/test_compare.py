"""Verdicts: what is the same, what is worse, what cannot be compared, and which of them fail."""

import math

import pytest

from bench.compare import compare
from bench.store import Measured


def measured(value, name="m", **changes):
    return Measured(name=name, value=value, **({"direction": "lower", "window": 0.02} | changes))


@pytest.fixture
def judge(record):
    def hold(old, new, **options):
        result = compare([record(measures=[old])], [record(measures=[new])], **options)
        return result.findings[0].verdict, result.exit_code

    return hold


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (measured(1.0), measured(1.0), ("same", 0)),
        (measured(1.0), measured(1.019), ("same", 0)),
        (measured(1.0), measured(1.021), ("worse", 1)),
        (measured(1.0), measured(0.9), ("better", 0)),
        (measured(0.8, direction="higher"), measured(0.7, direction="higher"), ("worse", 1)),  # AP loss
        (measured(2.0, direction="target"), measured(2.1, direction="target"), ("worse", 1)),
        (measured(2.0, direction="target"), measured(1.0, direction="target"), ("worse", 1)),  # order loss
        (measured(0.0, floor=1e-12), measured(1e-13, floor=1e-12), ("same", 0)),
        (measured(0.0), measured(1e-13), ("worse", 1)),
        (measured(1.0), measured(math.nan), ("worse", 1)),
        (measured(1.0, extractor="a@1"), measured(1.0, extractor="a@2"), ("incomparable", 0)),
        (measured(math.inf), measured(math.inf), ("same", 0)),
        (measured(math.nan), measured(math.nan), ("same", 0)),
        (measured(math.inf), measured(1e9), ("better", 0)),
        (measured(1.0, unit="s"), measured(1.0, unit="ms"), ("worse", 1)),  # a gate does not open by its declaration
        (measured(1.0), measured(50.0, direction="higher"), ("worse", 1)),
        (measured(1.0, deterministic=False), measured(50.0), ("worse", 1)),
        (measured(1.0, reference="a"), measured(9.0, reference="b"), ("incomparable", 0)),
    ],
)  # fmt: skip
def test_deterministic_measures_gate_by_their_window(judge, old, new, verdict):
    assert judge(old, new) == verdict


def test_timings_are_advisory_unless_asked_for(judge):
    def timing(value, low, high):
        return measured(value, deterministic=False, interval=(low, high))

    base = timing(1.0, 0.95, 1.05)
    assert judge(base, timing(1.08, 1.07, 1.09)) == ("same", 0)  # apart, yet within the factor
    assert judge(base, timing(1.5, 1.0, 2.0)) == ("ambiguous", 0)
    assert judge(base, timing(1.5, 1.4, 1.6)) == ("worse", 0)
    assert judge(base, timing(1.5, 1.4, 1.6), gate_timings=True) == ("worse", 1)
    assert judge(base, timing(0.5, 0.4, 0.6), gate_timings=True) == ("better", 0)
    assert judge(base, timing(1.5, 1.0, 2.0), gate_timings=True) == ("ambiguous", 0)
    assert judge(timing(0.0, 0.0, 0.0), base, gate_timings=True) == ("ambiguous", 0)


def test_timings_of_other_hardware_are_incomparable_but_for_ratios(record):
    def verdicts(**units):
        def store(value, hardware):
            slow = [
                measured(value, name, unit=unit, deterministic=False, interval=(value, value))
                for name, unit in units.items()
            ]
            return [record(measures=slow, hardware=hardware)]

        return {f.measure: f.verdict for f in compare(store(1.0, "a"), store(9.0, "b")).findings}

    assert verdicts(time="ms", ratio="") == {"time": "incomparable", "ratio": "worse"}


def test_cells_that_fail_appear_or_go(record):
    def codes(old, new):
        result = compare(old, new)
        return [finding.verdict for finding in result.findings], result.exit_code

    ok, failed = record(), record(status="failed", error="why", measures=[])
    assert codes([ok], [ok]) == (["same"], 0)
    assert codes([ok], [failed]) == (["worse"], 1)
    assert codes([failed], [ok]) == (["better"], 0)
    assert codes([failed], [failed]) == (["same"], 0)
    assert codes([ok, record("m")], [ok]) == (["same", "missing"], 1)
    assert codes([ok], [ok, record("m")]) == (["same", "new"], 0)
    assert codes([ok], [ok, record("m", status="failed", error="why", measures=[])]) == (["same", "worse"], 1)
    assert codes([ok], [record(measures=[])]) == (["missing"], 1)
    assert codes([ok], [record(device="cuda:0")]) == (["incomparable"], 0)
    # A key is found whatever the hash: source, machine and threads may differ between two stores.
    assert codes([ok], [record(started="2030-01-01T00:00:00")]) == (["same"], 0)


def test_json_of_a_comparison_is_strict(record):
    import json

    result = compare([record(measures=[measured(1.0)])], [record(measures=[measured(math.nan)])])
    json.loads(json.dumps(result.as_dict()), parse_constant=pytest.fail)

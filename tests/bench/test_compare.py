"""Verdicts: what is the same, what is worse, what cannot be compared, and which of them fail."""

import json
import math
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.catalogue import TASKS
from bench.errors import UsageError
from bench.records.bundle import bundle, load
from bench.records.compare import compare as hold
from bench.records.record import Measurement
from bench.records.store import Contents, Store


def compare(old, new, **options):
    return hold(Contents(old), Contents(new), **options)


def measured(value, name="m", **changes):
    return Measurement(name=name, value=value, **({"direction": "lower", "window": 0.02} | changes))


@pytest.fixture
def judge(record):
    def hold(old, new, **options):
        result = compare([record(measures=[old])], [record(measures=[new])], **options)
        return result.judgements[0].verdict, result.exit_code

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
        (measured(1.0, extractor="a@1"), measured(1.0, extractor="a@2"), ("incomparable", 1)),
        (measured(math.inf), measured(math.inf), ("same", 0)),
        (measured(math.nan), measured(math.nan), ("same", 0)),
        (measured(math.inf), measured(1e9), ("better", 0)),
        (measured(1.0, unit="s"), measured(1.0, unit="ms"), ("worse", 1)),  # a gate does not open by its declaration
        (measured(1.0), measured(50.0, direction="higher"), ("worse", 1)),
        (measured(1.0, deterministic=False), measured(50.0), ("worse", 1)),
        (measured(1.0, reference="a"), measured(9.0, reference="b"), ("incomparable", 1)),
        (measured(1.0), measured(1.5, window=9.0), ("worse", 1)),  # nor by a window that has been widened
        (measured(0.0, floor=0.1), measured(0.5, floor=9.0), ("worse", 1)),
        (measured(1.0, window=9.0), measured(1.5), ("worse", 1)),  # and one that has been narrowed holds at once
    ],
)  # fmt: skip
def test_deterministic_measures_gate_by_their_window(judge, old, new, verdict):
    assert judge(old, new) == verdict


def test_timings_are_advisory_unless_asked_for(record):
    def judge(old, new, **options):
        both = measured(1.0, "exact")
        result = compare([record(measures=[both, old])], [record(measures=[both, new])], **options)
        return result.judgements[1].verdict, result.exit_code

    def timing(value, low, high, direction="lower"):
        return measured(value, deterministic=False, interval=(low, high), direction=direction)

    base = timing(1.0, 0.95, 1.05)
    assert judge(base, timing(1.08, 1.07, 1.09)) == ("same", 0)  # apart, yet within the factor
    assert judge(base, timing(1.5, 1.0, 2.0)) == ("ambiguous", 0)
    assert judge(base, timing(1.5, 1.4, 1.6)) == ("worse", 0)
    assert judge(base, timing(1.5, 1.4, 1.6), gate_timings=True) == ("worse", 1)
    assert judge(base, timing(0.5, 0.4, 0.6), gate_timings=True) == ("better", 0)
    assert judge(base, timing(1.5, 1.0, 2.0), gate_timings=True) == ("ambiguous", 0)
    assert judge(timing(0.0, 0.0, 0.0), base, gate_timings=True) == ("incomparable", 1)
    assert judge(base, timing(math.nan, 1.0, 2.0), gate_timings=True) == ("worse", 1)
    assert judge(base, measured(50.0, deterministic=False), gate_timings=True) == ("incomparable", 1)  # no interval
    assert judge(base, timing(50.0, math.nan, math.nan), gate_timings=True) == ("incomparable", 1)
    for value, low, high in ((3.0, 2.9, 3.1), (0.3, 0.29, 0.31)):
        target = timing(1.0, 0.95, 1.05, "target")
        assert judge(target, timing(value, low, high, "target"), gate_timings=True) == ("worse", 1)
    throughput = timing(1.0, 0.95, 1.05, "higher")
    assert judge(throughput, timing(3.0, 2.9, 3.1, "higher"), gate_timings=True) == ("better", 0)
    assert judge(throughput, timing(0.3, 0.29, 0.31, "higher"), gate_timings=True) == ("worse", 1)


def test_timings_of_other_hardware_are_incomparable_but_for_ratios(record):
    def verdicts(**units):
        def store(value, hardware):
            slow = [
                measured(value, name, unit=unit, deterministic=False, interval=(value, value))
                for name, unit in units.items()
            ]
            return [record(measures=slow, hardware=hardware)]

        return {f.measure: f.verdict for f in compare(store(1.0, "a"), store(9.0, "b")).judgements}

    assert verdicts(time="ms", ratio="") == {"time": "incomparable", "ratio": "worse"}


@pytest.mark.parametrize(("old", "new", "alike"), [("a", "a", True), ("a", "b", False), ("", "", False)])
def test_a_machine_that_is_not_known_is_no_machine_s_equal(record, old, new, alike):
    time = measured(1.0, unit="ms", deterministic=False, interval=(1.0, 1.0))
    (finding,) = compare([record(measures=[time], hardware=old)], [record(measures=[time], hardware=new)]).judgements
    assert finding.verdict == ("same" if alike else "incomparable")


# The verdicts on a cell by how it ended in the baseline (rows) and in the candidate (columns): = same, + better,
# - worse, ? ambiguous, n new, m missing, x incomparable. A cell that diverged has measures, of which one is NaN.
ENDS = ["ok", "failed", "diverged", "out_of_memory", "timeout", "skipped", "missing", "damaged"]
TABLE = """
=    -    -    -    -    m    m    mx
+    =    ?    ?    ?    ?    m    mx
+    m    =    m    m    m    m    mx
+    ?    ?    =    ?    ?    m    mx
+    ?    ?    ?    =    ?    m    mx
n    -    -    -    -    =    m    mx
n    -    -    -    -    n         x
nx   -x   -x   -x   -x   nx   x    x
"""
SYMBOLS = {"=": "same", "+": "better", "-": "worse", "?": "ambiguous", "n": "new", "m": "missing", "x": "incomparable"}
CELLS = [line.ljust(40)[i : i + 5].strip() for line in TABLE.strip("\n").splitlines() for i in range(0, 40, 5)]


@pytest.mark.parametrize(
    ("old", "new", "verdicts"),
    [(old, new, cell) for (old, new), cell in zip(product(ENDS, ENDS), CELLS, strict=True)],
)
def test_every_pair_of_ends(record, old, new, verdicts):
    """Generated: whatever the baseline has and the candidate has lost, or that nobody can read, fails."""

    def side(end):
        beside = record("beside", measures=[measured(1.0, "other")])
        if end == "missing":
            return Contents([beside])
        if end == "damaged":
            return Contents([beside], {"f" * 16: "its checksum differs"})
        values = {"ok": [1.0, 1.0], "diverged": [math.nan, 1.0]}.get(end, [])
        measures = [measured(value, name) for value, name in zip(values, ("first", "second"), strict=False)]
        return Contents([beside, record(status=end, measures=measures, error=None if end == "ok" else "why")])

    result = hold(side(old), side(new))
    found = [f.verdict for f in result.judgements if f.measure in ("status", "cell", "record")]
    if (old, new) == ("ok", "ok"):
        found = [f.verdict for f in result.judgements if f.measure == "first"]
    assert sorted(found) == sorted(SYMBOLS[symbol] for symbol in verdicts)
    assert result.exit_code == int(bool(set(verdicts) & set("-mx")))
    assert bool(result.failures) == bool(result.exit_code)


def test_a_measure_is_judged_though_another_diverged(record):
    def side(status, first, second):
        return [record(status=status, measures=[measured(first, "first"), measured(second, "second")])]

    for old, new in product(("ok", "diverged"), ("diverged", "ok")):
        before = side(old, 1.0 if old == "ok" else math.nan, 1.0)
        result = compare(before, side(new, 1.0 if new == "ok" else math.inf, 1e9))
        assert result.exit_code == 1
        assert ("worse", "second") in [(f.verdict, f.measure) for f in result.judgements]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ({}, {"device": "cuda:0", "key": "there"}, "incomparable"),
        ({}, {"threads": 4, "key": "there"}, "incomparable"),
        ({}, {"device": "cuda:1"}, "incomparable"),  # of one key, as no record of fidmap's is
        ({"measures": [measured(1, extractor="a@1")]}, {"measures": [measured(1, extractor="b@1")]}, "incomparable"),
        ({"measures": [measured(1, reference="a")]}, {"measures": [measured(1, reference="b")]}, "incomparable"),
        ({"measures": []}, {"measures": []}, "no measure"),
        ({"status": "failed", "measures": []}, {"status": "failed", "measures": []}, "no measure"),
        ({"status": "skipped", "measures": []}, {"status": "skipped", "measures": []}, "no measure"),
        ({"measures": [measured(1.0, deterministic=False)]}, {"measures": [measured(1.0, deterministic=False)]},
         "--timings"),
    ],
)  # fmt: skip
def test_a_gate_that_judged_nothing_fails_and_says_why(record, old, new, says):
    result = compare([record(**old)], [record(**new)])
    assert (result.exit_code, result.judged) == (1, 0)
    assert any(says in reason for reason in result.failures), result.failures


def test_cells_are_matched_by_key_and_a_key_that_is_there_twice_is_refused(record):
    # A key is found whatever the hash: source and machine may differ between two stores.
    assert compare([record()], [record(started="2030-01-01T00:00:00")]).exit_code == 0
    cpu, cuda = record("cpu"), record("cuda", device="cuda:0", value=9.0)
    assert compare([cpu, cuda], [cpu, cuda]).judged == 2
    assert compare([cpu, cuda], [cpu, record("cuda", device="cuda:0", value=1.0)]).exit_code == 1
    again = record("cpu", started="2031-01-01T00:00:00")
    for sides in (([cpu, again], [cpu]), ([cpu], [cpu, again])):
        with pytest.raises(UsageError, match=r"two records of sampler_order/euler .*path=vp") as error:
            compare(*sides)
        assert cpu.cell.hash in str(error.value)
        assert again.cell.hash in str(error.value)


def test_a_comparison_names_what_each_side_was_measured_with(record):
    old = [record("a", commit="c" * 40, dirty=True, hardware="Z80"), record("b", commit="c" * 40, dirty=True)]
    result = compare(old, [record("a", commit="d" * 40, dirty=False), record("b", dirty=None)])
    first, second = result.baseline
    assert "commit cccccccccccc with changes, cpu Z80" in first
    assert "unknown model" in second
    assert "commit dddddddddddd, cpu" in result.candidate[0]
    assert "commit unknown (whether changed is unknown)" in result.candidate[1]
    assert result.as_dict()["baseline"] == result.baseline


def test_a_damaged_record_of_either_folder_fails(record, tmp_path):
    for name in ("a", "b"):
        store = Store(tmp_path / name).create()
        for key in ("one", "two"):
            store.write(record(key))
    assert hold(load(tmp_path / "a"), load(tmp_path / "b")).exit_code == 0
    file = store.records_folder / f"{record('two').cell.hash}.json"
    file.write_bytes(file.read_bytes().replace(b"1.0", b"1.5"))
    damaged = load(tmp_path / "b")
    for sides in ((damaged, load(tmp_path / "a")), (load(tmp_path / "a"), damaged), (damaged, damaged)):
        result = hold(*sides)
        assert result.exit_code == 1
        assert any(f.measure == "record" and "checksum" in f.why for f in result.judgements)
    with pytest.raises(UsageError, match="damaged records"):  # and it is no baseline for others
        bundle(Store(tmp_path / "b"))
    (store.records_folder / f"{record('one').cell.hash}.json").write_text("{")
    with pytest.raises(UsageError, match="2 damaged records and no other"):
        load(tmp_path / "b")


VALUES = st.sampled_from([0.0, 1.0, 1.01, 1.3, 5.0, math.nan, math.inf])
MEASURES = st.builds(
    measured, VALUES, st.sampled_from(["p", "q"]), direction=st.sampled_from(["lower", "higher", "target"]),
    extractor=st.sampled_from([None, None, "a@1"]), unit=st.sampled_from(["", "", "s"]),
    window=st.sampled_from([0.02, 9]), deterministic=st.sampled_from([True, True, True, False]),
)  # fmt: skip
ENDED = st.tuples(
    st.sampled_from(["ok", "ok", "ok", *ENDS[1:6]]), st.lists(MEASURES, max_size=2, unique_by=lambda m: m.name)
)
SIDES = st.dictionaries(st.sampled_from("abc"), ENDED, min_size=1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIDES, st.none() | SIDES, st.booleans())
def test_what_passes_has_lost_nothing(record, old, new, gate_timings):
    """Generated: where the gate passes, each measure of the baseline is there, declared alike and no worse."""

    def side(cells):
        with_measures = ("ok", "diverged")
        return Contents([record(key, status=status, measures=measures if status in with_measures else [], hardware="h")
                         for key, (status, measures) in cells.items()])  # fmt: skip

    before, after = side(old), side(old if new is None else old | new)
    result = hold(before, after, gate_timings=gate_timings)
    json.loads(json.dumps(result.as_dict()), parse_constant=pytest.fail)  # strict
    if result.exit_code:
        assert result.failures
        return
    now = {record.cell.key: record for record in after.records}
    assert any(m.deterministic or gate_timings for r in before.records for m in r.measures)
    for was in before.records:
        assert now[was.cell.key].status in ("ok", "skipped") or was.status not in ("ok", "skipped")
        for measure in was.measures:
            there = now[was.cell.key].measure(measure.name)
            if not measure.deterministic:
                assert there is not None or not gate_timings
                continue
            assert (there.extractor, there.unit, there.direction) == (
                measure.extractor,
                measure.unit,
                measure.direction,
            )
            change = there.value - measure.value
            if measure.value == there.value or not math.isfinite(measure.value):
                continue
            if abs(change) > 0.02 and min(measure.window, there.window) < 1:
                assert measure.direction != "target"
                assert (change < 0) == (measure.direction == "lower")


def test_no_task_s_window_lets_a_loss_of_more_than_two_percent_through():
    """Draws and seeds are fixed, so that another machine moves a measure by its last digits alone."""
    loose = {}
    for task in (entry.resolve() for entry in TASKS.values() if entry.source == "fidmap"):
        for measure in task.measures.values():
            verdict = task.measures.get(measure.name.removesuffix("_figure").removesuffix("_violation"))
            if measure.deterministic and measure.window > (0.1 if verdict is not measure else 0.02):
                loose[task.name, measure.name] = measure.window
            if verdict is not measure:  # the figure behind a yes or no, and that gates without a window
                assert (verdict.unit, verdict.window, verdict.floor) == ("yes/no", 0, 0)
    # Of the best rate of a grid, which may be another one on another machine.
    assert {task for task, _ in loose} <= {"iou_choice"}, loose

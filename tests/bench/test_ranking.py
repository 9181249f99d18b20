"""What `fidmap run quick` prints: few lines, an order that is that of the figures, and a word on what must be equal."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.plan.spec import RankingSpec
from bench.plan.suite import Suite, SuiteRun, find, read
from bench.records.bundle import load
from bench.records.record import Measurement
from bench.report.provenance import omissions
from bench.report.ranking import BEST, build_rankings, rank, summarize
from bench.report.select import lookup, select, show, split

BASELINE = Path(__file__).parent.parent.parent / "results" / "baselines" / "quick.json"
WIDTH = 80  # of a terminal that nobody has widened


@pytest.fixture(scope="module")
def stored():
    """The committed records of quick, and the suite as it is now."""
    contents = load(BASELINE)
    return contents, [SuiteRun(read(find("quick")), [record.cell.hash for record in contents.records])]


def test_a_newcomer_sees_at_most_60_lines(stored):
    contents, runs = stored
    text = "\n".join([summarize(contents.records, runs), *omissions(contents)])
    lines = sum(math.ceil(max(len(line), 1) / WIDTH) for line in text.splitlines())
    assert 20 < lines <= 60 - 5  # `fidmap run` says three lines on stderr, nox two
    assert all(len(line) <= WIDTH for line in text.splitlines() if line.startswith("|"))


def test_the_order_is_that_of_the_figures(stored):
    """Each ranking against the records: all entries, in order, the best marked, one sentence that says so."""
    contents, runs = stored
    (suite, _), rankings = runs[0], build_rankings(contents.records, runs)
    assert [spec.title in table.title for spec, table in zip(suite.ranking, rankings, strict=True)] == [True] * 3
    parts = [part for record in contents.records for part in split(record)]
    for spec, table in zip(suite.ranking, rankings, strict=True):
        column = spec.column[0]
        chosen = select(parts, column.task, column.where)
        values = {part.cell.entry: lookup(part, column.measure) for part in chosen}
        higher = chosen[0].measure(column.measure).direction == "higher"
        ranked = [row for row in table.rows if row[0]]
        shown = [values[row[1]] for row in ranked]
        assert sorted(values) == sorted(row[1] for row in ranked)
        assert shown == sorted(shown, reverse=higher)
        assert [row[2].split()[0] for row in ranked] == [show(value) for value in shown]
        assert [BEST in row[2] for row in ranked] == [value == shown[0] for value in shown]
        assert [row[0] == "1" for row in ranked] == [value == shown[0] for value in shown]
        assert table.notes[0].startswith(ranked[0][1])
        assert show(shown[0]) in table.notes[0]
        assert table.notes[0].count(".") - table.notes[0].count("0.") - table.notes[0].count("e+") <= 2
    assert any("equal on vp, edm and rectified_flow, as they must be" in note for note in rankings[0].notes)


def spec(**changes):
    column = {"title": "error", "task": "t", "measure": "error", "floor": "floor"}
    return RankingSpec(**{"name": "r", "title": "R", "equal_over": "path", "column": [column]} | changes)


@pytest.fixture
def cell(record):
    def make(entry, value, path="vp", direction="lower", seed=0, **changes):
        measures = [
            Measurement(name="error", value=value, direction=direction),
            Measurement(name="floor", value=0.5, direction="target"),
        ]
        fields = {"task": "t", "entry": entry, "parameters": {"path": path}, "measures": measures, "seed": seed}
        return record(f"{entry}{path}{seed}{changes}", **fields | changes)

    return make


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.5, 1e-7, math.nan]), min_size=1, max_size=6),
    st.sampled_from(["lower", "higher"]),
)
def test_entries_stand_in_the_order_of_their_values_and_equal_ones_share_a_rank(cell, values, direction):
    records = [cell(f"e{i}", value, direction=direction) for i, value in enumerate(values)]
    table = rank(spec(), records)
    finite = sorted((v for v in values if not math.isnan(v)), reverse=direction == "higher")
    if not finite:
        assert table is None
        return
    rows = table.rows[:-1]
    by_entry = {row[1]: row for row in rows}
    for i, value in enumerate(values):
        place = "-" if math.isnan(value) else str(1 + finite.index(value))
        assert by_entry[f"e{i}"][0] == place
    assert [row[2].split()[0] for row in rows[: len(finite)]] == [show(value) for value in finite]
    assert table.rows[-1] == ["", "exact draws", "0.5"]


def test_figures_that_must_be_equal_and_are_not_have_rows_of_their_own_and_are_named(cell):
    equal = [cell("a", 1.0, "vp"), cell("a", 1.0 + 1e-14, "edm"), cell("b", 2.0, "vp"), cell("b", 2.0, "edm")]
    table = rank(spec(), equal)
    assert [row[1] for row in table.rows[:-1]] == ["a", "b"]
    assert table.notes[1] == "Figures are equal on vp and edm, as they must be."
    for wrong in (2.001, math.nan):
        table = rank(spec(), [*equal[:3], cell("b", wrong, "edm")])
        assert [row[1] for row in table.rows[:-1]] == ["a", "b (vp)", "b (edm)"]
        assert table.notes[1] == "Figures of b differ over path (vp and edm), which they must not."


def test_what_did_not_end_well_is_said_and_ranked_last(cell):
    failed = cell("b", 0.0, status="failed", measures=[], error="as asked")
    table = rank(spec(), [failed, cell("a", 1.0)])
    assert table.rows[:-1] == [["1", "a", f"1 {BEST}"], ["-", "b", "failed"]]
    assert rank(spec(), [failed]) is None


def test_seeds_are_averaged_and_nothing_else_is(cell, capsys):
    two = [cell("a", 1.0, seed=0), cell("a", 2.0, seed=1)]
    assert rank(spec(), two).rows[0] == ["1", "a", f"1.5 {BEST}"]
    twice = [*two, cell("a", 9.0, seed=0, parameters={"path": "vp", "options": {"order": 3}})]
    suite = Suite(name="s", block=[{"task": "t"}], ranking=[spec()])
    assert summarize(twice, [SuiteRun(suite, [each.cell.hash for each in twice])]) == ""
    assert "ranking r: error has two records of a: narrow `where`; left out" in capsys.readouterr().err

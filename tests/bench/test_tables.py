"""Tables and pictures show what the records hold: values, spreads, floors, failures, and where they come from."""

import pytest
from safetensors.torch import save

from bench import plots, tables
from bench.store import Measured, Store
from bench.suite import Plan, PlotSpec, Suite, TableSpec


@pytest.fixture
def records(record):
    def cell(sampler, nfe, value, seed=0, **changes):
        measures = [Measured(name="error", value=value), Measured(name="floor", value=0.01, interval=(0.005, 0.015))]
        identity = {
            "measures": measures,
            "task": "t",
            "suite": "mine",
            "entry": sampler,
            "parameters": {"sampler": sampler, "nfe": nfe},
            "seed": seed,
        }
        return record(f"{sampler}{nfe}{seed}", **(identity | changes))

    return [
        cell("euler", 5, 0.5),
        cell("euler", 10, 0.25),
        cell("heun", 5, 0.1, seed=0),
        cell("heun", 5, 0.3, seed=1),
        cell("heun", 10, 0.0, measures=[], status="failed", error="as asked"),
    ]


SPEC = TableSpec(name="a", title="A", task="t", rows=["sampler"], columns="nfe", values=["error"], floor="floor")


def test_a_table_spreads_a_measure_over_a_parameter(records):
    table = tables.lay_out(SPEC, records)
    assert table.header == ["sampler", "nfe 5", "nfe 10"]
    assert table.rows == [
        ["euler", "0.5", "0.25"],
        ["heun", "0.2 ± 0.1414", "failed [1]"],
        ["floor (exact draws)", "0.01 [0.005, 0.015]", "0.01 [0.005, 0.015]"],
    ]
    assert table.notes == ["[1] as asked"]
    assert "| euler" in table.render("md")
    assert "\\toprule" in table.render("latex")


def test_records_that_no_suite_lays_out_get_a_table_of_their_task(records):
    suite = Suite(name="mine", block=[{"task": "t"}], table=[SPEC.model_copy(update={"where": {"sampler": "euler"}})])
    laid_out, rest = tables.build(records, [Plan(suite, [record.hash for record in records])])
    assert [row[0] for row in laid_out.rows] == ["euler", "floor (exact draws)"]
    assert {row[rest.header.index("entry")] for row in rest.rows} == {"heun"}


def test_a_contest_is_one_row_an_entry(record):
    measures = [Measured(name=f"{m}:{e}", value=v) for m, e, v in [("ms", "a", 1), ("ms", "b", 2), ("ratio", "b", 2)]]
    contest = record(kind="contest", entry="a,b", task="t", measures=measures)
    (table,) = tables.build([contest], [])
    assert table.header == ["entry", "ms", "ratio"]
    assert table.rows == [["a", "1", "-"], ["b", "2", "2"]]


def test_provenance_names_code_machine_seed_and_extractor(record):
    measure = Measured(name="fd", value=1.0, extractor="fmnist@abc", reference="def")
    one = record(measures=[measure], seed=4, commit="c" * 40, dirty=True)
    (line,) = tables.provenance([one], {one.environment: {"cpu": "Z80"}})
    for fact in ("fmnist@abc", "def", "seed 4", "cccc with changes", "Z80", "2026-01-01"):
        assert fact in line


@pytest.mark.parametrize("kind", ["line", "bar"])
def test_pictures_are_drawn(records, tmp_path, kind):
    spec = PlotSpec(
        name="p",
        title="P",
        task="t",
        kind=kind,
        x="nfe",
        y="error",
        series="sampler",
        log="xy",
        floor="floor",
        slopes=[1],
    )
    assert plots.draw(spec, Store(tmp_path), records).startswith(b"\x89PNG")
    assert plots.draw(spec, Store(tmp_path), records[-1:]) is None  # nothing that ended well


def test_pictures_of_arrays_read_what_is_kept_beside_the_record(record, tmp_path):
    import torch

    store = Store(tmp_path).create()
    kept = record(task="t", arrays=["curve"], hash="h")
    store.write(kept, save({"curve": torch.tensor([4.0, 2.0, 1.0])}))
    spec = PlotSpec(name="p", title="P", task="t", x="index", y="@curve")
    assert plots._points(spec, store, [kept]) == [(1, 4.0), (2, 2.0), (3, 1.0)]
    assert plots.draw(spec, store, [kept]).startswith(b"\x89PNG")


def test_a_mean_over_seeds_says_which_seeds_failed(records):
    records[3].status, records[3].error = "diverged", "not finite: error"
    table = tables.lay_out(SPEC, records)
    assert table.rows[1][1] == "0.1 of 1 of 2 seeds [1]"
    assert table.notes == ["[1] not finite: error", "[2] as asked"]


def test_only_seeds_are_averaged_over(records):
    """Records of one row and column that differ in a parameter: it becomes a row."""
    records[3].parameters["path"] = "vp"
    table = tables.lay_out(SPEC, records)
    assert table.header[:2] == ["sampler", "path"]
    assert ["heun", "vp", "0.3", "-"] in table.rows


def test_a_measure_of_yes_and_no_says_so(records):
    def answers(*values):
        for record, value in zip(records, values, strict=False):
            record.measures = [Measured(name="error", value=value, unit="yes/no")]
        spec = SPEC.model_copy(update={"floor": None})
        return tables.lay_out(spec, records)

    table = answers(1.0, 0.0, 1.0, 0.0)
    assert table.header == ["sampler", "nfe 5", "nfe 10"]
    assert table.rows == [["euler", "yes", "no"], ["heun", "yes for 1 of 2 seeds", "failed [1]"]]
    assert answers(1.0, 0.0, 0.0, 0.0).rows[1][1] == "no"
    (plain,) = tables.build(records[:2], [])
    assert plain.header[-1] == "error"  # its unit is in its cells


def test_a_table_of_the_best_names_it_and_what_it_cannot_be_told_from(record):
    def cell(entry, value, reach, direction="lower", options=None, **changes):
        measure = Measured(name="m", value=value, interval=(value - reach, value + reach), direction=direction)
        parameters = {"loss": entry, "options": options or {}, "situation": "apart"}
        return record(f"{entry}{options}", task="t", entry=entry, parameters=parameters, measures=[measure], **changes)

    spec = TableSpec(name="a", title="A", task="t", rows=["situation"], values=["m"], best=True)
    records = [cell("a", 3.0, 0.1), cell("b", 1.0, 0.5), cell("c", 1.2, 0.1, options={"k": 2}), cell("d", 1.6, 0.05)]
    table = tables.lay_out(spec, records)
    assert table.header == ["situation", "m"]
    assert table.rows == [["apart", "b 1; c k=2"]]  # d's interval begins at 1.55, b's ends at 1.5
    assert "overlaps" in table.notes[-1]
    higher = [cell(entry, value, 0.1, "higher") for entry, value in (("a", 1.0), ("b", 3.0), ("c", 2.9))]
    assert tables.lay_out(spec, higher).rows == [["apart", "b 3; c"]]
    lost = cell("a", 1.0, 0.1, status="diverged", error="not finite")
    assert tables.lay_out(spec, [lost]).rows == [["apart", "diverged [1]"]]
    beside = tables.lay_out(spec, [lost, cell("b", 1.0, 0.5)])
    assert beside.rows == [["apart", "b 1 [without 1]"]]
    assert "[1] not finite" in beside.notes
    crowd = [cell(entry, value, 9.0) for value, entry in enumerate("abcdefghij", 1)]
    assert tables.lay_out(spec, crowd).rows == [["apart", "a 1; b, c, d, e, f, g, 3 more"]]
    seeds = [cell("a", 1.0, 0.1), cell("a", 3.0, 0.1, seed=1), cell("b", 2.5, 0.1)]
    assert tables.lay_out(spec, seeds).rows == [["apart", "a 2; b"]]  # means over seeds; intervals from end to end

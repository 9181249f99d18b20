"""The pages of a report: sentences that follow from the records, contents that lead somewhere, long tables apart."""

import json
import re

import pytest

from bench.errors import UsageError
from bench.plan.spec import TableSpec
from bench.plan.suite import Suite, SuiteRun, find, read
from bench.records.bundle import load
from bench.records.record import Measurement
from bench.records.store import Contents, Store
from bench.report import tables
from bench.report.head import slug_of, summarize
from bench.report.pages import LONG, write_pages
from bench.report.save import find_runs, save
from tests.bench.test_ranking import BASELINE


@pytest.fixture
def cell(record):
    """Makes the record of a method at a budget: its error, better low, its time and whether it is right."""

    def make(entry, value, nfe=5, seed=0, ms=None, right=None, ratio=None, options=None, **changes):
        parameters = {"sampler": entry, "options": options or {}, "nfe": nfe}
        measures = [Measurement(name="error", value=value)]
        measures += [Measurement(name="ms", value=ms, unit="ms", deterministic=False)] if ms else []
        measures += [Measurement(name="right", value=right, unit="yes/no")] if right is not None else []
        measures += [Measurement(name="ratio", value=ratio, deterministic=False)] if ratio else []
        fields = {"suite": "mine", "task": "t", "kind": "plain", "entry": entry, "parameters": parameters, "seed": seed}
        return record(f"{parameters}{seed}", **fields | {"measures": measures} | changes)

    return make


def lay_out(records, **keys):
    given = {"name": "a", "title": "A", "task": "t", "rows": ["sampler"], "values": ["error"]} | keys
    return tables.lay_out(TableSpec(**given), records)


def bold(table):
    return {(table.rows[y][0], table.header[x]) for y, x in table.bold}


def test_a_table_knows_sort_best_and_top(cell):
    records = [cell("a", 3.0, ms=1.0), cell("b", 1.0, ms=2.0), cell("c", 2.0, ms=1.0)]
    table = lay_out(records, values=["error", "ms"], sort="error", best=True, top=2)
    assert [row[0] for row in table.rows] == ["b", "c"]
    assert bold(table) == {("b", "error"), ("c", "ms (ms)")}
    assert "**1**" in table.render()
    assert "2 of 3 rows; all are in measures.csv." in table.notes
    assert any(note.startswith("Bold: ") for note in table.notes)
    assert not lay_out(records, values=["error", "ms"]).bold
    assert [row[0] for row in lay_out(records, sort="sampler").rows] == ["a", "b", "c"]


def test_the_best_is_that_of_a_setting_and_ties_are_bold_too(cell):
    records = [cell("a", 1.0, 5), cell("b", 2.0, 5), cell("a", 5.0, 10), cell("b", 4.0, 10), cell("c", 9.0, 5)]
    rows = lay_out(records, rows=["sampler", "nfe"], best=True)
    assert {tuple(rows.rows[y][:2]) for y, _ in rows.bold} == {("a", "5"), ("b", "10")}
    spread = lay_out(records, columns="nfe", best=True, sort="nfe 10")
    assert [row[0] for row in spread.rows] == ["b", "a", "c"]
    assert bold(spread) == {("a", "nfe 5"), ("b", "nfe 10")}
    grouped = lay_out(records, rows=["nfe", "sampler"], sort="error", top=1)
    assert [row[:2] for row in grouped.rows] == [["5", "a"], ["10", "b"]]
    near = [cell("a", 1.0), cell("b", 1.1), cell("c", 9.0)]
    for one in near:
        one.measures[0].interval = (one.measures[0].value - 0.5, one.measures[0].value + 0.5)
    assert bold(lay_out(near, best=True)) == {("a", "error"), ("b", "error")}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"sort": "speed"}, "sort: 'speed' is no row or value of the table; there are sampler, error"),
        ({"says": ["speed"]}, "says: 'speed' is no value of the table; there are error"),
        ({"top": 0}, "top"),
        ({"best": "x"}, "best"),
    ],
)
def test_keys_that_name_nothing_are_errors_of_the_suite(tmp_path, keys, says):
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in keys.items())
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[[block]]\ntask = "sampler_order"\naxes.sampler = ["heun"]\n'
        '[[table]]\nname = "a"\ntitle = "A"\ntask = "sampler_order"\n'
        f'rows = ["sampler"]\nvalues = ["error"]\n{table}\n'
    )
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "mine.toml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sentences_follow_from_the_records(cell):
    records = [cell("a", 1.0, ratio=0.05855, right=1), cell("b", 2.0, ratio=1.0, right=0)]
    said = lay_out(records, values=["error", "ratio", "right"], says=["error", "ratio", "right"]).says
    assert said == (
        "a has the lowest error of 2 entries, 1; b follows with 2, 2 times as much.",
        "a is 17 times faster than b.",
        "right: yes for 1 of 2, no for b.",
    )
    turned = [cell("a", 2.0, ratio=1.0, right=1), cell("b", 1.0, ratio=4.0, right=1)]
    assert lay_out(turned, values=["error", "ratio", "right"], says=["error", "ratio", "right"]).says == (
        "b has the lowest error of 2 entries, 1; a follows with 2, 2 times as much.",
        "b is 4.0 times slower than a.",
        "right: yes for all 2.",
    )
    budgets = [cell(name, error * nfe, nfe) for name, error in (("a", 1.0), ("b", 2.0)) for nfe in (5, 10)]
    assert lay_out(budgets, columns="nfe", says=["error"]).says == (
        "a has the best error, alone or tied, in all 2 settings.",
    )
    assert lay_out([*budgets, cell("b", 1.0, 20), cell("a", 2.0, 20)], columns="nfe", says=["error"]).says == (
        "a has the best error, alone or tied, in 2 of 3 settings (nfe 5, nfe 10); b in 1.",
    )
    equal = [cell(name, 1.0 * nfe + (name == "c"), nfe) for name in "abc" for nfe in (5, 10)]
    assert lay_out(equal, columns="nfe", says=["error"]).says == (
        "a and b have the best error, alone or tied, in all 2 settings.",
    )


def test_a_ratio_of_times_whose_interval_holds_one_is_called_neither_faster_nor_slower(cell):
    records = [cell("a", 1.0, ratio=0.86), cell("b", 1.0, ratio=1.0), cell("c", 1.0, ratio=1.5)]
    records[0].measures[1].interval, records[2].measures[1].interval = (0.7, 1.1), (1.4, 1.6)
    said = lay_out(records, values=["ratio"], says=["ratio"]).says
    assert said == ("a is as fast as b and c is 1.5 times slower than b.",)
    many = [cell(name, 1.0, nfe, ratio=ratio) for nfe in range(6) for name, ratio in (("a", 0.86), ("b", 1.0))]
    for record in many[:4:2]:  # two of six settings are not told apart
        record.measures[1].interval = (0.7, 1.1)
    said = lay_out(many, rows=["nfe", "sampler"], values=["ratio"], says=["ratio"]).says
    assert said == ("4 of 6 are faster than what they are held to, most of all a than b (1.16 times faster).",)


def test_a_ratio_of_times_is_in_words_and_the_record_keeps_it(cell):
    records = [cell("a", 1.0, ratio=0.05855), cell("b", 2.0, ratio=1.0)]
    assert [row[1] for row in lay_out(records, values=["ratio"]).rows] == ["17 times faster", "the reference"]
    assert "0.05855" in tables.frame(records).to_csv()


def test_the_head_has_five_to_ten_sentences_in_any_case(cell):
    contents = load(BASELINE)
    runs = [SuiteRun(read(find("quick")), [record.cell.hash for record in contents.records])]
    said = summarize(contents, tables.build(contents.records, runs))
    assert 5 <= len(said) <= 10
    few = [cell("a", 1.0), cell("b", 2.0, status="failed", measures=[], error="as asked")]
    said = summarize(Contents(few), tables.build(few, []))
    assert said[0] == "2 cells of mine: 1 ended well, 1 failed (b)."
    assert said[1].startswith("The cells took 2 s; the slowest, t of ")
    assert len(said) == 5


def test_contents_lead_to_headings_and_long_tables_to_pages(cell):
    records = [cell(f"e{k}", 1.0 + k) for k in range(LONG + 1)]
    suite = Suite(name="mine", block=[{"task": "t"}], table=[
        {"name": "a", "title": "Long: one (of 2), & more", "task": "t", "rows": ["sampler"], "values": ["error"]},
        {"name": "b", "title": "Short", "task": "t", "where": {"sampler": ["e1", "e2"]}, "rows": ["sampler"],
         "values": ["error"]},
        {"name": "a", "title": "Short", "task": "t", "rows": ["sampler"], "values": ["error"]},
    ])  # fmt: skip
    built = tables.build(records, [SuiteRun(suite, [record.cell.hash for record in records])])
    pages = write_pages("mine", Contents(records), built, ["the foot"])
    assert set(pages) == {"tables.md", "tables/a.md", "tables/a-2.md"}
    main = pages["tables.md"]
    slugs, seen = [], {}
    for title in re.findall(r"^## (.*)$", main, re.MULTILINE):
        slug = slug_of(title)
        slugs.append(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    assert slugs == ["long-one-of-2--more", "short", "short-1"]
    assert re.findall(r"\]\(#([^)]*)\)", main) == slugs
    assert set(re.findall(r"\]\(([^#)]*)\)", main)) == {"tables/a.md", "tables/a-2.md"}
    assert main.count("\n| e") == 2
    assert pages["tables/a.md"].count("\n| e") == LONG + 1
    assert main.index("- 61 cells") < main.index("Contents:") < main.index("## Long")
    assert main.rstrip().endswith("the foot")


def test_a_report_is_the_same_made_twice_and_has_its_provenance_beside(cell, tmp_path):
    store = Store(tmp_path / "store").create()
    for one in (cell("a", 1.0, commit="c" * 40), cell("b", 2.0, commit="c" * 40)):
        store.write(one)
    first = {file.name: file.read_bytes() for file in save(Store(tmp_path / "store"), tmp_path / "report")}
    assert first == {file.name: file.read_bytes() for file in save(Store(tmp_path / "store"), tmp_path / "again")}
    assert "cccc" not in first["tables.md"].decode()
    assert "provenance.json" in first["tables.md"].decode().splitlines()[-1]
    assert "commit cccccccccccc" in json.loads(first["provenance.json"])["code"][0]


def test_a_suite_of_fidmap_is_laid_out_as_today_whatever_it_was_when_it_ran(record, tmp_path):
    """Its cells are those of its run; tables of tasks that it does not run, as a model's, stay."""
    store = Store(tmp_path).create()
    own = record("own", suite="quick")
    store.write(own)
    stale = {"name": "old", "title": "Old", "task": "sampler_order", "rows": ["sampler"], "values": ["order"]}
    other = stale | {"name": "model", "task": "model_quality"}
    suite = read(find("quick")).model_dump(mode="json") | {"table": [stale, other]}
    store.write_suite("quick", suite, [own.cell.hash])
    store.write_suite("metrics", {"name": "metrics", "colour": "red"}, [])
    runs = {run.suite.name: run for run in find_runs(Store(tmp_path))}
    names = [spec.name for spec in runs["quick"].suite.table]
    assert names == [*(spec.name for spec in read(find("quick")).table), "model"]
    assert runs["quick"].cells == [own.cell.hash]
    assert runs["metrics"].suite == read(find("metrics"))

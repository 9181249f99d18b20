"""The formats of a comparison hold the same verdicts, whatever the names hold; what is left out is not missing."""

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.records.choice import Choice
from bench.records.compare import compare
from bench.records.record import Measurement
from bench.records.store import Contents, Store
from bench.report.comparison import FORMATS, SHOWN, github, junit, markdown
from tests.conftest import _record

NASTY = st.text(
    st.sampled_from("ab|<>&\"'`*\\%:,;[]\n\r\t\x00\x1b\x7f\x85\u2028\u202e\ufffe\ud800é𝛼::]]>#"),
    min_size=1,
    max_size=12,
)


def measured(name="m", value=1.0, **changes):
    return Measurement(name=name, value=value, **({"window": 0.02} | changes))


def cell(key, *measures, **changes):
    return _record(key, measures=list(measures), **changes)


@settings(max_examples=200, deadline=None)
@given(NASTY, NASTY, NASTY, st.lists(st.sampled_from([0.5, 1.0, 2.0, None]), min_size=1, max_size=4), st.booleans())
def test_every_format_says_the_same_whatever_the_names_hold(entry, name, value, values, timing):
    """Generated: XML is well-formed with a case per judgement, an annotation is one line, a row has eight cells."""
    of = {"entries": [entry], "task": entry, "parameters": {value: value}}
    old = [cell(str(i), measured(name, deterministic=not timing), **of) for i in range(len(values))]
    new = [cell(str(i), measured(name, found, deterministic=not timing), **of)
           for i, found in enumerate(values) if found is not None]  # fmt: skip
    result = compare(Contents(old), Contents(new))
    failing = [one for one in result.judgements if one.fails]
    shown = {format: make(result, "base", "candidate") for format, make in FORMATS.items()}

    root = ElementTree.fromstring(junit(result, "base", "candidate"))
    (suite,) = root
    cases = [case for case in suite.findall("testcase") if case.get("name") != "gate"]
    assert len(cases) == len(result.judgements) == int(suite.get("tests")) - (not result.judged)
    assert len(suite.findall("*/failure")) == len(failing) + (not result.judged) == int(suite.get("failures"))
    assert len(suite.findall("*/skipped")) == int(suite.get("skipped"))
    passed = [case for case in cases if case.find("failure") is None and case.find("skipped") is None]
    assert len(passed) + len([one for one in failing if one.measured]) == result.judged
    assert bool(suite.findall("*/failure")) == bool(result.exit_code)
    assert shown["junit"].isascii()

    lines = shown["github"].split("\n")
    assert all(re.fullmatch(r"::(error|warning|notice) title=[^:,\r\n]*::[^\r\n]*", line) for line in lines)
    assert sum(line.startswith("::error") for line in lines) == len(failing) + bool(result.exit_code)
    assert not re.search("%(?!25|3A|2C)", shown["github"])

    rows = [line for line in shown["md"].split("\n") if line.startswith("|")][2:]
    assert len(rows) == sum(one.verdict != "same" for one in result.judgements)
    assert all(row.count("|") == 9 for row in rows)
    assert "<" not in shown["md"]
    assert json.loads(shown["json"])["exit_code"] == result.exit_code
    for format in ("text", "md", "github", "junit"):
        assert result.failures[0] in shown[format] if result.failures else "passes: " in shown[format]


def test_an_annotation_is_escaped_as_github_documents():
    old, new = cell("k", measured("a: 50 %, b\n::error::c", 1.0)), cell("k", measured("a: 50 %, b\n::error::c", 2.0))
    _, line = github(compare(Contents([old]), Contents([new])), "", "").split("\n")
    title, _, message = line.removeprefix("::error title=").partition("::")
    assert title == "worse%3A sampler_order/euler a%3A 50 %25%2C b %3A%3Aerror%3A%3Ac"
    assert message.startswith("worse ")
    assert "a: 50 %25, b ::error::c: 1 -> 2" in message


def test_a_failure_is_told_by_name_in_every_format():
    old = Contents([cell("k", measured("order", 2.0, direction="target")), cell("gone", measured("order"))])
    result = compare(old, Contents([cell("k", measured("order", 1.0, direction="target"))]))
    case = ElementTree.fromstring(junit(result, "", ""))[0][0]
    assert (case.get("classname"), case.get("name")) == ("sampler_order", "euler [path=vp, seed=0] order")
    assert case[0].get("message") == "worse: 2 -> 1 (outside its window of 0.04)"
    assert "euler [path=vp, seed=0] order: 2 -> 1" in case[0].text
    for format in ("text", "md", "github"):
        shown = FORMATS[format](result, "a", "b")
        assert "1 worse; 1 missing" in shown
        assert "the candidate has no such cell" in shown


def test_a_gate_that_judged_nothing_is_a_failure_in_every_format():
    timing = Contents([cell("k", measured(deterministic=False))])
    result = compare(timing, timing)
    assert result.exit_code == 1
    (gate,) = ElementTree.fromstring(junit(result, "", "")).iterfind(".//failure/..")
    assert gate.get("name") == "gate"
    for format in FORMATS:
        assert "no measure was judged" in FORMATS[format](result, "", "")


def test_a_long_table_says_how_many_rows_it_lacks():
    old = Contents([cell(str(i), measured()) for i in range(SHOWN + 3)])
    shown = markdown(compare(old, Contents([cell(str(i), measured(value=9.0)) for i in range(SHOWN + 3)])), "", "")
    assert sum(line.startswith("| worse") for line in shown.split("\n")) == SHOWN
    assert "- 3 more are in" in shown


# By cell: task, entry, and its measures in the baseline and in the candidate; None: no such cell.
MEASURES = st.dictionaries(st.sampled_from("mn"), st.sampled_from([1.0, 2.0]), min_size=1)
CELLS = st.lists(
    st.tuples(st.sampled_from(["t", "u"]), st.sampled_from(["a", "b"]),
              *[st.none() | st.just("failed") | MEASURES] * 2),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(CELLS, st.sampled_from([None, "t/a", "*/b/*"]), st.sampled_from([(), ("m",), ("m", "n")]))
def test_a_choice_judges_what_it_chooses_as_the_whole_does_and_nothing_else(cells, only, measures):
    """Generated: the judgements of a choice are those of the whole on the chosen cells and measures."""

    def side(column):
        rows = [(i, *row[:2], row[column]) for i, row in enumerate(cells) if row[column] is not None]
        records = []
        for i, task, entry, found in rows:
            measures = [] if found == "failed" else [measured(*each) for each in found.items()]
            status = {"status": "failed"} if found == "failed" else {}
            records.append(cell(str(i), *measures, task=task, entries=[entry], parameters={"i": i}, **status))
        return Contents(records)

    old, new = side(2), side(3)
    if not [*old.records, *new.records]:
        return
    whole = compare(old, new)
    try:
        result = compare(old, new, choice=Choice(only, measures))
    except UsageError as error:
        said = str(error)
        assert "--only" in said or "--measure" in said
        return
    chosen = [
        one for one in whole.judgements if only is None or only.strip("*/") in (f"{one.task}/{one.entry}", one.entry)
    ]
    of_measures = [one for one in chosen if one.measure in (measures or ("m", "n"))]
    of_cells = [one for one in chosen if one.measure not in ("m", "n")]
    assert [one for one in result.judgements if one.measure in ("m", "n")] == of_measures
    others = [one for one in result.judgements if one.measure not in ("m", "n")]
    assert [one for one in of_cells if one in others] == others
    tasks = {row[0] for row in cells for found in row[2:] if isinstance(found, dict) and set(found) & set(measures)}
    for one in of_cells:  # a cell that has a chosen measure on a side, or that failed where others of its task have one
        sides = cells[int(re.search(r"i=(\d+)", one.cell)[1])][2:]
        has = any(isinstance(found, dict) and set(found) & set(measures) for found in sides)
        fallen = "failed" in sides and one.task in tasks
        assert (one in others) == (not measures or has or fallen)


def test_a_damaged_record_is_left_out_only_where_its_name_is_known():
    old = Contents([cell("k", measured()), cell("other", measured(), entries=["heun"])])
    broken = Contents([old.records[0]], damaged={old.records[1].cell.hash: "torn"})
    assert compare(old, broken, choice=Choice("euler")).exit_code == 0
    assert compare(old, broken, choice=Choice("heun")).exit_code == 1
    unknown = Contents(old.records, damaged={"f" * 16: "torn"})
    assert compare(old, unknown, choice=Choice("euler")).exit_code == 1


@pytest.fixture
def stores(tmp_path):
    for name, value in (("base", 1.0), ("worse", 2.0)):
        store = Store(tmp_path / name).create()
        store.write(cell("k", measured("order", value), measured("error", 1.0)))
        store.write(cell("other", measured("order", 1.0), entries=["heun"]))


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 1, "fails: 1 worse"),
        (["--only", "heun"], 0, "passes: 1 measures"),
        (["--measure", "error"], 0, "passes: 1 measures"),
        (["--measure", "error", "--measure", "order"], 1, "1 worse"),
        (["--only", "euler", "--measure", "order"], 1, "1 worse"),
        (["--format", "json"], 1, '"exit_code": 1'),
        (["--json"], 1, '"exit_code": 1'),
        (["--json", "--format", "json"], 1, '"exit_code": 1'),
        (["--format", "junit"], 1, "<failure"),
        (["--format", "md"], 1, "## fidmap compare: fails: 1 worse"),
        (["--format", "github"], 1, "::error title="),
        (["--format", "html"], 2, "text, json, junit, github, md"),
        (["--format", "md", "--json"], 2, "one of them"),
        (["--only", "nothing*"], 2, "matches none of 4 cells"),
        (["--measure", "ordr"], 2, "there are order, error"),
        (["--only", "heun", "--measure", "error"], 2, "there are order"),
    ],
    ids=str,
)  # fmt: skip
def test_options_of_compare(stores, command, monkeypatch, options, code, says):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    ended, printed, said = command("compare", "base", "worse", *options)
    assert ended == code
    assert says in (said if code == 2 else printed)
    if code == 2:
        assert (printed, said.count("\n")) == ("", 1)


def test_github_s_summary_is_appended_and_one_that_cannot_be_written_is_one_line(
    stores, command, tmp_path, monkeypatch
):  # fmt: skip
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for _ in range(2):
        assert command("compare", "base", "worse", "--format", "github")[0] == 1
    assert summary.read_text().startswith("before\n## fidmap compare: fails: 1 worse\n")
    assert summary.read_text().count("| worse") == 2
    assert command("compare", "base", "worse")[0] == 1  # in no other format
    assert summary.read_text().count("| worse") == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    code, printed, said = command("compare", "base", "worse", "--format", "github")
    assert (code, said.count("\n")) == (2, 1)
    assert "::error" in printed

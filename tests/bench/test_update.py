"""`compare --update`: the baseline then passes, small changes do not add up, and nothing is lost or half written."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records import update
from bench.records.bundle import bundle, load
from bench.records.choice import Choice
from bench.records.compare import FAILS, compare
from bench.records.store import Store
from tests.bench.test_merge import content, of, store_of
from tests.conftest import name_of

ENTRIES = {"a": "euler", "b": "euler", "c": "heun", "d": "heun"}


def cell(key, value=1.0, version=0, **changes):
    return of(key, value, f"{key} {version}", entry=ENTRIES[key], parameters={"key": key}, **changes)


def keep(path, folder):
    """The baseline of a folder: the folder, or a file of its records."""
    if path == "store":
        return folder
    file = folder.with_suffix(".json")
    file.write_text(bundle(Store(folder)))
    return file


def renew(path, folder, only=None):
    """Update a baseline with a folder, as the command does."""
    old, new, choice = update.load_baseline(path), load(folder), Choice(only)
    return update.prepare(path, old, folder, new, choice).write()


SIDE = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(st.sampled_from([1.0, 1.005, 3.0]), st.sampled_from([0, 0, 1]), st.integers(0, 2)), min_size=1,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(SIDE, SIDE, st.sampled_from(["store", "file"]), st.sampled_from([None, "/euler/"]))
def test_afterwards_the_comparison_passes_and_the_rest_is_as_it_was(tmp_path_factory, old, new, kind, only):
    """Generated: baselines and candidates, of other source and of other times, as folders and as files."""
    root = tmp_path_factory.mktemp("update")
    sides = [
        store_of(root / name, *(cell(key, value, version, year=year, arrays=["a"])
                                for key, (value, version, year) in side.items())).folder
        for name, side in (("base", old), ("candidate", new))
    ]  # fmt: skip
    base, candidate = keep(kind, sides[0]), sides[1]
    before = {record.cell.key: record for record in load(base).records}
    if only and not any(ENTRIES[key] == "euler" for key in new):
        return
    renew(base, candidate, only)
    after = {record.cell.key: record for record in load(base).records}
    result = compare(load(base), load(candidate), choice=Choice(only))
    assert {one.verdict for one in result.judgements} <= {"same"}
    for key, entry in ENTRIES.items():
        name, chosen = name_of(key), only is None or entry == "euler"
        if not chosen:
            assert after.get(name) == before.get(name)
        elif key not in new:
            assert name not in after
        elif name in before and abs(before[name].value("order") - new[key][0]) < 0.02:
            assert after[name] == before[name]  # the same within its window: small changes do not add up
        else:
            assert after[name].value("order") == new[key][0]
            assert after[name].cell.hash == name_of(f"{key} {new[key][1]}")
    if kind == "store":
        assert all(Store(base).holds(record.cell.hash) for record in after.values())
        assert all(record.environment in Store(base).environments() for record in after.values())
    once = content(root)
    assert renew(base, candidate, only).startswith("left as it is")
    assert content(root) == once


def test_many_small_changes_do_not_add_up(tmp_path):
    base = keep("file", store_of(tmp_path / "base", cell("a", 1.0)).folder)
    values = []
    for step in range(1, 9):
        folder = store_of(tmp_path / str(step), cell("a", 1.0 - 0.015 * step, version=step)).folder
        result = compare(load(base), load(folder))
        renew(base, folder)
        values.append((load(base).records[0].value("order"), result.exit_code))
    assert [code for _, code in values] == [0, 1, 0, 1, 0, 1, 0, 1]  # each time that the sum leaves the window


@pytest.fixture
def stores(tmp_path):
    """A baseline, as a folder and as a file, and a candidate: one cell is worse, one is new, one is gone."""
    store_of(tmp_path / "base", cell("a"), cell("b"), cell("c"))
    keep("file", tmp_path / "base")
    store_of(tmp_path / "new", cell("a"), cell("b", 3.0, version=1, arrays=["a"]), cell("d"))
    return tmp_path


@pytest.mark.parametrize("base", ["base", "base.json"])
def test_the_command_shows_what_changes_and_writes_it(stores, command, base):
    code, printed, said = command("compare", base, "new", "--update")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines() if "[" in line] == ["worse", "missing", "new"]
    assert f"wrote: {base}: 1 cells new, 1 cells changed, 1 cells removed, 1 cells as before" in said
    code, printed, _ = command("compare", base, "new")
    assert code == 0
    assert "passes: 3 measures judged" in printed
    assert command("table", "--out", "base" if base == "base" else "new")[0] == 0
    assert "left as it is" in command("compare", base, "new", "--update", "--format", "md")[2]


def test_a_file_that_is_not_there_is_made_as_fidmap_table_makes_it(stores, command):
    code, _, said = command("compare", "first.json", "new", "--update")
    assert code == 0, said
    assert "3 cells new" in said
    _, printed, _ = command("table", "--out", "new", "--format", "json")
    made, table = json.loads((stores / "first.json").read_text()), json.loads(printed)
    assert made == table
    assert made["environments"]


def test_a_store_of_several_suites_shows_each_with_its_own_cells(stores, command):
    """Those of another suite go where the candidate has none of it, and stay where --only does not choose them."""
    other = cell("d", 1.0, suite="other")
    Store(stores / "base").write(other)
    Store(stores / "base").write_suite("other", {"name": "other"}, [other.cell.hash, other.cell.hash[::-1]])
    assert command("compare", "base", "new", "--update", "--only", "euler")[0] == 0
    shown = {name: suite.cells for name, suite in Store(stores / "base").suites().items()}
    assert shown["s"] == [cell("a").cell.hash, cell("b", version=1).cell.hash, cell("c").cell.hash]
    assert [r.cell.suite for r in Store(stores / "base").records()] == ["other"] + ["s"] * 3
    assert command("compare", "base", "new", "--update")[0] == 0
    assert {name: len(suite.cells) for name, suite in Store(stores / "base").suites().items()} == {"other": 0, "s": 3}
    assert command("table", "--out", "base")[0] == 0


@pytest.mark.parametrize("base", ["base", "base.json"])
@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        ("record", [], "damaged records"),
        ("arrays", [], "damaged records"),
        ("absent", [], "1 of 4 cells of s have no record"),
        ("failed", [], "has the status timeout"),
        ("empty", [], "holds no records"),
        ("gone", [], "there is no new"),
        ("", ["--only", "heun/key=c"], "matches no cell of new"),
        ("", ["--only", "nothing"], "matches none of"),
        ("", ["--measure", "order"], "not with --measure"),
        ("", ["--format", "xml"], "--format"),
    ],
)
def test_nothing_is_written_where_the_candidate_is_not_fit(stores, command, base, spoil, arguments, says):
    new = Store(stores / "new")
    one = cell("b", version=1).cell.hash
    if spoil == "record":
        (stores / "new" / "records" / f"{one}.json").write_text("{")
    elif spoil == "arrays":
        (stores / "new" / "arrays" / f"{one}.safetensors").unlink()
    elif spoil == "absent":
        suite = new.suites()["s"]
        new.write_suite("s", suite.suite, [*suite.cells, "0" * 16], [*suite.keys, "0" * 16])
    elif spoil == "failed":
        new.write(cell("a", status="timeout", measures=[]))
    elif spoil == "empty":
        for file in (stores / "new").rglob("*.json"):
            file.unlink()
    elif spoil == "gone":
        (stores / "new").rename(stores / "old")
    before = content(stores)
    code, printed, said = command("compare", base, "new", "--update", *arguments)
    assert (code, printed) == (2, "")
    assert says in said.splitlines()[-1]
    assert content(stores) == before


@pytest.mark.parametrize("base", ["base", "base.json"])
def test_an_update_that_is_interrupted_leaves_the_old_baseline_or_the_new(stores, command, interrupted, base):
    """Killed at each of its writes: what is shown is whole, and the repetition completes the update."""
    old = load(stores / base).records
    for last in range(20):
        with interrupted(after=last):
            code = command("compare", base, "new", "--update")[0]
        assert not list(stores.rglob("*.tmp"))
        if code == 0:
            break
        assert code == 130
        assert load(stores / base).records == old
    assert last >= {"base": 3, "base.json": 1}[base]  # a repetition does not write again what is there
    assert not set(compare(load(stores / base), load(stores / "new")).counts) & set(FAILS)


def test_a_baseline_that_cannot_be_written_is_one_line(stores, command, monkeypatch):
    def full(descriptor):
        raise OSError(28, os.strerror(28))

    before = content(stores)
    monkeypatch.setattr(os, "fsync", full)
    code, _, said = command("compare", "base.json", "new", "--update")
    assert (code, said.count("\n")) == (2, 1)
    assert "what was stored before is kept" in said
    assert content(stores) == before


def test_a_damaged_record_of_the_baseline_is_set_aside_where_the_whole_is_renewed(stores, command):
    file = stores / "base" / "records" / f"{cell('c').cell.hash}.json"
    file.write_text("{")
    assert command("compare", "base", "new", "--update", "--only", "euler")[0] == 0
    assert file.exists()
    assert command("compare", "base", "new")[0] == 1
    assert command("compare", "base", "new", "--update")[0] == 0
    assert (stores / "base" / "aside" / file.name).exists()
    assert command("compare", "base", "new")[0] == 0

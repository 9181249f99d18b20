"""Merging: a union that depends on neither order nor repetition, loses nothing, and names what is in conflict."""

import json
from itertools import pairwise, permutations, product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from bench.plan.cells import expand
from bench.plan.shard import Shard
from bench.plan.suite import read as read_suite
from bench.records import source
from bench.records.bundle import bundle
from bench.records.guests import find_earlier
from bench.records.merge import interleave, merge
from bench.records.store import Store
from bench.report import tables
from bench.report.save import find_runs
from bench.report.select import split_all
from tests.conftest import _record, name_of

STARTED = [f"202{year}-01-01T00:00:00" for year in range(3)]


def store_of(folder, *records, plan=None, name="s", suite=None):
    """A store with these records, and a plan of them where there is none given."""
    store = Store(folder).create()
    for record in records:
        environment = store.write_environment({"cpu": record.version})
        record = record.model_copy(update={"environment": environment})
        store.write(record, save({"a": torch.tensor([record.measures[0].value])}) if record.arrays else None)
    cells = [(record.cell.hash, record.cell.key) for record in records if record.cell.suite == name]
    for hash_, key in plan or []:
        cells.append((name_of(hash_), name_of(key)))
    store.write_suite(name, suite or {"name": name}, [cell for cell, _ in cells], [key for _, key in cells])
    return store


def content(folder):
    """All files of a folder with their bytes and times."""
    return {
        file.relative_to(folder): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file()
    }


def of(key, value=1.0, hash_=None, year=0, **changes):
    return _record(key, value, STARTED[year], hash=hash_ or f"{key} hash", **changes)


RECORDS = st.builds(
    lambda key, version, value, year, status, arrays: of(
        key, value, f"{key} {version}", year, status=status, arrays=["a"] if arrays and status == "ok" else []
    ),
    st.sampled_from("abc"), st.sampled_from([0, 0, 1]), st.sampled_from([1.0, 2.0]), st.integers(0, 2),
    st.sampled_from(["ok", "ok", "failed", "diverged"]), st.booleans(),
)  # fmt: skip
STORES = st.lists(st.lists(RECORDS, max_size=4, unique_by=lambda r: r.cell.key), min_size=1, max_size=3)


def _merit(fields):
    return fields["status"] != "failed", len(fields["arrays"]), fields["started_at"]


@settings(max_examples=15, deadline=None)
@given(STORES)
def test_the_union_depends_neither_on_order_nor_on_repetition(tmp_path_factory, stores):
    """Generated: every order of the sources, at once or one after another, twice, or in groups, gives one store."""
    root = tmp_path_factory.mktemp("stores")
    sources = [source.read(store_of(root / str(i), *records).folder) for i, records in enumerate(stores)]
    results = []
    for number, order in enumerate(permutations(sources)):
        for how in ("at once", "one by one", "grouped"):
            store = Store(root / f"{number} {how}")
            groups = {"at once": [order], "one by one": [[one] for one in (*order, *order)],
                      "grouped": [order[1:], order]}[how]  # fmt: skip
            for group in groups:
                merge(list(group), store)
            before = content(store.folder)
            merge(list(order), store)
            assert content(store.folder) == before
            contents = Store(store.folder).contents()
            shown = {(r.cell.key, r.model_dump_json()) for r in contents.records}
            results.append((shown, {r.model_dump_json() for r in [*contents.records, *contents.left_out]}))
            assert len({key for key, _ in shown}) == len(shown)  # a cell is shown once
    assert all(found == results[0] for found in results)
    hashes = {record.cell.hash for records in stores for record in records}
    assert {json.loads(record)["cell"]["hash"] for record in results[0][1]} == hashes
    kept = [json.loads(record) for record in results[0][1]]
    for _, text in results[0][0]:  # of a cell's several hashes, as of two sources, the best record is shown
        one = json.loads(text)
        rivals = [r for r in kept if r["cell"]["key"] == one["cell"]["key"]]
        assert _merit(one) == max(map(_merit, rivals))
    for hash_ in hashes:  # what is kept is the best of all: it ended well, has its arrays, is the newest
        every = [r for records in stores for r in records if r.cell.hash == hash_]
        best = max((r.status != "failed", len(r.arrays), r.started_at) for r in every)
        kept = Store(store.folder).get(hash_)
        assert (kept.status != "failed", len(kept.arrays), kept.started_at) == best
        if kept.arrays:
            assert Store(store.folder).arrays(kept)["a"].tolist() == [kept.value("order")]
        assert kept.environment in Store(store.folder).environments()


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_interleaving_keeps_the_first_order_and_puts_others_behind_their_predecessor(first, second):
    merged = interleave(first, second)
    assert sorted(merged) == sorted({*first, *second})
    assert [one for one in merged if one in first] == first
    for before, one in pairwise(second):
        if one not in first:
            assert merged[: merged.index(one)].count(before) == 1
    assert interleave(first, first) == first


def test_a_plan_without_keys_is_merged_by_the_keys_of_its_records(tmp_path):
    """Plans of older versions have none; a cell of other source or another machine is then still one cell."""
    old, new = store_of(tmp_path / "old", of("a", 1.0, "1")), store_of(tmp_path / "new", of("a", 2.0, "2", year=1))
    file = old.folder / "suites" / "s.json"
    plan = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("keys", "checksum")}
    file.write_text(json.dumps(plan))
    merged = Store(tmp_path / "merged")
    merge([source.read(old.folder), source.read(new.folder)], merged)
    assert [record.value("order") for record in merged.records()] == [2.0]
    assert merged.contents().absent["s"] == (0, 1)


def test_a_cell_that_another_machine_was_to_run_is_not_missing(tmp_path):
    """Each shard plans all cells with its own machine's hashes; of a cell that one of them ran, none is absent."""
    one = store_of(tmp_path / "one", of("a", hash_="a on 1"), plan=[("b on 1", "b")])
    other = store_of(tmp_path / "other", of("b", hash_="b on 2"), plan=[("a on 2", "a")])
    merged = Store(tmp_path / "merged")
    merge([source.read(one.folder), source.read(other.folder)], merged)
    assert merged.contents().absent["s"] == (0, 2)
    assert [record.cell.key for record in merged.records()] == [name_of("a"), name_of("b")]


@pytest.fixture
def stores(tmp_path):
    """Stores and files: ``a`` and ``b`` agree in one cell and contradict each other in another."""
    store_of(tmp_path / "a", of("same"), of("other", 1.0), of("mine", arrays=["a"]), of("fell", status="failed"))
    store_of(tmp_path / "b", of("same", year=1), of("other", 2.0, year=1), of("fell", year=1))
    (tmp_path / "a.json").write_text(bundle(Store(tmp_path / "a")))
    (tmp_path / "text").write_text("no JSON")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_conflicts_are_named_with_what_is_kept(stores, command):
    code, printed, said = command("import", "a", "b", "--out", "c")
    assert (code, printed) == (1, "")
    conflicts = [line for line in said.splitlines() if line.startswith("conflict: ")]
    assert len(conflicts) == 2
    assert "euler/path=vp,seed=0" in conflicts[0]
    assert "order 2.0 and 1.0; kept is b of 2021" in conflicts[0]
    assert "status ok and failed; kept is b" in conflicts[1]
    assert "c: 4 new, 0 replaced, 0 there already; 1 cells were measured more than once, with equal results" in said
    values = {record.cell.key: (record.value("order"), record.status) for record in Store(stores / "c").records()}
    assert values[name_of("other")] == (2.0, "ok")
    assert values[name_of("fell")] == (1.0, "ok")
    before = content(stores / "c")
    assert command("import", "b", "a", "--out", "c")[0] == 1
    assert content(stores / "c") == before


def test_a_bundle_gives_its_records_without_arrays_and_takes_none_away(stores, command):
    assert command("import", "a.json", "--out", "c")[0] == 0
    (record,) = [record for record in Store(stores / "c").records() if record.cell.key == name_of("mine")]
    assert record.arrays == []
    assert command("import", "a", "--out", "c")[0] == 0
    assert command("import", "a.json", "--out", "c")[0] == 0
    (record,) = [record for record in Store(stores / "c").records() if record.cell.key == name_of("mine")]
    assert Store(stores / "c").arrays(record)["a"].tolist() == [1.0]


@pytest.mark.parametrize("kind", ["records", "arrays"])
def test_what_is_damaged_is_named_and_left_out_and_the_rest_is_merged(stores, command, kind):
    hash_ = of("mine").cell.hash
    (file,) = (stores / "a" / kind).glob(f"{hash_}.*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + b"damaged!}")
    code, _, said = command("import", "a", "--out", "c")
    assert code == 1
    assert f"left out: a: {hash_} is damaged" in said
    assert len(Store(stores / "c").records()) == 3
    assert Store(stores / "c").contents().absent["s"] == (1, 4)
    file.write_bytes(whole)
    assert command("import", "a", "--out", "c")[0] == 0
    assert len(Store(stores / "c").records()) == 4


@pytest.mark.parametrize("reverse", [False, True])
def test_records_of_one_hash_in_one_file_are_named_as_those_of_two_files_are(stores, command, reverse):
    bundled = json.loads(bundle(Store(stores / "a")))
    first = bundled["records"][0]
    other = json.loads(json.dumps(first))
    other["measures"][0]["value"] += 1
    other["started_at"] = "2019-01-01T00:00:00"
    bundled["records"].insert(0 if reverse else 1, other)
    (stores / "both.json").write_text(json.dumps(bundled))
    code, _, said = command("import", "both.json", "--out", "c")
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("conflict: ")]
    assert first["cell"]["hash"] in line
    assert "kept is both.json of " + first["started_at"] in line
    assert "left out both.json of 2019-01-01T00:00:00" in line
    kept = Store(stores / "c").get(first["cell"]["hash"])
    assert kept.measures[0].value == first["measures"][0]["value"]


def test_an_import_that_is_interrupted_is_completed_by_its_repetition(stores, command, interrupted):
    """Killed at each of its writes in turn: the store can always be read, and the repetition gives the whole."""
    assert command("import", "a", "--out", "whole")[0] == 0
    whole = {name: bytes_ for name, (bytes_, _) in content(stores / "whole").items()}
    for last in range(len(whole)):
        with interrupted(after=last):
            assert command("import", "a", "--out", f"c{last}")[0] == 130
        for record in Store(stores / f"c{last}").records():
            assert Store(stores / f"c{last}").holds(record.cell.hash) or record.status == "failed"
        assert command("import", "a", "--out", f"c{last}")[0] == 0
        assert {name: bytes_ for name, (bytes_, _) in content(stores / f"c{last}").items()} == whole


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import"], ["FILE|STORE"]),
        (["import", "a"], ["--out"]),
        (["import", "a", "nothing", "--out", "c"], ["there is no nothing", "pytest-benchmark"]),
        (["import", "a", "empty", "--out", "c"], ["empty holds no records"]),
        (["import", "a", "text", "--out", "c"], ["text", "fidmap table --format json"]),
        (["import", "a", "list.json", "--out", "c"], ["list.json", "pytest-benchmark"]),
        (["import", "a", "b", "--out", "text"], ["text is a file"]),
        (["run", "quick", "--shard", "0/5"], ["--shard '0/5'", "as 2/5"]),
        (["run", "quick", "--shard", "6/5"], ["6/5"]),
        (["run", "quick", "--shard", "2"], ["K/N"]),
        (["run", "quick", "--shard", "a/b"], ["a/b"]),
        (["run", "quick", "--shard", "-1/5"], ["-1/5"]),
        (["run", "quick", "--shard", "1/0"], ["1/0"]),
        (["run", "quick", "--shard", "\u0661/5"], ["K/N"]),
    ],
    ids=str,
)  # fmt: skip
def test_errors_of_use_are_one_line_and_nothing_is_written(stores, command, arguments, says):
    before = content(stores)
    code, printed, said = command(*arguments)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    for word in says:
        assert word in said
    assert content(stores) == before
    assert not (stores / "c").exists()


PLAIN = """
name = "small"
[[block]]
task = "iou_gradient"
settings = { points = 4 }
axes = { loss = ["giou", "diou", "ciou"], options = [{}, { eps = 1e-6 }] }
exclude = [{ match = { loss = "ciou", options = {} }, reason = "for show" }]
"""
CONTEST = """
[[block]]
task = "nms_speed"
settings = { boxes = 10, nms = ["hard", "matrix"] }
seeds = [0, 1]
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(PLAIN)
    return tmp_path / "small.toml"


def test_every_cell_is_in_one_shard_whatever_else_is_selected(small):
    """Contests whole, sizes that differ by one at most, whatever the order of the blocks."""
    small.write_text(PLAIN + CONTEST)
    cells = expand(read_suite(small))
    assert {cell.identity.kind for cell in cells} == {"plain", "contest"}
    for count in (1, 2, 5, 8, 100):
        shards = [Shard(index, count).take(cells, cells) for index in range(1, count + 1)]
        assert sorted(cell.name for shard in shards for cell in shard) == sorted(cell.name for cell in cells)
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        for shard, chosen in product(shards, (cells[::2], cells[:3], cells[::-1])):
            index = shards.index(shard) + 1
            assert Shard(index, count).take(chosen, cells[::-1]) == [cell for cell in chosen if cell in shard]


def test_five_shards_merged_are_the_unsharded_store(small, command, tmp_path):
    """Bit for bit in deterministic measures, and in the same order; the fifth shard has one cell, the first two."""
    assert command("run", "small.toml", "--jobs", "1", "--out", "whole")[0] == 0
    for index in range(1, 6):
        code, _, said = command("run", "small.toml", "--jobs", "1", "--shard", f"{index}/5", "--out", f"part {index}")
        assert code == 0, said
    parts = [f"part {index}" for index in range(5, 0, -1)]
    code, _, said = command("import", *parts, "--out", "merged")
    assert code == 0, said
    assert [len(Store(tmp_path / part).records()) for part in parts] == [1, 1, 1, 1, 2]
    whole, merged = Store(tmp_path / "whole"), Store(tmp_path / "merged")
    assert whole.suites()["small"] == merged.suites()["small"]
    assert merged.contents().absent == {"small": (0, 6)}
    for one, other in zip(whole.records(), merged.records(), strict=True):
        assert (one.cell, one.status, one.error) == (other.cell, other.status, other.error)
        assert one.model_dump_json(include={"measures", "arrays", "arrays_hash"}) == other.model_dump_json(
            include={"measures", "arrays", "arrays_hash"}
        )
        assert all(measure.deterministic for measure in one.measures)
    assert sum(len(record.measures) for record in whole.records()) > 10
    assert "6 cells, 0 to run" in command("run", "small.toml", "--dry-run", "--out", "merged")[2]


def test_a_shard_of_nothing_is_no_error(small, command, tmp_path):
    """Neither under --only, where all shards together list what one run would, nor in a run."""
    listed = [command("run", "small.toml", "--shard", f"{i}/9", "--only", "giou", "--dry-run") for i in range(1, 10)]
    assert {code for code, _, _ in listed} == {0}
    names = [line for _, printed, _ in listed for line in printed.splitlines()]
    assert len(names) == len(set(names)) == 2
    code, _, said = command("run", "small.toml", "--shard", "9/9", "--out", "store")
    assert code == 0, said
    assert Store(tmp_path / "store").contents().absent == {"small": (6, 6)}


GUEST = "def loss(pred, target, *, eps=1e-7):\n    return (pred - target).abs().sum(1)\n"


def test_a_run_without_an_earlier_guest_keeps_its_rows(small, fidmap, tmp_path):
    (tmp_path / "mine.py").write_text(GUEST)
    only = ("--only", "*_gradient/[mg]*/options=,*", "--jobs", "1", "--out", "store")
    assert fidmap("run", "small.toml", "--loss", "mine:loss", *only).returncode == 0
    result = fidmap("run", "small.toml", *only)
    assert result.returncode == 0, result.stderr
    assert "1 stored, 0 to run" in result.stderr
    assert {"giou", "mine:loss"} <= {line.split("|")[1].strip() for line in result.stdout.splitlines() if "|" in line}
    assert "mine:loss: 1 cells of an earlier run are still shown, measured by fidmap" in result.stderr


def test_rows_of_an_earlier_guest_stay_beside_cells_that_differ_in_entries_alone(small, tmp_path, monkeypatch):
    """Not where the guest runs again, not beside other settings, seeds or devices, and not rows of fidmap's own."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "other"):
        (tmp_path / f"{name}.py").write_text(GUEST)
    suite = read_suite(small)
    cells = expand(suite, guests={"losses": ["mine:loss"]})
    records = [_record().model_copy(update={"cell": cell.identity}) for cell in cells]
    store = store_of(tmp_path / "store", *records, name="small")
    own = {cell.identity.hash for cell in cells if cell.identity.entry == "mine:loss"}
    assert len(own) == 2

    def kept(text=PLAIN, **options):
        small.write_text(text)
        return {record.cell.hash for record in find_earlier(store, "small", expand(read_suite(small), **options))}

    assert kept() == kept(guests={"losses": ["other:loss"]}) == own
    assert kept(guests={"losses": ["mine:loss"]}) == set()
    assert kept(PLAIN.replace("points = 4", "points = 5")) == set()
    assert kept(seed=3) == kept(device="cuda") == set()
    assert len(kept(PLAIN.replace("[{}, { eps = 1e-6 }]", "[{}]"))) == 1
    assert kept(PLAIN.replace('"diou", ', "")) == own  # and DIoU's rows are gone


def test_an_earlier_guest_s_contest_shows_the_guest_alone(tmp_path, monkeypatch):
    """The newer contest shows its own entries; so does the union of two stores with a guest each."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "other"):
        text = "def nms(boxes, scores, labels, *, iou_threshold, image):\n    return image, scores, boxes\n"
        (tmp_path / f"{name}.py").write_text(text)
    block = '[[block]]\ntask = "nms_speed"\nsettings = { boxes = 10, nms = ["hard", "matrix"] }\n'
    (tmp_path / "own.toml").write_text(f'name = "own"\n{block}')
    suite = read_suite(tmp_path / "own.toml")
    for year, guest in enumerate(("mine:nms", "other:nms", None)):
        (cell,) = expand(suite, guests={"nms": [guest]} if guest else {})
        measures = [
            _record().measures[0].model_copy(update={"entry": entry, "value": 10.0 * year + i})
            for i, entry in enumerate(cell.identity.entries)
        ]
        record = _record(measures=measures, started=STARTED[year]).model_copy(update={"cell": cell.identity})
        store = Store(tmp_path / (guest or "none")[:4]).create()
        store.write(record)
        store.write_suite("own", suite.model_dump(mode="json"), [cell.identity.hash], [cell.identity.key])
    merged = Store(tmp_path / "merged")
    merge([source.read(tmp_path / name) for name in ("mine", "othe", "none")], merged)
    (table,) = tables.build(merged.records(), find_runs(merged))
    assert {row[0]: row[-1] for row in table.rows} == {"mine:nms": "2", "other:nms": "12", "hard": "20", "matrix": "21"}
    (now,) = expand(suite)
    earlier = find_earlier(merged, "own", [now])
    assert {record.cell.entries[-1] for record in earlier} == {"mine:nms", "other:nms"}


def test_contests_of_one_run_that_share_an_entry_each_show_it():
    """They differ in entries of fidmap's own, as blocks of a suite do, and not in a guest."""

    def contest(*entries, year=0):
        measures = [_record(value=year).measures[0].model_copy(update={"entry": entry}) for entry in entries]
        return _record(",".join(entries), kind="contest", entries=list(entries), parameters={"nms": list(entries)},
                       measures=measures, started=STARTED[year])  # fmt: skip

    def shown(*records):
        return [(part.cell.entry, part.value("order")) for part in split_all(records)]

    assert shown(contest("hard", "fast"), contest("hard", "matrix", year=1)) == [
        ("hard", 0), ("fast", 0), ("hard", 1), ("matrix", 1)
    ]  # fmt: skip
    guest, without = contest("hard", "fast", "mine:nms"), contest("hard", "fast", year=1)
    assert shown(guest, without) == [("mine:nms", 0), ("hard", 1), ("fast", 1)]
    assert shown(without, guest) == [("hard", 1), ("fast", 1), ("mine:nms", 0)]

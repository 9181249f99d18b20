"""Records survive a round trip, a crash, a full disk and a damaged file."""

import errno
import json
import math
import os
import stat
import time

import pytest
import torch
from safetensors.torch import save

from bench.errors import UsageError
from bench.files import digest
from bench.plan.cell import key_of
from bench.records.bundle import bundle, load
from bench.records.compare import compare
from bench.records.frame import frame
from bench.records.record import SCHEMA_VERSION, parse_record
from bench.records.store import ABANDONED, Store


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324])
def test_every_float_survives_and_the_file_is_strict_json(record, tmp_path, value):
    store = Store(tmp_path).create()
    one = record(value=value)
    store.write(one)
    text = (tmp_path / "records" / f"{one.cell.hash}.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    found = store.get(one.cell.hash).value("order")
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_newest_record_of_a_key_counts(record, tmp_path):
    store = Store(tmp_path).create()
    store.write(record(value=1.0, started="2026-01-01T00:00:00"))
    store.write(record(value=2.0, started="2027-01-01T00:00:00"))
    assert [r.value("order") for r in store.records()] == [2.0]


def test_bundle_holds_what_the_folder_holds(record, tmp_path):
    store = Store(tmp_path / "a").create()
    store.write(record("k", math.nan))
    store.write(record("m", 3.0))
    (tmp_path / "b.json").write_text(bundle(store))
    assert [r.model_dump_json() for r in load(tmp_path / "b.json").records] == [
        r.model_dump_json() for r in load(tmp_path / "a").records
    ]


def test_frame_has_one_row_a_measure(record, tmp_path):
    table = frame([record("k"), record("m", status="failed", measures=[], error="as asked")])
    assert table[["status", "measure", "value"]].fillna("-").values.tolist() == [
        ["ok", "order", 1.0], ["failed", "-", "-"]
    ]  # fmt: skip


def test_a_parameter_keeps_its_column_beside_another_of_its_name(record):
    columns = list(frame([record("k")]).columns)
    names = [*columns, "loss", "nfe"]
    table = frame([record("k", parameters={name: f"given {name}" for name in names})])
    for name in names:
        own = f"parameter_{name}" if name in (*frame([record("k", parameters={})]).columns,) else name
        assert table[own].tolist() == [f"given {name}"]
    assert table["value"].tolist() == [1.0]


def test_a_full_disk_is_one_clear_error_and_keeps_what_was(record, tmp_path, monkeypatch):
    store = Store(tmp_path).create()
    store.write(record(value=1.0))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        store.write(record(value=2.0))
    monkeypatch.undo()
    assert store.get(record().cell.hash).value("order") == 1.0
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_is_half_written_is_swept_once_it_has_no_writer_any_more(tmp_path):
    """On another host or in another container a live writer's process number means nothing: its file's age does."""
    store = Store(tmp_path).create()
    old, live = tmp_path / "records" / ".a.tmp", tmp_path / "arrays" / ".4194305.x.tmp"
    for file in (old, live):
        file.write_text("half")
    os.utime(old, (time.time() - 2 * ABANDONED,) * 2)
    store.create()
    assert (old.exists(), live.exists()) == (False, True)


def test_errors_of_use(tmp_path):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "none").write_text('{"records": []}')
    for path, says in [
        ("file", "not a file of"),
        ("none", "holds no records"),
        ("nothing", "there is no"),
        (".", "holds no records"),
    ]:
        with pytest.raises(UsageError, match=says):
            load(tmp_path / path)
    with pytest.raises(UsageError, match="is a file"):
        Store(tmp_path / "file")


def test_reading_leaves_a_damaged_record_where_it_is_and_running_sets_it_aside(record, tmp_path, capsys):
    Store(tmp_path).create().write(record())
    file, other = tmp_path / "records" / f"{record().cell.hash}.json", digest("other")
    file.rename(file.with_name(f"{other}.json"))  # a record under a name that is not its hash
    assert Store(tmp_path).get(other) is None
    assert file.with_name(f"{other}.json").exists()
    assert f"{other}.json is damaged" in capsys.readouterr().err
    assert Store(tmp_path, repair=True).get(other) is None
    assert (tmp_path / "aside" / f"{other}.json").exists()


@pytest.mark.parametrize("change", [{}, {"colour": "red"}], ids=["same fields", "another field"])
def test_a_record_of_a_newer_fidmap_is_not_damaged_and_not_read(record, tmp_path, change):
    """One whose fields all look like today's is not read either: they may mean something else there."""
    Store(tmp_path).create().write(record())
    file = tmp_path / "records" / f"{record().cell.hash}.json"
    fields = json.loads(file.read_text()) | {"schema_version": SCHEMA_VERSION + 1} | change
    file.write_text(json.dumps(fields))
    with pytest.raises(UsageError, match=f"schema version {SCHEMA_VERSION + 1}"):
        Store(tmp_path, repair=True).get(record().cell.hash)
    assert file.exists()
    (tmp_path / "bundle.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "records": [fields]}))
    with pytest.raises(UsageError, match=f"schema version {SCHEMA_VERSION + 1}"):
        load(tmp_path / "bundle.json")


@pytest.mark.parametrize("version", ["3", 3.0, True, 0, -1, [3], {}], ids=repr)
def test_a_schema_version_of_another_type_is_damage(record, tmp_path, version):
    store = Store(tmp_path).create()
    store.write(record())
    store.write_suite("s", {"name": "s"}, [], [])
    file = tmp_path / "records" / f"{record().cell.hash}.json"
    fields = json.loads(file.read_text()) | {"schema_version": version}
    del fields["checksum"]
    file.write_text(json.dumps(fields))
    assert store.get(record().cell.hash) is None
    assert "schema_version" in store.damaged[record().cell.hash]
    plan = tmp_path / "suites" / "s.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"schema_version": version}))
    with pytest.raises(UsageError, match=r"s\.json is damaged \(schema_version"):
        Store(tmp_path).suites()
    for name, bundled in (
        ("outer", {"schema_version": version, "records": [fields | {"schema_version": SCHEMA_VERSION}]}),
        ("inner", {"schema_version": SCHEMA_VERSION, "records": [fields]}),
    ):
        (tmp_path / name).write_text(json.dumps(bundled))
        with pytest.raises(UsageError, match="schema_version"):
            load(tmp_path / name)


OLD = {  # as fidmap wrote it up to schema version 2, but for its version
    "suite": "s", "task": "sampler_overhead", "kind": "contest", "entry": "euler,mine:sample",
    "parameters": {"samplers": ["euler", "mine:sample"]}, "seed": 3, "key": "0" * 16, "hash": "1" * 16, "version": "0",
    "commit": None, "dirty": None, "environment": "2" * 16, "device": "cpu", "hardware": "Z80", "threads": 2,
    "measures": [
        {"name": name, "value": value, "interval": None, "n": None, "unit": "ms", "direction": "lower",
         "deterministic": False, "window": 0.02, "floor": 1e-9, "extractor": None, "reference": None}
        for name, value in (("overhead:euler", 1.0), ("overhead:mine:sample", "NaN"))
    ],
    "timing": {}, "arrays": [], "status": "ok", "error": None, "started_at": "2026-01-01T00:00:00", "duration": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_records_of_older_schemas_are_read(tmp_path, version):
    """From a folder and from a bundle; a contest's entries become fields, and the first schema's key is made anew."""
    old = OLD | {"schema_version": version} | ({"arrays_hash": None} if version == 2 else {})
    store = Store(tmp_path).create()
    store.put(f"records/{OLD['hash']}.json", json.dumps(old | {"checksum": digest(old)}).encode())
    (tmp_path / "bundle.json").write_text(json.dumps({"schema_version": version, "records": [old]}))
    for (found,) in (store.records(), load(tmp_path / "bundle.json").records):
        cell = found.cell
        assert (cell.entries, cell.seed, cell.threads, cell.hardware) == (["euler", "mine:sample"], 3, 2, "Z80")
        assert cell.key == (OLD["key"] if version == 2 else key_of(cell.task, cell.parameters, 3, "cpu", 2))
        assert found.measure("overhead", "euler").value == 1.0
        assert math.isnan(found.measure("overhead", "mine:sample").value)
        assert (found.schema_version, found.measure("overhead")) == (SCHEMA_VERSION, None)
    store.put(f"records/{OLD['hash']}.json", json.dumps(old | {"seed": 4, "checksum": digest(old)}).encode())
    assert store.records() == []  # a changed byte is seen in an old record too


def test_a_plain_record_of_an_older_schema_keeps_its_entry_whole(tmp_path):
    """Only a contest had several in one text."""
    old = OLD | {"schema_version": 2, "kind": "plain", "entry": "a,b:c", "measures": [OLD["measures"][0]]}
    found = parse_record(json.dumps(old))
    assert found.cell.entries == ["a,b:c"]
    assert found.measure("overhead:euler").value == 1.0


def test_a_baseline_of_an_older_schema_is_compared_with_a_run_of_today(tmp_path):
    old = OLD | {"schema_version": 2, "measures": [OLD["measures"][0] | {"deterministic": True}]}
    (tmp_path / "old.json").write_text(json.dumps({"schema_version": 2, "records": [old]}))
    store = Store(tmp_path / "new").create()
    now = parse_record(json.dumps(old))
    for value, code in ((1.0, 0), (1.1, 1)):
        now.measures[0].value = value
        store.write(now)
        assert compare(load(tmp_path / "old.json"), load(tmp_path / "new")).exit_code == code


def test_a_suite_shows_its_own_cells_in_order_and_no_others(record, tmp_path):
    store = Store(tmp_path).create()
    for key, hash_ in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")]:
        store.write(record(key, hash=hash_, started=f"202{hash_}-01-01T00:00:00"))
    store.write(record("z", suite="other"))
    store.write_suite("s", {}, [digest(text) for text in "319"])
    assert [r.cell.hash for r in store.records()] == [digest("3"), digest("1"), record("z").cell.hash]


def test_two_runs_of_one_suite_into_one_folder_each_show_their_own(record, tmp_path):
    first, second = Store(tmp_path).create(), Store(tmp_path).create()
    for store, name in ((first, "a"), (second, "b")):
        store.write_suite("s", {}, [record(name).cell.hash])
        store.write(record(name))
    assert [[r.cell.hash for r in store.records()] for store in (first, second)] == [
        [record("a").cell.hash],
        [record("b").cell.hash],
    ]


def test_a_limited_run_leaves_the_suite_whole_where_its_cells_are_the_same(tmp_path):
    whole, other = [digest(text) for text in "abc"], [digest("z")]
    Store(tmp_path).create().write_suite("s", {}, whole)
    for cells, kept in [(whole[:1], whole), (other, other)]:
        Store(tmp_path).write_suite("s", {}, cells, part=True)
        assert Store(tmp_path).suites()["s"].cells == kept


def test_a_record_without_its_arrays_is_not_held(record, tmp_path):
    store = Store(tmp_path).create()
    one = record(arrays=["curve"])
    store.write(one, b"x")
    assert store.holds(one.cell.hash)
    assert not store.holds(one.cell.hash, arrays=["samples"])
    (tmp_path / "arrays" / f"{one.cell.hash}.safetensors").unlink()
    assert not store.holds(one.cell.hash)
    with pytest.raises(UsageError, match="cannot read"):
        store.arrays(store.get(one.cell.hash))


def test_arrays_with_a_changed_byte_are_measured_again_as_announced(record, tmp_path, capsys):
    store, one = Store(tmp_path).create(), record(arrays=["curve"])
    store.write(one, save({"curve": torch.arange(4.0)}))
    file = tmp_path / "arrays" / f"{one.cell.hash}.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(UsageError, match=r"damaged.*measures its cell again"):
        store.arrays(store.get(one.cell.hash))
    assert not store.holds(one.cell.hash)
    assert f"{one.cell.hash}.safetensors is damaged" in capsys.readouterr().err


def test_files_have_the_permissions_that_the_umask_leaves(record, tmp_path):
    for mask, mode in [(0o077, 0o600), (0o002, 0o664)]:
        before = os.umask(mask)
        try:
            Store(tmp_path / str(mask)).create().write(record())
        finally:
            os.umask(before)
        (file,) = (tmp_path / str(mask) / "records").glob("*.json")
        assert stat.S_IMODE(file.stat().st_mode) == mode

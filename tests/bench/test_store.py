"""Records survive a round trip, a crash, a full disk and a damaged file."""

import errno
import json
import math
import os

import pytest

from bench.errors import UsageError
from bench.store import Store, bundle, frame, load


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324])
def test_every_float_survives_and_the_file_is_strict_json(record, tmp_path, value):
    store = Store(tmp_path).create()
    store.write(record(value=value))
    text = (tmp_path / "records" / "k2026.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    found = store.get("k2026").value("order")
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
    assert [r.model_dump_json() for r in load(tmp_path / "b.json")] == [
        r.model_dump_json() for r in load(tmp_path / "a")
    ]


def test_frame_has_one_row_a_measure(record, tmp_path):
    table = frame([record("k"), record("m", status="failed", measures=[], error="as asked")])
    assert table[["key", "status", "measure", "value"]].fillna("-").values.tolist() == [
        ["k", "ok", "order", 1.0], ["m", "failed", "-", "-"]
    ]  # fmt: skip


def test_a_full_disk_is_one_clear_error_and_keeps_what_was(record, tmp_path, monkeypatch):
    store = Store(tmp_path).create()
    store.write(record(value=1.0))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        store.write(record(value=2.0))
    monkeypatch.undo()
    assert store.get("k2026").value("order") == 1.0
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_a_dead_writer_left_is_swept_and_a_live_one_s_is_not(tmp_path):
    store = Store(tmp_path).create()
    dead, alive = (tmp_path / "records" / f".{pid}.x.tmp" for pid in (2**22 + 1, os.getpid()))
    for file in (dead, alive):
        file.write_text("half")
    store.create()
    assert (dead.exists(), alive.exists()) == (False, True)


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
    file = tmp_path / "records" / "k2026.json"
    file.rename(file.with_name("other.json"))  # a record under a name that is not its hash
    assert Store(tmp_path).get("other") is None
    assert file.with_name("other.json").exists()
    assert "other.json is damaged" in capsys.readouterr().err
    assert Store(tmp_path, repair=True).get("other") is None
    assert (tmp_path / "aside" / "other.json").exists()


def test_a_record_of_a_newer_fidmap_is_not_damaged(record, tmp_path):
    Store(tmp_path).create().write(record())
    file = tmp_path / "records" / "k2026.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2, "colour": "red"'))
    with pytest.raises(UsageError, match="schema version 2"):
        Store(tmp_path, repair=True).get("k2026")
    assert file.exists()


def test_a_suite_shows_its_own_cells_in_order_and_no_others(record, tmp_path):
    store = Store(tmp_path).create()
    for key, hash_ in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")]:
        store.write(record(key, hash=hash_, started=f"202{hash_}-01-01T00:00:00"))
    store.write(record("z", suite="other"))
    store.write_suite("s", {}, ["3", "1", "9"])
    assert [r.hash for r in store.records()] == ["3", "1", "z2026"]


def test_a_record_without_its_arrays_is_not_held(record, tmp_path):
    store = Store(tmp_path).create()
    store.write(record(arrays=["curve"]), b"x")
    assert store.holds("k2026")
    assert not store.holds("k2026", arrays=["samples"])
    (tmp_path / "arrays" / "k2026.safetensors").unlink()
    assert not store.holds("k2026")
    with pytest.raises(UsageError, match="cannot read"):
        store.arrays(store.get("k2026"))

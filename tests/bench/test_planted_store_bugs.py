"""Planted bugs of the store: each check below finds its own, and the store as it is passes all of them."""

import json
import math
import os

import pytest
from safetensors.torch import save

import bench.plan.blocks
import bench.plan.cell
import bench.records.record
import bench.records.store
from bench.plan.cells import expand
from bench.plan.suite import read
from bench.records.store import Store
from bench.run.session import select_missing


def a_reader_sees_the_old_record_or_the_new(record, folder, monkeypatch):
    """A crash at any moment of a write, here as its bytes reach the disk, leaves what was stored before."""
    store = Store(folder).create()
    store.write(record(value=1.0))

    def crash(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            store.write(record(value=2.0))
    kept = store.get(record().cell.hash)
    assert kept is not None
    assert kept.value("order") == 1.0


def every_parameter_moves_the_hash(record, folder, monkeypatch):
    """And seed, threads, device: two cells that differ in any of them share neither hash nor record."""
    folder.mkdir(exist_ok=True)
    block = '[[block]]\ntask = "sampler_error"\nsettings = {{ oracle = "{}", nfe = {}, samples = {} }}\nthreads = {}\n'
    block += 'axes.sampler = ["euler"]\nseeds = [{}]\n'
    rows = [("gaussian", 5, 9, 1, 0), ("mixture", 5, 9, 1, 0), ("gaussian", 6, 9, 1, 0), ("gaussian", 5, 8, 1, 0),
            ("gaussian", 5, 9, 2, 0), ("gaussian", 5, 9, 1, 1)]  # fmt: skip
    (folder / "own.toml").write_text('name = "own"\n' + "".join(block.format(*row) for row in rows))
    cells = expand(read(folder / "own.toml"))
    assert len({cell.identity.hash for cell in cells}) == len({cell.identity.key for cell in cells}) == len(rows)


def a_record_is_used_only_for_the_hash_that_it_was_stored_for(record, folder, monkeypatch):
    """One of older source has another hash: its cell is to run, though the key is the same."""
    folder.mkdir(exist_ok=True)
    (folder / "own.toml").write_text('name = "own"\n[[block]]\ntask = "iou_gradient"\naxes.loss = ["giou"]\n')
    (cell,) = expand(read(folder / "own.toml"))
    store = Store(folder).create()
    store.write(record(key=cell.identity.key, hash="0" * 16))
    assert select_missing([cell], store) == [cell]
    store.write(record(key=cell.identity.key, hash=cell.identity.hash))
    assert select_missing([cell], store) == []
    os.replace(folder / "records" / f"{'0' * 16}.json", folder / "records" / f"{cell.identity.hash}.json")
    assert select_missing([cell], store) == [cell]


def a_second_writer_disturbs_neither_the_first_nor_its_reader(record, folder, monkeypatch):
    """Two processes write one file at once: each has a temporary file of its own, which a third one's start spares."""
    store, other = Store(folder).create(), Store(folder)
    write, began = os.fsync, []

    def interrupted(descriptor):
        """The first has written half its way when the second begins, ends, and a third makes the folder its own."""
        if not began:
            began.append(True)
            other.write(record(value=2.0))
            Store(folder).create()
        write(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        store.write(record(value=1.0))
    assert store.get(record().cell.hash).value("order") == 1.0
    assert not list(folder.rglob("*.tmp"))


def nan_and_infinities_come_back(record, folder, monkeypatch):
    """As measures, as ends of an interval, and as strict JSON."""
    store = Store(folder).create()
    for value in (math.nan, math.inf, -math.inf):
        one = record(value=value)
        one.measures[0].interval = (-math.inf, value)
        store.write(one)
        found = store.get(one.cell.hash)
        assert found is not None
        for read_back in (found.value("order"), found.measures[0].interval[1]):
            assert read_back == value or (math.isnan(read_back) and math.isnan(value))
        file = folder / "records" / f"{one.cell.hash}.json"
        json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def a_changed_byte_is_seen(record, folder, monkeypatch):
    """A digit of a number, and a value of an array, after which both files can still be read."""
    import torch

    store, one = Store(folder).create(), record(value=1.25, arrays=["curve"])
    store.write(one, save({"curve": torch.ones(2)}))
    for file, old, new in [
        (folder / "arrays" / f"{one.cell.hash}.safetensors", b"\x80\x3f", b"\x00\x40"),
        (folder / "records" / f"{one.cell.hash}.json", b"1.25", b"1.26"),
    ]:
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new, 1))
        assert not store.holds(one.cell.hash)
        file.write_bytes(content)
        assert store.holds(one.cell.hash)


CHECKS = [
    a_reader_sees_the_old_record_or_the_new, every_parameter_moves_the_hash,
    a_record_is_used_only_for_the_hash_that_it_was_stored_for,
    a_second_writer_disturbs_neither_the_first_nor_its_reader,
    nan_and_infinities_come_back, a_changed_byte_is_seen,
]  # fmt: skip


def _write_in_place(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        os.fsync(file.fileno())
        file.write(content[len(content) // 2 :])


def _write_through_one_temporary_file(path, content):
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    with open(temporary) as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _without_nan(value):
    return {k: None if v in ("NaN", "Infinity", "-Infinity") else v for k, v in value.items()}


def not_atomic(patch):
    patch.setattr(bench.records.store, "write_atomic", _write_in_place)


def hash_leaves_a_parameter_out(patch):
    plain = bench.plan.blocks.digest

    def digest(value):
        if isinstance(value, dict) and "parameters" in value:
            value = value | {"parameters": {k: v for k, v in value["parameters"].items() if k != "samples"}}
        return plain(value)

    for module in (bench.plan.blocks, bench.plan.cell):
        patch.setattr(module, "digest", digest)


def stale_record_is_used(patch):
    def get(store, name):
        files = sorted(store.records_folder.glob("*.json"))
        return bench.records.record.parse_record(files[0].read_bytes()) if files else None

    patch.setattr(Store, "get", get)


def writers_share_a_temporary_file(patch):
    patch.setattr(bench.records.store, "write_atomic", _write_through_one_temporary_file)


def nan_is_lost(patch):
    plain = json.loads
    patch.setattr(bench.records.store.json, "loads", lambda text: plain(text, object_hook=_without_nan))


def checksums_are_not_looked_at(patch):
    for module in (bench.records.record, bench.records.store):
        patch.setattr(module, "digest", lambda value: "0" * 16)


BUGS = dict(
    zip(
        [not_atomic, hash_leaves_a_parameter_out, stale_record_is_used, writers_share_a_temporary_file, nan_is_lost,
         checksums_are_not_looked_at],
        CHECKS,
        strict=True,
    )
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_store_passes(check, record, tmp_path, monkeypatch):
    check(record, tmp_path / "store", monkeypatch)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found_by_its_check(bug, record, tmp_path, monkeypatch):
    bug(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        BUGS[bug](record, tmp_path / "store", monkeypatch)

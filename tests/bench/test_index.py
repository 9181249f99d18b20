"""The index of a large store: it gives what the files give, whatever becomes of them, and thousands come quickly."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.files import digest
from bench.records import index
from bench.records.record import Measurement
from bench.records.store import Store

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(record, tmp_path, monkeypatch):
    """A store of five records that has an index, the files made an hour ago."""
    monkeypatch.setenv("FIDMAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "LEAST", 3)
    monkeypatch.setattr(index, "YOUNG", 0)
    store = Store(tmp_path / "store").create()
    for k in range(5):
        interval = (float("-inf"), 1.0) if k == 1 else None
        measures = [Measurement(name="m", value=[0.1, float("nan"), 2.0, 3.0, 4.0][k], interval=interval)]
        store.write(record(f"k{k}", measures=measures, parameters={"x": k, "y": [1, {"z": None}]}))
    return tmp_path / "store"


def plain(folder):
    """The records as the files say, without an index."""
    return {file.stem: Store(folder).get(file.stem) for file in (folder / "records").glob("*.json")}


def shown(folder):
    contents = Store(folder).contents()
    return {record.cell.hash: record for record in [*contents.records, *contents.left_out]}, contents.damaged


def dumped(records):
    return {name: record.model_dump_json() for name, record in records.items() if record is not None}


def test_the_index_gives_what_the_files_give(store, monkeypatch):
    expected = dumped(plain(store))
    assert dumped(shown(store)[0]) == expected
    reads = []
    monkeypatch.setattr(Store, "_read", lambda self, file: reads.append(file))
    assert dumped(shown(store)[0]) == expected
    assert not reads
    assert not list(store.glob("**/*index*")), "nothing is written into the store"


@pytest.mark.parametrize("change", ["value", "bytes", "removed", "added", "restored"])
def test_a_change_of_a_file_is_seen(store, record, change):
    shown(store)
    file = sorted((store / "records").glob("*.json"))[0]
    before, stat = file.read_bytes(), file.stat()
    if change == "value":
        fields = json.loads(before)
        del fields["checksum"]
        fields["duration"] = 2.5
        file.write_text(json.dumps(fields | {"checksum": digest(fields)}, indent=1))
    elif change == "bytes":
        file.write_bytes(before.replace(b'"duration": 1.0', b'"duration": 2.0'))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the time of its last change is not to be had so
    elif change == "removed":
        file.unlink()
    elif change == "added":
        Store(store).write(record("new"))
    else:
        file.write_bytes(before)
    for _ in range(2):
        found, damaged = shown(store)
        assert set(damaged) == ({file.stem} if change == "bytes" else set())
        assert dumped(found) == dumped(plain(store))
    assert len(found) == {"removed": 4, "bytes": 4, "added": 6}.get(change, 5)


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty", "of another version", "folder"])
def test_a_damaged_index_is_made_again(store, tmp_path, harm):
    expected = dumped(shown(store)[0])
    (file,) = (tmp_path / "cache" / "stores").iterdir()
    content = file.read_bytes()
    harmed = {
        "truncated": content[: len(content) // 2], "flipped": content.replace(b"4.0", b"5.0"), "empty": b"",
        "of another version": content.replace(b'"form":[1,', b'"form":[0,'),
    }  # fmt: skip
    file.unlink() if harm == "folder" else file.write_bytes(harmed[harm])
    if harm == "folder":
        file.mkdir()
    assert dumped(shown(store)[0]) == expected
    if harm != "folder":
        assert file.read_bytes() == content


def test_a_file_that_may_still_change_is_not_indexed(store, monkeypatch):
    monkeypatch.setattr(index, "YOUNG", 10**12)
    shown(store)
    assert index.load(store) == {}


RECORDS = 15_000


@pytest.fixture
def large(record, tmp_path):
    """A store of 15,000 records: 50 samplers at 100 budgets with 3 seeds, each with six measures."""
    folder = tmp_path / "large" / "records"
    folder.mkdir(parents=True)
    names = ["fd_fmnist", "precision", "recall", "fd_fmnist_floor", "evaluations", "latency"]
    made = record(parameters={"sampler": "e", "options": {}, "path": "vp", "nfe": 0, "oracle": "classes"})
    fields = json.loads(made.model_dump_json())
    cell = fields["cell"] | {"task": "sampler_quality", "kind": "plain"}
    measure = fields["measures"][0] | {"direction": "lower"}
    for k in range(RECORDS):
        entry, nfe, seed = f"e{k % 50}", k // 50 % 100 + 1, k // 5000
        own = {"entries": [entry], "seed": seed, "key": f"{k:016x}", "hash": f"{k:016x}",
               "parameters": cell["parameters"] | {"sampler": entry, "nfe": nfe}}  # fmt: skip
        values = [measure | {"name": name, "value": 1 + (k * 7919 % 1000) / 1000} for name in names]
        whole = fields | {"cell": cell | own, "measures": values}
        (folder / f"{k:016x}.json").write_text(json.dumps(whole | {"checksum": digest(whole)}, indent=1))
    return folder.parent


@pytest.mark.alone
def test_a_ranked_table_of_15000_records_comes_quickly(large, tmp_path):
    """At most 2 s from the index, on a slow machine as much more as Python takes to parse and start; three chances."""
    environment = os.environ | {"FIDMAP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    parse = "import json, typer, pydantic; text = json.dumps([{'a': [1.5, None]} for _ in range(300_000)])\n" + (
        "for _ in range(3): json.loads(text)"
    )
    commands = {"parse": ["-c", parse], "rank": ["-m", "bench", "table", str(large), "--rank"]}
    time.sleep(2)  # for the youngest files
    texts = {
        subprocess.run([sys.executable, *commands["rank"]], env=environment, check=True, capture_output=True).stdout
    }
    for _ in range(3):
        times = {name: [] for name in commands}
        for _ in range(2):
            for name, command in commands.items():
                begin = time.perf_counter()
                found = subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
                times[name].append(time.perf_counter() - begin)
                texts |= {found.stdout} if name == "rank" else set()
        least = {name: min(each) for name, each in times.items()}
        assert len(texts) == 1, "from the index and from the files"
        if least["rank"] <= max(2.0, 1.6 * least["parse"]):
            return
    pytest.fail(f"{least['rank']:.2f} s, parsing JSON and starting {least['parse']:.2f} s")

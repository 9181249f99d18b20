"""Damaged stores: one line and exit code 2, or a cell that is measured again; no file outside is touched."""

import json
import random
import shutil

import pytest
from safetensors.torch import save

from bench import __main__ as command
from bench.plan.cells import expand
from bench.plan.suite import read
from bench.records.store import Store
from bench.run.session import select_missing

SUITE = 'name = "own"\n[[block]]\ntask = "iou_gradient"\naxes.loss = ["giou", "diou"]\n'


@pytest.fixture(scope="module")
def sound(tmp_path_factory, record):
    """A folder with a store as a run leaves it, of two records, one with arrays, an environment and a suite."""
    import torch

    root = tmp_path_factory.mktemp("sound")
    (root / "own.toml").write_text(SUITE)
    suite = read(root / "own.toml")
    folder = Store(root / "store").create()
    environment = folder.write_environment({"cpu": "Z80", "packages": {"torch": "2"}})
    cells = expand(suite)
    for cell in cells:
        one = record(environment=environment).model_copy(update={"cell": cell.identity})
        if cell.identity.entry == "giou":
            folder.write(one.model_copy(update={"arrays": ["curve"]}), save({"curve": torch.ones(8)}))
        else:
            folder.write(one)
    folder.write_suite("own", suite.model_dump(mode="json"), [cell.identity.hash for cell in cells])
    return root, cells


@pytest.fixture
def store(tmp_path, sound):
    """A copy of it, files beside it, and its cells."""
    root, cells = sound
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    for name in ("victim.json", "victim.safetensors", "config"):
        (tmp_path / name).write_text("{}")
    return tmp_path / "store", cells


def _flipped(content, source):
    """One bit of one byte."""
    place = source.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << source.randrange(8)]) + content[place + 1 :]


def _with(**changes):
    """A JSON object with other fields; a checksum that is there is left out, as a hand that edits it would."""
    return lambda content, _: json.dumps(
        {k: v for k, v in json.loads(content).items() if k != "checksum"} | changes
    ).encode()


def _with_cell(**changes):
    """The same with other fields of its cell."""
    return lambda content, _: _with(cell=json.loads(content)["cell"] | changes)(content, _)


def _cells(*names):
    return _with(cells=list(names))


DEEP = b"[" * 100_000 + b"]" * 100_000
ANYTHING = {
    **{f"flipped {i}": _flipped for i in range(6)},
    "cut": lambda content, source: content[: source.randrange(len(content))],
    "empty": lambda *_: b"", "zeros": lambda content, _: bytes(len(content)), "text": lambda *_: b"no JSON",
    "list": lambda *_: b"[]", "null": lambda *_: b"null", "number": lambda *_: b"7", "deep": lambda *_: DEEP,
    "deep field": lambda *_: b'{"suite": ' + DEEP + b', "cells": []}', "latin": lambda *_: b"{\"\xe9\": 1}",
    "twice": lambda content, _: content * 2, "huge number": lambda *_: b'{"suite": 1' + b"0" * 5000 + b"}",
}  # fmt: skip
SUITES = {
    "above": _cells("../../victim"), "absolute": _cells("{root}/config"), "above, json": _cells("../victim.json"),
    "dots": _cells(".."), "nothing": _cells(""), "capitals": _cells("ABCDEF0123456789"), "short": _cells("abc"),
    "long": _cells("0" * 17), "line feed": _cells("0" * 16 + "\n"), "numbers": _cells(1, 2),
    "nested": _cells(["0" * 16]),
    "null byte": _cells("0" * 15 + "\0"), "digits of elsewhere": _cells("\u0660" * 16), "text": _with(cells="0" * 16),
    "no cells": _with(cells=None), "no suite": _with(suite=3), "more": _with(more=1),
}  # fmt: skip
RECORDS = {
    "hash above": _with_cell(hash="../../victim"), "environment above": _with(environment="../../victim"),
    "key": _with_cell(key=7), "measures": _with(measures={}),
    "value": _with(measures=[{"name": "order", "value": "much"}]),
    "status": _with(status="fine"), "seed": _with_cell(seed="first"), "parameters": _with_cell(parameters=[]),
    "threads": _with_cell(threads=None), "version": _with(schema_version="2"), "more": _with(more=1),
    "arrays": _with(arrays=[["curve"]]), "another's": _with_cell(hash="0" * 16), "no cell": _with(cell=None),
    "older": _with(schema_version=2), "oldest": _with(schema_version=1), "no entry": _with_cell(entries=[]),
}  # fmt: skip
DAMAGES = [
    *((kind, name, how) for kind in ("records", "arrays", "environments", "suites") for name, how in ANYTHING.items()),
    *(("suites", name, how) for name, how in SUITES.items()),
    *(("records", name, how) for name, how in RECORDS.items()),
]


def _call(capsys, *arguments):
    """Exit code and lines of stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        command.main([str(argument) for argument in arguments])
    return ended.value.code or 0, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("kind", "name", "how"), DAMAGES, ids=lambda part: part if isinstance(part, str) else "")
def test_damage_is_one_line_or_measured_again_and_nothing_outside_is_touched(
    kind, name, how, store, tmp_path, capsys, monkeypatch
):
    folder, cells = store
    monkeypatch.chdir(tmp_path)
    file = sorted((folder / kind).iterdir())[0]
    content, before = file.read_bytes(), _content(tmp_path, folder)
    file.write_bytes(how(content, random.Random(name + kind)).replace(b"{root}", str(tmp_path).encode()))
    if file.read_bytes() == content:
        pytest.fail("nothing was damaged")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    code, lines = _call(capsys, "table", "--out", folder)
    assert code in (0, 2), lines
    assert not any("Traceback" in line for line in lines)
    assert all(line.startswith("fidmap: ") for line in lines)
    assert len(lines) <= 1 + (code == 2)
    if kind != "arrays":  # a table needs none
        assert len(lines) >= 1
        assert file.name in lines[0]
    running = Store(copy, repair=True)
    running.suites(), running.environments()
    again = select_missing(cells, running)
    damaged = {"records": file.stem, "arrays": file.stem}.get(kind)
    assert {cell.identity.hash for cell in again} == ({damaged} if damaged else set())
    assert all(line.startswith("fidmap: ") for line in capsys.readouterr().err.splitlines())
    shutil.rmtree(copy)
    assert _content(tmp_path, folder) == before


def _content(root, store):
    """All files beside a store."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and store not in path.parents}

"""Workers: nothing that a cell starts outlives it, nothing that it changes reaches the next, its source is known."""

import dataclasses
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from bench.plan.cells import expand
from bench.plan.source import fingerprint, own_modules
from bench.plan.suite import read
from bench.records.store import Store
from bench.run.session import run

ROOT = Path(__file__).parent.parent.parent
UNRULY = (Path(__file__).parent / "unruly.py").read_text()
SUITE = """name = "own"
timeout_s = 60
memory_gib = 1.5
[[block]]
task = "sampler_error"
settings = { oracle = "gaussian", nfe = 10, samples = 50 }
axes.sampler = ["euler"]
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Makes the cells of a suite with a sampler of the user's, beside whom the modules given lie."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def make(sampler, **modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)  # another test's of this name
        (tmp_path / "own.toml").write_text(SUITE)
        return [
            c for c in expand(read(tmp_path / "own.toml"), guests={"samplers": [sampler]}) if ":" in c.identity.entry
        ]

    return make


def _unruly(cell, kinds):
    """Cells of the task that misbehaves, made of another one's."""
    modules, digest = ("unruly",), fingerprint(["unruly"])
    return [
        dataclasses.replace(
            cell, modules=modules, timeout_s=60 if kind == "hungry" else 3, source=digest, outside=modules,
            identity=cell.identity.model_copy(update={
                "task": "unruly:unruly", "entries": [kind], "parameters": {"behaviour": kind, "index": index},
                "hash": f"{index:016x}", "key": f"{index:016x}",
            }),
        )
        for index, kind in enumerate(kinds)
    ]  # fmt: skip


def test_a_worker_ends_with_all_that_it_started_and_leaves_nothing_to_the_next_cell(cells, tmp_path, capfd):
    """One worker for all cells; its import takes longer than ``timeout_s``, which counts from the cell's own start."""
    (guest,) = cells("idle:mine", idle="def mine(denoiser, x, times, noise): return x", unruly=UNRULY)
    kinds = ["well", "changes", "leaves", "screams", "late", "hungry", "holds"]
    store = Store(tmp_path / "store").create()
    run(_unruly(guest, kinds), store)
    found = [store.get(f"{index:016x}") for index in range(len(kinds))]
    assert [(record.status, record.cell.entry) for record in found] == [
        ("ok", "well"), ("ok", "changes"), ("ok", "leaves"), ("failed", "screams"), ("timeout", "late"),
        ("out_of_memory", "hungry"), ("out_of_memory", "holds"),
    ]  # fmt: skip
    states = [record.value("state") for record in found[:3]]
    assert states[0] == states[2] != states[1]  # else the measure would see nothing
    children = [int(file.name.partition("-")[2]) for file in tmp_path.rglob("child-*")]
    assert len(children) == 6
    assert not [pid for pid in children if _lives(pid)]
    assert "\\x1b[2J" in found[3].error
    assert "\x1b" not in found[3].error + capfd.readouterr().err


def test_children_end_when_the_coordinator_is_killed(cells, tmp_path):
    (guest,) = cells("idle:mine", idle="def mine(denoiser, x, times, noise): return x", unruly=UNRULY)
    (cell,) = _unruly(guest, ["late"])
    code = f"""
        import sys, pickle, pathlib
        sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
        from bench.run.session import run
        from bench.records.store import Store
        if __name__ == "__main__":
            run([pickle.loads(pathlib.Path("cell").read_bytes())], Store("store").create())
    """
    import pickle

    (tmp_path / "cell").write_bytes(pickle.dumps(dataclasses.replace(cell, timeout_s=600)))
    (tmp_path / "coordinator.py").write_text(textwrap.dedent(code))
    process = subprocess.Popen([sys.executable, "coordinator.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(files := list(tmp_path.glob("child-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [int(file.name.partition("-")[2]) for file in files]
    assert [_lives(pid) for pid in children] == [True] * 3
    process.kill()
    process.wait()
    while any(map(_lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, children))


def _lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


SAMPLER = """from helper import factor
def euler(denoiser, x, times, *, noise=None, callback=None, condition=None):
    for a, b in zip(times[:-1], times[1:]):
        x = x + factor * (b - a) * denoiser(x, a).velocity
    return x
"""


def test_a_helper_overwritten_after_the_start_and_restored_before_the_end_gives_no_number(cells, tmp_path):
    (cell,) = cells("mine:euler", mine=SAMPLER, helper="factor = 1.0")
    store = Store(tmp_path / "store").create()

    def progress(of, record):
        """A worker has been started, and has yet to load torch when its first cell begins."""
        if record is None:
            (tmp_path / "helper.py").write_text("factor = 0.5")  # as long, and perhaps in the same second

    before = store.put

    def put(name, content):
        (tmp_path / "helper.py").write_text("factor = 1.0")
        before(name, content)

    store.put = put
    run([cell], store, progress=progress)
    record = store.get(cell.identity.hash)
    assert (record.status, record.measures) == ("failed", [])
    assert "source changed" in record.error


CASES = {  # how a helper is named in the guest, and whether its source is found
    "import helper": True, "import helper as h": True, "from helper import x": True, "import helper, os": True,
    "def f():\n    import helper": True, "if True:\n    from helper import x": True,
    "try:\n    import helper\nexcept ImportError:\n    pass": True, "class A:\n    import helper": True,
    "import middle": True, "from middle import y": True, "import pack.part": True, "from pack import part": True,
    "from pack.part import z": True, "import numpy, helper": True, "from helper import *": True,
    "import os": False, "import json.decoder": False, "import numpy": False, "import torch.nn": False,
    "# import helper": False, "'import helper'": False, "import absent_module": False, "import bench.task": False,
}  # fmt: skip


@pytest.mark.parametrize("statement", CASES)
def test_the_source_of_a_guest_is_all_of_the_user_s_that_it_imports(statement, tmp_path, monkeypatch):
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "middle.py").write_text("from helper import x\ny = x\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "part.py").write_text("import helper\nz = helper.x\n")
    (tmp_path / "guest_module.py").write_text(statement + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = own_modules(["guest_module:f"])
    assert ("helper" in found) is CASES[statement]
    assert set(found) <= {"guest_module", "helper", "middle", "pack"}


def test_what_is_loaded_counts_and_not_what_lies_on_disk_before_and_after(tmp_path):
    """The same size in the same second, with a bytecode cache of the former source; a module that nothing names."""
    code = f"""
        import importlib, json, sys
        sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
        from bench.plan.source import Loaded, fingerprint
        said = []
        def write(text, name="guest"):
            open(f"{tmp_path}/{{name}}.py", "w").write(text)
        def load(text, restore="x = 1"):
            for name in ("guest", "stranger"): sys.modules.pop(name, None)
            importlib.invalidate_caches()
            write(text)
            module = importlib.import_module("guest")
            write(restore)
            try: loaded.require(["guest"], before)
            except RuntimeError as error: said.append([module.x, str(error)])
            else: said.append([module.x, ""])
        write("x = 1")
        before = fingerprint(["guest"])
        import guest  # leaves a bytecode cache
        loaded = Loaded(); loaded.record()
        load("x = 1")
        load("x = 2")
        load("x = 1")  # loaded again, and it was another in between
        for restore in ("x = 4", "x = 1"):
            loaded.digests.clear()
            load("x = 1", restore)
        loaded.digests.clear()
        write("x = 3", "stranger")
        write(dynamic := "x = __import__('importlib').import_module('stranger').x")
        before = fingerprint(["guest"])
        load(dynamic, dynamic)
        print(json.dumps(said))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    changed = "the source changed during the run; run again"
    assert said[:5] == [[1, ""], [2, changed], [1, changed], [1, changed], [1, ""]]
    assert said[5][0] == 3
    assert "stranger.py was loaded and no import statement names it" in said[5][1]

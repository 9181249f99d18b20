"""Fixtures of several test files."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import config

from tests import shapes

shapes.install()  # for the tests alone: at run time annotations cost nothing

from bench.files import digest  # noqa: E402
from bench.plan.cell import Identity  # noqa: E402
from bench.records.record import Measurement, Record  # noqa: E402

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _unchecked(request):
    """Tests marked ``unchecked`` run as a user runs: they see our errors and not the shape checker's."""
    unchecked = request.node.get_closest_marker("unchecked") is not None
    config.update("jaxtyping_disable", unchecked)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _forget_modules(request):
    """Modules that a test wrote and imported are new to the next test, which may write others of the same names."""
    place = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    yield
    if place:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(place):
                del sys.modules[name]


@pytest.fixture(scope="session")
def record():
    """Makes a record of one measure."""
    return _record


def _record(key="k", value=1.0, started="2026-01-01T00:00:00", **changes):
    measure = {"name": "order", "value": value, "direction": "target", "window": 0.02, "floor": 0.02}
    fields = {
        "suite": "s", "task": "sampler_order", "kind": "ladder", "entries": ["euler"], "parameters": {"path": "vp"},
        "seed": 0,
        "key": key, "hash": f"{key}{started[:4]}", "version": "0", "environment": "e", "device": "cpu", "threads": 1,
        "measures": [Measurement(**measure)], "started_at": started, "duration": 1.0,
    }  # fmt: skip
    fields |= changes
    if "entry" in fields:
        fields["entries"] = [fields.pop("entry")]
    for name in ("key", "hash", "environment"):  # any text stands for the hash that it gives
        fields[name] = name_of(fields[name])
    cell = Identity(**{name: fields.pop(name) for name in Identity.model_fields if name in fields})
    return Record(cell=cell, **fields)


def name_of(text):
    """A text's hash, or the text itself where it is one."""
    return text if re.fullmatch("[0-9a-f]{16}", text) else digest(text)


@pytest.fixture
def outside(tmp_path):
    """Makes an installed-looking distribution: a module and its entry points, on a folder for PYTHONPATH."""

    def make(module: str, source: str, **groups: str) -> Path:
        site = tmp_path / "site"
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("".join(f"[fidmap.{group}]\n{line}\n" for group, line in groups.items()))
        return site

    return make


@pytest.fixture
def interrupted(monkeypatch):
    """A context in which the user interrupts the command at the first file that it writes ``after`` so many."""
    write = os.fsync

    @contextlib.contextmanager
    def interrupt(*, after: int):
        written = 0

        def crash(descriptor):
            nonlocal written
            written += 1
            if written > after:
                raise KeyboardInterrupt
            write(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", crash)
            yield

    return interrupt


@pytest.fixture(scope="session")
def warm():
    """A process that forks the command (``tests/warm.py``), for all tests of one session."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm.py")], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        process.stdin.close()


@pytest.fixture
def fidmap(tmp_path, request):
    """Runs the command in a process of its own, in a scratch folder; one ``in the background`` is started anew."""

    def call(*arguments: str, site: Path | None = None, background: bool = False):
        command = list(map(str, arguments))
        path = os.pathsep.join(str(p) for p in (site, ROOT) if p)
        if background:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", *command], cwd=tmp_path, text=True,
                env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                # Tests in the background of a shell ignore interrupts, and would hand that down.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        process = request.getfixturevalue("warm")
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch, "out"), Path(scratch, "err")
            job = {"arguments": command, "folder": str(tmp_path), "path": path, "out": str(out), "err": str(err)}
            print(json.dumps(job), file=process.stdin, flush=True)
            code = int(process.stdout.readline())
            return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())

    return call


@pytest.fixture
def command(tmp_path, capfd, monkeypatch):
    """Runs the command in this process, in a scratch folder: its exit code, and what it prints to either stream."""
    from bench.__main__ import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code or 0, *capfd.readouterr()

    return call

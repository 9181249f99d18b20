"""Fixtures of several test files."""

import os
import re
import signal
import subprocess
import sys
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
def fidmap(tmp_path):
    """Runs the command in a process of its own, in a scratch folder."""

    def call(*arguments: str, site: Path | None = None, background: bool = False, timeout: float = 300):
        path = os.pathsep.join(str(p) for p in (site, ROOT) if p)
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "bench", *map(str, arguments)]
        if background:
            return subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                # Tests in the background of a shell ignore interrupts, and would hand that down.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call

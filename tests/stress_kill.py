"""Kill `fidmap run quick` at random moments, then let it finish, and hold it against an uninterrupted run.

    python tests/stress_kill.py [KILLS] [FOLDER]

Takes about twice as long as `quick`. Prints what was found; exit code 1 where a finished cell ran again, one was lost,
or a deterministic measure differs.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.records.store import Store

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
COMMAND = [sys.executable, "-m", "bench", "run", "quick", "--out"]


def start(out: Path) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def written(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "records").glob("*.json")}


def measures(out: Path) -> dict[tuple[str, str], str]:
    return {
        (r.cell.key, m.entry, m.name): repr(m.value)
        for r in Store(out).records()
        for m in r.measures
        if m.deterministic
    }


whole, killed, generator = FOLDER / "whole", FOLDER / "killed", random.Random(0)
assert start(whole).wait() == 0
total, again = len(written(whole)), 0
before: dict[str, int] = {}
for kill in range(KILLS):
    process, target = start(killed), len(before) + total // (KILLS + 2)
    while process.poll() is None and len(written(killed)) < min(target, total - 1):
        time.sleep(0.01)
    time.sleep(generator.uniform(0, 1.5))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    now = written(killed)
    again += sum(now.get(name) != at for name, at in before.items())
    print(f"kill {kill + 1}: {len(now)} of {total} cells stored", flush=True)
    before = now
assert start(killed).wait() == 0
again += sum(written(killed).get(name) != at for name, at in before.items())
expected, found = measures(whole), measures(killed)
differing = [key for key in expected if expected[key] != found.get(key)]
print(f"{again} finished cells ran again; {len(expected) - len(found)} of {len(expected)} measures lost; "
      f"{len(differing)} differ")  # fmt: skip
sys.exit(bool(again or differing or len(expected) != len(found)))

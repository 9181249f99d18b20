"""A process that has loaded what others wrote, and none of ours, and forks the command from there.

Most of the seconds of a short command are torch's import. Reads a job of JSON per line: ``arguments``, ``folder``,
``path`` (PYTHONPATH), ``out`` and ``err`` (files); answers with a line: the exit code.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

OTHERS = ("matplotlib.pyplot", "numpy", "pandas", "pydantic", "rich", "scipy.optimize", "scipy.stats", "torch",
          "torchmetrics", "typer")  # fmt: skip


def serve() -> None:
    """Run one job after another, each in a process of its own, until stdin ends."""
    for name in OTHERS:
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(run(**job))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(arguments: list[str], folder: str, path: str, out: str, err: str) -> int:
    """``python -m bench``, as a process that is started anew would run it; returns its exit code."""
    for number, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = path
    own = str(Path(__file__).parent)
    sys.path[:] = [folder, *path.split(os.pathsep), *(place for place in sys.path if place != own)]
    sys.argv = ["bench", *arguments]
    try:
        runpy.run_module("bench", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()

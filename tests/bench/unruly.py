"""Tasks that reach beyond their process, installed as an outside package by the tests of workers."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from bench.task import Context, Measure, TaskParameters, task

if multiprocessing.parent_process() is not None:
    time.sleep(3.2)  # an import that takes longer than a cell may: timeout_s is 3


class Parameters(TaskParameters):
    behaviour: str
    index: int = 0


SLEEPS = "import time; time.sleep(600)"
DAEMON = f"import os; os.fork() and os._exit(0); os.setsid(); open(f'child-{{os.getpid()}}', 'w'); {SLEEPS}"
HUNGRY = "import time; held = bytearray(b'x' * 2**31); time.sleep(600)"


def _child(code: str, **options: object) -> None:
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    Path(f"child-{process.pid}").touch()


@task(entry="behaviour", measures=[Measure("state", direction="target"), Measure("seed", direction="target")])
def unruly(parameters: Parameters, context: Context):
    """Behaves as it is told to."""
    match parameters.behaviour:
        case "late":
            _child(SLEEPS)
            _child(SLEEPS, start_new_session=True)
            subprocess.run([sys.executable, "-c", DAEMON], check=True)  # it leaves its parent too
            time.sleep(600)
        case "hungry":
            _child(HUNGRY)
            time.sleep(600)
        case "leaves":
            _child(SLEEPS)
        case "holds":  # what a dead worker's child holds open never ends
            if os.fork() == 0:
                Path(f"child-{os.getpid()}").touch()
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        case "screams":
            raise RuntimeError("\x1b[2J\x1b]0;title\x07 of\nlines")
        case "changes":
            _change(Path.cwd())
    return {"state": _state(), "seed": context.seed}


def _change(folder: Path) -> None:
    import numpy
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(False)
    torch.set_grad_enabled(False)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.set_flush_denormal(True)
    numpy.seterr(all="raise")
    warnings.simplefilter("error")
    os.environ["ATEN_CPU_CAPABILITY"] = "default"
    os.environ.pop("OMP_NUM_THREADS")
    (folder / "elsewhere").mkdir(exist_ok=True)
    os.chdir(folder / "elsewhere")
    sys.path.insert(0, "elsewhere")
    for draw in (torch.manual_seed, numpy.random.seed, random.seed):
        draw(17)


def _state() -> float:
    """A number that depends on all that ``_change`` changes."""
    import numpy
    import torch

    parts = [
        str(torch.get_default_dtype()), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(), str(torch.empty(1).device), torch.get_float32_matmul_precision(), numpy.geterr(),
        [str(each) for each in warnings.filters], sorted(os.environ), os.getcwd(), sys.path,
        torch.rand(3, device="cpu").tolist(), numpy.random.rand(3).tolist(), random.random(),
        bool(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1.0 == 0),
    ]  # fmt: skip
    from bench.files import digest

    return float(int(digest(parts), 16) % 2**48)

"""A worker: a spawned process that runs one cell after another and sends back an Outcome of each.

It answers each cell twice: with None when the cell's imports are done and its time begins, and with the Outcome when it
ends. The imports stand inside the functions, since no module that is measured may be loaded before ``Loaded.record``.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from bench.errors import printable
from bench.plan.source import Loaded

if TYPE_CHECKING:
    from bench.plan.cell import Cell
    from bench.records.record import Measurement, Status
    from bench.task import Measurements, Task, Value


@dataclass
class Outcome:
    """How a cell ended in its worker: status, error, measures, timings, and arrays as safetensors bytes."""

    status: Status
    error: str | None = None
    measures: list[Measurement] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    arrays: bytes | None = None
    names: list[str] = field(default_factory=list)  # of the arrays
    state: dict[str, Any] = field(default_factory=dict)  # torch's flags in the worker


def work(connection: Connection, threads: int, outside: tuple[str, ...]) -> None:
    """The main function of a worker: run the cells that arrive on ``connection`` until the coordinator closes it.

    ``threads`` is the number of threads of torch, NumPy and the BLAS; ``outside`` are the user's modules that cells may
    load.
    """
    from bench.run.processes import lead

    lead()
    os.dup2(2, 1)  # stdout is for results alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator gets it too, and ends its workers
    if hasattr(os, "register_at_fork"):  # a child with the pipe open would keep the coordinator waiting
        os.register_at_fork(after_in_child=connection.close)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # read when torch and numpy are loaded, later
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threading.Thread(target=_follow_parent, daemon=True).start()
    loaded = Loaded(outside)
    loaded.record()
    import torch

    from bench.environment import torch_state
    from bench.run.pristine import ProcessState

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    flags, state = torch_state(), ProcessState()
    while True:
        try:
            cell, keep_samples = connection.recv()
            state.restore(cell.identity.seed)
            _import_all(cell)
            connection.send(None)
            outcome = _run_cell(cell, keep_samples, loaded, state)
            outcome.state = flags
            connection.send(outcome)
        except (EOFError, OSError, KeyboardInterrupt):
            return


def _follow_parent() -> None:
    """Wait for the end of the coordinator, then end this process and all that it has started."""
    from bench.run.processes import Tree

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    Tree(os.getpid()).kill(head=False)
    os._exit(1)


def _import_all(cell: Cell) -> None:
    """Import the cell's task and entries, which may take longer than the cell itself."""
    from bench.catalogue import TASKS
    from bench.plan.blocks import find_entries

    for one in (TASKS[cell.identity.task].resolve(), *find_entries(cell.identity.parameters)):
        try:
            one.resolve()
        except ImportError:  # the task meets it again, and its error says what is missing
            continue


def _run_cell(cell: Cell, keep_samples: bool, loaded: Loaded, state: Any) -> Outcome:
    import torch
    from safetensors.torch import save

    from bench.catalogue import TASKS
    from bench.records.record import FINISHED
    from bench.task import Context

    what = cell.identity
    context = Context(what.seed, what.device, keep_samples)
    outcome = Outcome("ok")
    try:
        task = TASKS[what.task].resolve()
        state.restore(what.seed)  # undo what the imports drew or set
        parameters = task.parameters.model_validate(what.parameters)
        if changed := sorted(name for name, held in parameters.contents().items() if dict(cell.contents)[name] != held):
            planned = f"not as they were when the cell was planned: {', '.join(changed)}"
            return Outcome("failed", f"{planned}; what a cell names must be the same in each process")
        measures = _describe(task, task.run(parameters, context))
        if bad := [m.name for m in measures if not math.isfinite(m.value)]:
            outcome.status, outcome.error = "diverged", f"not finite: {', '.join(bad)}"
        outcome.measures, outcome.timing = measures, json.loads(json.dumps(context.timing))
        outcome.arrays, outcome.names = save(context.arrays) if context.arrays else None, sorted(context.arrays)
    except FloatingPointError as error:
        outcome = Outcome("diverged", printable(str(error)))
    except (MemoryError, torch.OutOfMemoryError) as error:
        outcome = Outcome("out_of_memory", _reason(error))
    except BaseException as error:  # of the user's code, which may raise anything; interrupts do not reach a worker
        for line in traceback.format_exc().splitlines():
            print(_indent(line), file=sys.stderr)
        outcome = Outcome("failed", _reason(error))
    if outcome.status in FINISHED:  # its hash, by which it is reused, must be that of what ran
        try:
            loaded.require(cell.modules, cell.source)
        except (RuntimeError, ImportError, OSError) as error:
            outcome = Outcome("failed", printable(str(error)))
    return outcome


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))] + printable(line)


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return printable(f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})")


def _describe(task: Task, found: Mapping[str, Any]) -> list[Measurement]:
    """The values that a task returned (in a contest, per entry), each with the task's declaration of the measure."""
    by_entry: Mapping[Any, Measurements] = found if task.kind == "contest" else {None: found}
    return [
        _measurement(task, entry, name, value) for entry, values in by_entry.items() for name, value in values.items()
    ]


def _measurement(task: Task, entry: str | None, name: str, value: float | Value) -> Measurement:
    from bench.records.record import Measurement
    from bench.task import Value

    declared = task.measures.get(name)
    if declared is None:
        raise RuntimeError(f"{task.name} returned {name!r}, a measure that it does not declare")
    value = value if isinstance(value, Value) else Value(float(value))
    return Measurement(
        name=name, entry=entry, value=float(value.value), interval=value.interval, n=value.n, unit=declared.unit,
        direction=declared.direction, deterministic=declared.deterministic, window=declared.window,
        floor=declared.floor, extractor=value.extractor, reference=value.reference,
    )  # fmt: skip

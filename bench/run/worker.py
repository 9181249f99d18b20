"""A worker: a spawned process that runs one cell after another and sends back what came of each.

It answers a cell twice: with None once all that the cell names is imported, when its time begins, and with an Outcome.
Until ``Loaded`` records, nothing of what is measured may be imported: hence the imports inside the functions.
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
    """What a worker sends back of one cell."""

    status: Status
    error: str | None = None
    measures: list[Measurement] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    arrays: bytes | None = None
    names: list[str] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)  # torch's flags in the worker


def work(connection: Connection, threads: int, outside: tuple[str, ...]) -> None:
    """A worker's life: cells in, outcomes out, until the coordinator is gone."""
    from bench.run.processes import lead

    lead()
    os.dup2(2, 1)  # stdout is for results
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator sees it, and ends its workers
    if hasattr(os, "register_at_fork"):  # a child that held the pipe would keep the coordinator waiting at it
        os.register_at_fork(after_in_child=connection.close)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # read when torch and numpy are loaded, which is not yet
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
    """End this process and what it has started when the coordinator ends, however it ends."""
    from bench.run.processes import Tree

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    Tree(os.getpid()).kill(head=False)
    os._exit(1)


def _import_all(cell: Cell) -> None:
    """Load the cell's task and entries, whose first imports may take longer than the cell itself."""
    from bench.catalogue import TASKS
    from bench.plan.blocks import find_entries

    for entry in (TASKS[cell.identity.task], *find_entries(cell.identity.parameters)):
        try:
            entry.resolve()
        except ImportError:  # the task will meet it, and say what is missing
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
        state.restore(what.seed)  # what the imports drew or set does not count
        measures = _describe(task, task.run(task.parameters.model_validate(what.parameters), context))
        if bad := [m.name for m in measures if not math.isfinite(m.value)]:
            outcome.status, outcome.error = "diverged", f"not finite: {', '.join(bad)}"
        outcome.measures, outcome.timing = measures, json.loads(json.dumps(context.timing))
        outcome.arrays, outcome.names = save(context.arrays) if context.arrays else None, sorted(context.arrays)
    except FloatingPointError as error:
        outcome = Outcome("diverged", printable(str(error)))
    except (MemoryError, torch.OutOfMemoryError) as error:
        outcome = Outcome("out_of_memory", _reason(error))
    except (Exception, SystemExit) as error:
        for line in traceback.format_exc().splitlines():
            print(_indented(line), file=sys.stderr)
        outcome = Outcome("failed", _reason(error))
    if outcome.status in FINISHED:  # it will be used again by its hash, which has to be that of what ran
        try:
            loaded.require(cell.modules, cell.source)
        except (RuntimeError, ImportError, OSError) as error:
            outcome = Outcome("failed", printable(str(error)))
    return outcome


def _indented(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))] + printable(line)


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return printable(f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})")


def _describe(task: Task, found: Mapping[str, Any]) -> list[Measurement]:
    """What a task returned, with what it declares of each measure; a contest returns the measures of each entry."""
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

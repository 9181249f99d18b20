"""Executes cells: persistent spawned workers that can be killed, resume from the store, failures kept apart.

The coordinator alone writes records, each as soon as its cell ends. Deterministic cells run
``jobs`` at a time; cells with a timing run alone after them.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Any

from bench import environment
from bench.catalogue import TASKS
from bench.cells import Cell
from bench.store import Measured, Record, Status, Store
from bench.task import Context, Task, Value

POLL = 0.1  # seconds between two looks at deadlines and memory
START = 120.0  # seconds that a worker may take to load torch, which no cell's time counts
KILLED = -9  # the exit code that the kernel's memory killer leaves


@dataclass
class Outcome:
    """What a worker sends back of one cell."""

    status: Status
    error: str | None = None
    measures: list[Measured] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    arrays: bytes | None = None
    names: list[str] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)  # torch's flags in the worker


Progress = Callable[[Cell, Record | None], None]  # called with None when a cell begins


def missing(cells: Iterable[Cell], store: Store, *, force: bool = False, keep_samples: bool = False) -> list[Cell]:
    """Cells without a finished record in the store, or without the samples that are to be kept."""
    return [
        cell
        for cell in cells
        if force or not store.holds(cell.hash, arrays=["samples"] if keep_samples and cell.samples else [])
    ]


def run(
    cells: list[Cell], store: Store, *, jobs: int = 1, keep_samples: bool = False, progress: Progress = lambda *_: None
) -> dict[str, int]:
    """Run the cells and store a record of each as it ends; returns how many ended in each status."""
    session = _Session(store, keep_samples, progress)
    try:
        for cell in [cell for cell in cells if cell.skip]:
            session.finish(cell, Outcome("skipped", cell.skip), datetime.now(UTC), 0.0)
        rest = [cell for cell in cells if not cell.skip]
        for timing in (False, True):
            for threads in sorted({cell.threads for cell in rest if cell.timing == timing}):
                phase = [cell for cell in rest if cell.timing == timing and cell.threads == threads]
                session.phase(phase, threads, 1 if timing else jobs)
    finally:
        session.close()
    return session.counts


class _Worker:
    """A spawned process that runs one cell after another."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads), daemon=True)
        self.threads = threads
        self.cell: Cell | None = None
        self.ready = False
        self.process.start()
        theirs.close()

    def send(self, cell: Cell, keep_samples: bool) -> None:
        self.cell, self.started, self.began = cell, datetime.now(UTC), time.monotonic()
        self.connection.send((cell, keep_samples))

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Session:
    def __init__(self, store: Store, keep_samples: bool, progress: Progress):
        self.store, self.keep_samples, self.progress = store, keep_samples, progress
        self.workers: list[_Worker] = []
        self.counts: dict[str, int] = {}
        self.machine = environment.machine()
        self.code = environment.code()

    def phase(self, cells: list[Cell], threads: int, jobs: int) -> None:
        """Run cells of one thread count, ``jobs`` at a time."""
        pending = list(reversed(cells))
        for worker in [w for w in self.workers if w.threads != threads]:
            self.drop(worker)
        while pending or any(worker.cell for worker in self.workers):
            busy = [worker for worker in self.workers if worker.cell]
            idle = [worker for worker in self.workers if not worker.cell]
            while pending and len(busy) < jobs:
                if not idle:
                    idle.append(_Worker(threads))
                    self.workers.append(idle[0])
                worker = idle.pop()
                cell = pending.pop()
                self.progress(cell, None)
                try:
                    worker.send(cell, self.keep_samples)
                except OSError:  # it died while idle: another one takes the cell
                    self.drop(worker)
                    pending.append(cell)
                    continue
                busy.append(worker)
            wait([worker.connection for worker in busy], timeout=POLL)
            for worker in busy:
                self.look(worker)

    def look(self, worker: _Worker) -> None:
        """Take a worker's outcome, or end it: too late, too large, or dead."""
        cell = worker.cell
        assert cell is not None
        outcome = None
        if worker.connection.poll():
            try:
                outcome = worker.connection.recv()
                if outcome is None:  # it has loaded torch: the cell begins
                    worker.ready, worker.started, worker.began = True, datetime.now(UTC), time.monotonic()
            except (EOFError, OSError):
                worker.process.join()
                outcome = _died(worker.process.exitcode)
        elif time.monotonic() - worker.began > cell.timeout_s + (0 if worker.ready else START):
            outcome = Outcome("timeout", f"stopped after {cell.timeout_s:g} s (the suite's timeout_s)")
        elif (used := _memory(worker.process.pid)) > cell.memory_gib:
            outcome = Outcome(
                "out_of_memory", f"stopped at {used:.3g} GiB (the suite's memory_gib is {cell.memory_gib:g})"
            )
        if outcome is None:
            return
        worker.cell = None
        if not outcome.state:  # the worker is gone, or to be
            self.drop(worker)
        self.finish(cell, outcome, worker.started, time.monotonic() - worker.began)

    def finish(self, cell: Cell, outcome: Outcome, started: datetime, duration: float) -> None:
        """Write a cell's record."""
        record = Record(
            suite=cell.suite,
            task=cell.task, kind=cell.kind, entry=cell.entry, parameters=cell.parameters,
            seed=cell.seed, key=cell.key, hash=cell.hash, **self.code,
            environment=self.store.write_environment(self.machine | {"torch": outcome.state}),
            device=cell.device, hardware=cell.hardware, threads=cell.threads,
            measures=outcome.measures, timing=outcome.timing, arrays=outcome.names,
            status=outcome.status, error=outcome.error, started_at=started.isoformat(), duration=duration,
        )  # fmt: skip
        self.store.write(record, outcome.arrays)
        self.counts[record.status] = self.counts.get(record.status, 0) + 1
        self.progress(cell, record)

    def drop(self, worker: _Worker) -> None:
        worker.kill()
        self.workers.remove(worker)

    def close(self) -> None:
        for worker in list(self.workers):
            self.drop(worker)


def _died(code: int | None) -> Outcome:
    if code == KILLED:
        return Outcome("out_of_memory", "the worker was killed by signal 9, as the kernel does when memory runs out")
    return Outcome("failed", f"the worker died with exit code {code}")


def _memory(pid: int | None) -> float:
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss / 2**30
    except psutil.Error:
        return 0.0  # it died just now; its connection will tell


def _work(connection: Connection, threads: int) -> None:
    """A worker's life: cells in, outcomes out, until the coordinator is gone."""
    os.dup2(2, 1)  # stdout is for results
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator sees it, and ends its workers
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # read when torch and numpy are loaded, which is not yet
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    state = environment.torch_state()
    connection.send(None)
    while True:
        try:
            cell, keep_samples = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        outcome = _run_cell(cell, keep_samples)
        outcome.state = state
        try:
            connection.send(outcome)
        except OSError:
            return


def _follow_parent() -> None:
    """End this process when the coordinator ends, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _run_cell(cell: Cell, keep_samples: bool) -> Outcome:
    import torch
    from safetensors.torch import save

    context = Context(cell.seed, cell.device, keep_samples)
    outcome = Outcome("ok")
    try:
        task = TASKS[cell.task].resolve()
        torch.manual_seed(cell.seed)
        values = task.run(task.parameters.model_validate(cell.parameters), context)
        if environment.source_hash(cell.modules, again=True) != cell.source:
            raise RuntimeError("the source changed during the run; run again")
        measures = [_measured(task, name, value) for name, value in values.items()]
        if bad := [m.name for m in measures if not math.isfinite(m.value)]:
            outcome.status, outcome.error = "diverged", f"not finite: {', '.join(bad)}"
        outcome.measures, outcome.timing = measures, json.loads(json.dumps(context.timing))
        outcome.arrays, outcome.names = save(context.arrays) if context.arrays else None, sorted(context.arrays)
    except FloatingPointError as error:
        outcome.status, outcome.error = "diverged", _line(str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        outcome.status, outcome.error = "out_of_memory", _reason(error)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        outcome.status, outcome.error = "failed", _reason(error)
    return outcome


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return _line(f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})")


def _line(text: str) -> str:
    """The text on one line, in what JSON can hold."""
    return " ".join(text.encode(errors="replace").decode().split())


def _measured(task: Task, name: str, value: float | Value) -> Measured:
    """A returned value with what its task declares of it; a contest names its measures ``measure:entry``."""
    declared = task.measures.get(name.partition(":")[0])
    if declared is None:
        raise RuntimeError(f"{task.name} returned {name!r}, a measure that it does not declare")
    value = value if isinstance(value, Value) else Value(float(value))
    return Measured(
        name=name, value=float(value.value), interval=value.interval, n=value.n, unit=declared.unit,
        direction=declared.direction, deterministic=declared.deterministic, window=declared.window,
        floor=declared.floor, extractor=value.extractor, reference=value.reference,
    )  # fmt: skip

"""Runs cells in workers, spawned processes that are reused and can be killed, and stores a record of each.

This process, the coordinator, alone writes records, each as soon as its cell ends, so that an interrupted run resumes
from the store. A cell that fails, hangs or takes too much memory does not affect the others. Deterministic cells run
``jobs`` at a time; cells with a timing run after them, one at a time. Cells with guests have workers of their own, and
all processes that a worker started end with it, so that nothing that a guest leaves behind reaches another's cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from multiprocessing.connection import wait

from bench import environment
from bench.plan.cell import Cell
from bench.records.record import Record
from bench.records.store import Store
from bench.run.launch.local import Worker, explain_death
from bench.run.worker import Outcome

POLL = 0.1  # seconds between two checks of deadlines, memory and dead workers
START = 120.0  # seconds that a worker may take for the imports of a cell, which are not part of the cell's time


Progress = Callable[[Cell, Record | None], None]  # called with None when a cell begins


def select_missing(
    cells: Iterable[Cell], store: Store, *, force: bool = False, keep_samples: bool = False
) -> list[Cell]:
    """The cells that must run: those without a finished record in the store, or with ``force`` all of them.

    With ``keep_samples``, those whose record lacks its samples must run too.
    """
    return [
        cell
        for cell in cells
        if force or not store.holds(cell.identity.hash, arrays=["samples"] if keep_samples and cell.samples else [])
    ]


def run(
    cells: list[Cell], store: Store, *, jobs: int = 1, keep_samples: bool = False, progress: Progress = lambda *_: None
) -> dict[str, int]:
    """Run the cells, ``jobs`` at a time, and store a record of each as it ends; returns the number of cells by status.

    Cells that are excluded are recorded as skipped. ``keep_samples`` stores generated samples too.
    """
    session = _Session(store, keep_samples, progress)
    try:
        for cell in [cell for cell in cells if cell.skip]:
            session.finish(cell, Outcome("skipped", cell.skip), datetime.now(UTC), 0.0)
        rest = [cell for cell in cells if not cell.skip]
        groups = dict.fromkeys((cell.timing, cell.identity.threads, cell.outside) for cell in rest)
        for timing, threads, outside in sorted(groups):
            own = [c for c in rest if (c.timing, c.identity.threads, c.outside) == (timing, threads, outside)]
            session.phase(own, threads, outside, 1 if timing else jobs)
    finally:
        session.close()
    return session.counts


class _Session:
    def __init__(self, store: Store, keep_samples: bool, progress: Progress):
        self.store, self.keep_samples, self.progress = store, keep_samples, progress
        self.workers: list[Worker] = []
        self.counts: dict[str, int] = {}
        self.machine = environment.machine()
        self.code = environment.code()

    def phase(self, cells: list[Cell], threads: int, outside: tuple[str, ...], jobs: int) -> None:
        """Run cells that share a thread count and a set of guests, ``jobs`` at a time."""
        pending = list(reversed(cells))
        for worker in [w for w in self.workers if w.serves != (threads, outside)]:
            self.drop(worker)
        while pending or any(worker.cell for worker in self.workers):
            busy = [worker for worker in self.workers if worker.cell]
            idle = [worker for worker in self.workers if not worker.cell]
            while pending and len(busy) < jobs:
                if not idle:
                    idle.append(Worker(threads, outside))
                    self.workers.append(idle[0])
                worker = idle.pop()
                cell = pending.pop(choose_cell(pending, worker, busy))
                self.progress(cell, None)
                try:
                    worker.send(cell, self.keep_samples)
                except OSError:  # it died while idle: another worker gets the cell
                    self.drop(worker)
                    pending.append(cell)
                    continue
                busy.append(worker)
            wait([worker.connection for worker in busy], timeout=POLL)
            for worker in busy:
                self.look(worker)

    def look(self, worker: Worker) -> None:
        """Receive a worker's outcome, or decide it: the worker is dead, out of time or over its memory."""
        cell = worker.cell
        assert cell is not None
        outcome = None
        dead = not worker.process.is_alive()  # asked first: what it sent before it died is still in the pipe
        if worker.connection.poll():
            try:
                outcome = worker.connection.recv()
                if outcome is None:  # its imports are done: the cell begins
                    worker.imported = True
                    worker.begin()
            except (EOFError, OSError):
                worker.process.join()
                outcome = explain_death(worker.process.exitcode)
        elif dead:  # a child of it may hold the pipe open, which then never reports its end
            outcome = explain_death(worker.process.exitcode)
        elif time.monotonic() - worker.began > (cell.timeout_s if worker.imported else START):
            limit = f"{cell.timeout_s:g} s (the suite's timeout_s)"
            outcome = Outcome("timeout", f"stopped after {limit if worker.imported else f'{START:g} s of imports'}")
        elif (used := worker.tree.memory_gib(cell.memory_gib)) > cell.memory_gib:
            outcome = Outcome(
                "out_of_memory", f"stopped at {used:.3g} GiB (the suite's memory_gib is {cell.memory_gib:g})"
            )
        if outcome is None:
            return
        worker.cell = None
        duration = time.monotonic() - worker.began
        if not outcome.state or worker.tree.descendants():  # it is dead, must end, or left a process running
            self.drop(worker)
        self.finish(cell, outcome, worker.started, duration)

    def finish(self, cell: Cell, outcome: Outcome, started: datetime, duration: float) -> None:
        """Write the record of a cell that has ended, and count its status."""
        record = Record(
            cell=cell.identity, **self.code,
            environment=self.store.write_environment(self.machine | {"torch": outcome.state}),
            measures=outcome.measures, timing=outcome.timing, arrays=outcome.names,
            status=outcome.status, error=outcome.error, started_at=started.isoformat(), duration=duration,
        )  # fmt: skip
        self.store.write(record, outcome.arrays)
        self.counts[record.status] = self.counts.get(record.status, 0) + 1
        self.progress(cell, record)

    def drop(self, worker: Worker) -> None:
        worker.end()
        self.workers.remove(worker)

    def close(self) -> None:
        for worker in list(self.workers):
            self.drop(worker)


def choose_cell(pending: list[Cell], worker: Worker, busy: list[Worker]) -> int:
    """The index of the cell that a worker gets: of its last cell's block, else of a block that no other worker is at.

    What the cells of a block share, such as exact draws and their floors, is then computed once per block and not once
    per worker. Where there is no such cell, it is the next one.
    """
    last = range(len(pending) - 1, -1, -1)
    elsewhere = {other.block for other in busy}
    for wanted in (lambda block: block == worker.block, lambda block: block not in elsewhere):
        found = next((index for index in last if wanted(pending[index].block)), None)
        if found is not None:
            return found
    return len(pending) - 1

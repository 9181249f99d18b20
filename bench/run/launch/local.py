"""Workers on this machine: spawned processes that can be killed together with all that they started."""

from __future__ import annotations

import multiprocessing
import time
from datetime import UTC, datetime

from bench.plan.cell import Cell
from bench.run.processes import Tree
from bench.run.worker import Outcome, work

GRACE = 1.0  # seconds that a worker without a cell has for its exit
KILLED = -9  # the exit code of a process that the kernel killed because memory ran out


class Worker:
    """The coordinator's handle of a worker: a process that runs cells of one thread count and one set of guests."""

    def __init__(self, threads: int, outside: tuple[str, ...]):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, threads, outside), daemon=True)
        self.serves = (threads, outside)
        self.cell: Cell | None = None
        self.block: int | None = None  # of its last cell
        self.process.start()
        assert self.process.pid is not None
        self.tree = Tree(self.process.pid)
        theirs.close()

    def send(self, cell: Cell, keep_samples: bool) -> None:
        """Give the worker a cell to run; its imports come first."""
        self.cell, self.block, self.imported = cell, cell.block, False
        self.begin()
        self.connection.send((cell, keep_samples))

    def begin(self) -> None:
        """Note the time at which the worker begins the imports of its cell, or the cell itself."""
        self.started, self.began = datetime.now(UTC), time.monotonic()

    def end(self) -> None:
        """End the worker with all that it started: kill it, where it has no cell after a moment to tidy up."""
        if self.cell is None:
            self.tree.descendants()  # which it may leave behind
            self.connection.close()  # at which it returns, and gives back semaphores that libraries made
            self.process.join(GRACE)
        self.tree.kill()
        self.process.join()
        self.connection.close()


def explain_death(code: int | None) -> Outcome:
    """The outcome of a cell whose worker died with the exit code ``code`` before it sent one."""
    if code == KILLED:
        return Outcome("out_of_memory", "the worker was killed by signal 9, as the kernel does when memory runs out")
    return Outcome("failed", f"the worker died with exit code {code}")

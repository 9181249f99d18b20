"""Progress of a run on stderr, with the time left: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from statistics import fmean

from bench.plan.cell import Cell
from bench.progress import EVERY
from bench.records.record import Record


class Reporter:
    """Shows the progress of a run on stderr; called with each cell as it begins (record None) and as it ends."""

    def __init__(self, cells: list[Cell], jobs: int):
        self.waiting = {cell.identity.hash: cell for cell in cells}
        self.total, self.jobs = len(cells), jobs
        self.durations: dict[str, list[float]] = {}
        self.began = self.last = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and cells:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                       TextColumn("left {task.fields[left]}"))  # fmt: skip
            self.bar = Progress(*columns, console=Console(file=sys.__stderr__), transient=True)
            self.row = self.bar.add_task("starting", total=self.total, left="?")
            self.bar.start()

    def __call__(self, cell: Cell, record: Record | None) -> None:
        if record is not None:
            self.waiting.pop(cell.identity.hash, None)
            if record.status != "skipped":
                self.durations.setdefault(cell.identity.task, []).append(record.duration)
            if record.status not in ("ok", "skipped"):
                self.say(f"{record.status}: {cell.name}: {record.error}")
        done = self.total - len(self.waiting)
        if self.bar is not None:
            text = cell.name if len(cell.name) <= 60 else cell.name[:59] + "…"
            self.bar.update(self.row, completed=done, description=text, left=_clock(self.estimate_left()))
        elif record is not None and (time.monotonic() - self.last > EVERY or done == self.total):
            self.last = time.monotonic()
            elapsed = _clock(self.last - self.began)
            self.say(f"[{done}/{self.total}] {elapsed} elapsed, about {_clock(self.estimate_left())} left: {cell.name}")

    def estimate_left(self) -> float | None:
        """Estimated seconds until the run ends, None before a cell has ended.

        Each waiting cell is expected to take the mean duration of its task's cells, or of all where none has ended.
        """
        known = [d for durations in self.durations.values() for d in durations]
        if not known:
            return None
        means = {task: fmean(durations) for task, durations in self.durations.items()}
        overall = fmean(known)
        return sum(means.get(c.identity.task, overall) / (1 if c.timing else self.jobs) for c in self.waiting.values())

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.bar is not None:
            self.bar.stop()


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"

"""Progress of long work on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

EVERY = 10.0  # seconds between two lines where stderr is no terminal


class Steps:
    """Shows how many of ``total`` steps of a piece of work are done.

    ``with Steps("features of REAL", 100) as steps: steps.advance(10)``
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.last = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(file=sys.__stderr__), transient=True)
            self.row = self.bar.add_task(self.what, total=self.total)
            self.bar.start()
        return self

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more steps as done, and show it."""
        self.done += n
        if self.bar is not None:
            self.bar.update(self.row, completed=self.done)
        elif time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            print(f"{self.what}: {self.done} of {self.total}", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

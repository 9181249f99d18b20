"""Progress of long work on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

EVERY = 10.0  # seconds between two lines where stderr is no terminal


class Steps:
    """Shows how many of ``total`` steps of a piece of work are done, ``done`` of them before; nothing unless ``shown``.

    ``with Steps("features of REAL", 100) as steps: steps.advance(10)``
    """

    def __init__(self, what: str, total: int, done: int = 0, *, shown: bool = True) -> None:
        self.what, self.total, self.done, self.shown = what, total, done, shown
        self.last = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Steps:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            texts = (TextColumn("{task.description}"), TextColumn("{task.fields[note]}"))
            columns = (texts[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), texts[1])
            self.bar = Progress(*columns, console=Console(file=sys.__stderr__), transient=True)
            self.row = self.bar.add_task(self.what, total=self.total, completed=self.done, note="")
            self.bar.start()
        return self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more steps as done, and show it, with a note behind it."""
        self.done += n
        if self.bar is not None:
            self.bar.update(self.row, completed=self.done, note=note)
        elif self.shown and time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            line = f"{self.what}: {self.done} of {self.total}"
            print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

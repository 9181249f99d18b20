"""A worker's processes: itself and whatever it started, however deep; measured together and ended together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time

import psutil

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl
_SEARCH = 0.5  # seconds from one search for descendants to the next: each reads all processes of the machine


def lead() -> None:
    """Make this process the head of a session, and on Linux the parent of orphans among its descendants.

    So a child that leaves its parent, as a daemon does, is still found.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


class Tree:
    """The processes below and with the one of this number."""

    def __init__(self, pid: int):
        self.pid = pid
        self.seen: set[psutil.Process] = set()  # descendants, which outlive their parent's death
        self.search_at = 0.0  # on the monotonic clock

    def descendants(self) -> set[psutil.Process]:
        """Those that live now, as far as they are or once were below it."""
        with contextlib.suppress(psutil.Error):
            self.seen.update(psutil.Process(self.pid).children(recursive=True))
        self.seen = {process for process in self.seen if _lives(process)}
        return self.seen

    def memory_gib(self, enough: float) -> float:
        """Memory of all of them; where that exceeds ``enough``, with shared pages counted once.

        It may be asked for at every moment: new descendants are searched for twice a second.
        """
        if time.monotonic() >= self.search_at:
            self.descendants()
            self.search_at = time.monotonic() + _SEARCH
        processes = [*self.seen, *_processes([self.pid])]
        total = sum(_memory(process) for process in processes)
        return total if total <= enough else sum(_memory(process, shared_once=True) for process in processes)

    def kill(self, *, head: bool = True) -> None:
        """End them all, the head too unless told otherwise; what one of them starts meanwhile as well."""
        for _ in range(20):
            found = self.descendants() | _session(self.pid)
            if head:
                found |= set(_processes([self.pid]))
            found = {process for process in found if _lives(process)}
            if not found:
                return
            for process in found:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs([process for process in found if process.pid != self.pid], timeout=0.05)


def _processes(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.Error:
            continue
    return found


def _session(pid: int) -> set[psutil.Process]:
    """Members of the session that this process heads, beside itself."""
    if not hasattr(os, "getsid"):
        return set()
    members = []
    for other in psutil.pids():
        try:
            if other != pid and os.getsid(other) == pid:
                members.append(other)
        except OSError:  # it ended meanwhile, or is of another user
            continue
    return set(_processes(members))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _memory(process: psutil.Process, *, shared_once: bool = False) -> float:
    try:
        if shared_once:
            full = process.memory_full_info()
            return getattr(full, "pss", full.uss) / 2**30
        return process.memory_info().rss / 2**30
    except psutil.Error:
        return 0.0

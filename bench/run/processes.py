"""A worker's tree of processes: the worker and all its descendants, whose memory is summed and which end together."""

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
    """Make this process the leader of a new session and, on Linux, the new parent of orphaned descendants.

    A child that detaches from its parent, as a daemon does, is therefore still found.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


class Tree:
    """A process and all its descendants, by the number ``pid`` of the process."""

    def __init__(self, pid: int):
        self.pid = pid
        self.seen: set[psutil.Process] = set()  # descendants found so far; they may outlive their parent
        self.search_at = 0.0  # when to search for new ones, on the monotonic clock

    def descendants(self) -> set[psutil.Process]:
        """The live processes that are descendants now, or were at an earlier call."""
        with contextlib.suppress(psutil.Error):
            self.seen.update(psutil.Process(self.pid).children(recursive=True))
        self.seen = {process for process in self.seen if _lives(process)}
        return self.seen

    def memory_gib(self, enough: float) -> float:
        """Memory of the whole tree in GiB; where it exceeds ``enough``, pages that processes share are counted once.

        Counting them once is slow, and only lowers the sum. New descendants are searched for twice a second at most, so
        that it may be called often.
        """
        if time.monotonic() >= self.search_at:
            self.descendants()
            self.search_at = time.monotonic() + _SEARCH
        processes = [*self.seen, *_processes([self.pid])]
        total = sum(_memory(process) for process in processes)
        return total if total <= enough else sum(_memory(process, shared_once=True) for process in processes)

    def kill(self, *, head: bool = True) -> None:
        """Kill the tree, including processes that are started meanwhile; with ``head=False``, all but its head."""
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
    """The other processes of the session that the process ``pid`` leads."""
    if not hasattr(os, "getsid"):
        return set()
    members = []
    for other in psutil.pids():
        try:
            if other != pid and os.getsid(other) == pid:
                members.append(other)
        except OSError:  # it ended meanwhile, or belongs to another user
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

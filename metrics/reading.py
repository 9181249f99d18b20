"""Image files that several threads read, hash and decode ahead of whoever takes the images, in the order of the files.

Reading a file, hashing it and decoding it let other threads run, so that threads do what processes would do without
their start and without copies between them. A file is opened once: what is hashed is what is decoded.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from jaxtyping import UInt8
from torch import Tensor

from metrics.decoding import decode, explain

MOST = 8  # threads, if nothing else is said
AT_ONCE = 8  # files that a thread takes at a time
R = TypeVar("R")


class Loaded(NamedTuple):
    """An image file that was read: the sha256 of its bytes, and its image, or the reason why there is none."""

    digest: bytes
    image: UInt8[Tensor, "_c _h _w"] | None
    reason: str = ""


def read_file(file: Path) -> bytes:
    """The bytes of a file."""
    with open(file, "rb", buffering=0) as stream:
        return stream.readall()


def load_files(
    files: Sequence[Path],
    seen: Counter[str],
    *,
    workers: int | None = None,
    ahead: int = 64,
    read: Callable[[Path], bytes] = read_file,
) -> Iterator[Loaded]:
    """Read, hash and decode image files with ``workers`` threads (None: one per core, 8 at most), in their order.

    At most ``ahead`` images, and a few per thread, wait in memory. ``seen`` counts what ``decode`` counts, of the
    images that have been given and the next few. ``read`` gives the bytes of a file. Raises the OSError of a file that
    cannot be opened.
    """
    for loaded, counts in _in_parts(partial(_load, read), files, workers, ahead):
        seen.update(counts)
        yield from loaded


def hash_files(
    files: Sequence[Path], *, workers: int | None = None, read: Callable[[Path], bytes] = read_file
) -> Iterator[bytes]:
    """The sha256 of the bytes of each file, in their order, by threads as of ``load_files``."""
    for digests in _in_parts(lambda part: [_digest(read(file)) for file in part], files, workers, 64):
        yield from digests


def _in_parts(
    function: Callable[[Sequence[Path]], R], files: Sequence[Path], workers: int | None, ahead: int
) -> Iterator[R]:
    """The function of a few files at a time, in their order; what has not begun is dropped when nobody asks on."""
    workers = workers or min(MOST, _count_cores())
    most = -(-ahead // AT_ONCE) + workers
    waiting: deque = deque()
    with ThreadPoolExecutor(workers, "fidmap-reader") as pool:
        try:
            for start in range(0, len(files), AT_ONCE):
                waiting.append(pool.submit(function, files[start : start + AT_ONCE]))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _load(read: Callable[[Path], bytes], files: Sequence[Path]) -> tuple[list[Loaded], Counter[str]]:
    loaded, seen = [], Counter[str]()
    for file in files:
        content = read(file)
        digest = _digest(content)
        try:
            loaded.append(Loaded(digest, decode(content, seen)))
        except Exception as error:  # Pillow's readers raise whatever a broken file leads to
            loaded.append(Loaded(digest, None, explain(error)))
    return loaded, seen


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@cache
def _count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

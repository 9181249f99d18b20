"""Short hashes of content, atomic writing of files, where fidmap's cache is, and reading without collecting garbage."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UsageError


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of bytes, or of any other value as JSON with sorted keys."""
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader, also after a crash, finds the old content or the new, never a part.

    Raises UsageError where it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less what the umask takes
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; what was stored before is kept") from error


def cache_folder() -> Path:
    """The folder of fidmap's cache: ``$FIDMAP_CACHE``, or ``fidmap`` in the user's cache folder of the platform."""
    if given := os.environ.get("FIDMAP_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fidmap"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fidmap" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidmap"


@contextmanager
def without_collection() -> Iterator[None]:
    """Read many objects without Python's search for cycles, which visits each of them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

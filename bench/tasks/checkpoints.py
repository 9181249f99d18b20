"""Checkpoints that parameters of tasks name: they are checked, and their hashes belong to the hash of a record."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from bench.task import NameOf
from implementations.catalogue import WEIGHTS


def _check(name: str) -> str:
    try:
        WEIGHTS[name]
    except LookupError as error:
        raise ValueError(f"{error}; or a file that fidmap train wrote") from None
    if ":" in name:
        raise ValueError(f"{name!r} names code; {', '.join(WEIGHTS)} or a file that fidmap train wrote are accepted")
    return name


CheckpointName: TypeAlias = Annotated[str, AfterValidator(_check), NameOf("weights")]


def find_missing(names: Iterable[str]) -> str:
    """The checkpoints that are not on this machine and what makes them, in a few words; empty where all are there."""
    found = [name for name in dict.fromkeys(names) if not WEIGHTS[name].file.is_file()]
    if not found:
        return ""
    made = "; ".join(f"fidmap train {name}" for name in found if name in WEIGHTS)
    return f"no checkpoint {', '.join(found)}" + (f" (made by {made})" if made else "")


def hash_checkpoints(names: Iterable[str]) -> dict[str, str]:
    """The hash of each checkpoint's weights and of how its network is built; raises ValueError on a bad file."""
    return {name: _hash(name, *_stamp(name)) for name in dict.fromkeys(names)}


def _stamp(name: str) -> tuple[int, int]:
    state = WEIGHTS[name].file.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=32)
def _hash(name: str, changed: int, size: int) -> str:
    from bench.files import digest
    from implementations.weights.files import open_file

    opened = open_file(name)
    return f"{opened.hash} {digest(opened.description)[:16]}"

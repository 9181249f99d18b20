"""An index of a large store: its records in one file, so that thousands of small ones need not be opened again.

It lies in fidmap's cache, and never in the store. A record in it counts where the record's own file is still the one
that was read and checked: of the same size, inode, and times of change. A file of the last two seconds is not indexed,
since it may change again without a change of its times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from bench.errors import UsageError
from bench.files import cache_folder, digest, without_collection, write_atomic
from bench.records.record import SCHEMA_VERSION, Record

FORM = [1, SCHEMA_VERSION]  # versions of the index and of the records in it
LEAST = 500  # records from which a store has an index: fewer are read in half a second
YOUNG = 2 * 10**9  # nanoseconds
RECORDS = TypeAdapter(list[Record])


class Stamp(NamedTuple):
    """What changes where a file is written again."""

    size: int
    modified: int  # both times in nanoseconds
    changed: int
    inode: int


class Indexed(NamedTuple):
    """A record, and the stamp of its file when it was read."""

    stamp: Stamp
    record: Record


def stamps(records_folder: Path) -> dict[str, Stamp]:
    """The stamp of each record's file, by its name without suffix, in order of name; empty without the folder."""
    if not records_folder.is_dir():
        return {}
    found = {}
    with os.scandir(records_folder) as entries:
        for entry in entries:
            if not entry.name.endswith(".json"):
                continue
            try:
                stat = entry.stat()
            except FileNotFoundError:  # another run has just set it aside
                continue
            found[entry.name] = Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return {name.removesuffix(".json"): found[name] for name in sorted(found)}


def load(folder: Path) -> dict[str, Indexed]:
    """The index of the store at ``folder``; empty where there is none, or it is damaged or of another version."""
    try:
        head, _, body = _file(folder).read_bytes().partition(b"\n")
        stated = json.loads(head)
        if stated["form"] != FORM or stated["digest"] != digest(body):
            return {}
        with without_collection():
            records = RECORDS.validate_json(body)
        return {
            name: Indexed(Stamp(*stamp), record)
            for (name, *stamp), record in zip(stated["files"], records, strict=True)
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def keep(folder: Path, read: Mapping[str, Indexed]) -> None:
    """Write the index of the store at ``folder``, of records that were read; without a cache folder there is none."""
    settled = time.time_ns() - YOUNG
    old = {name: one for name, one in read.items() if max(one.stamp.modified, one.stamp.changed) < settled}
    body = "[" + ",\n".join(one.record.model_dump_json(exclude_defaults=True) for one in old.values()) + "]"
    files = [[name, *one.stamp] for name, one in old.items()]
    head = json.dumps({"form": FORM, "digest": digest(body.encode()), "files": files}, separators=(",", ":"))
    with suppress(UsageError):
        write_atomic(_file(folder), f"{head}\n{body}".encode())


def _file(folder: Path) -> Path:
    return cache_folder() / "stores" / f"{digest(str(folder.resolve()))}.json"

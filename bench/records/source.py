"""What can be merged into a store: another store, a bundle of one, or the JSON of pytest-benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.files import digest
from bench.records import bundle, microbench
from bench.records.record import Record
from bench.records.store import Store, StoredSuite

EXPECTED = "expected a folder of records, a file of `fidmap table --format json`, or pytest-benchmark's JSON"


@dataclass(frozen=True)
class Source:
    """One source of a merge: its records, their environments, the plans of its suites, what is damaged.

    A file may have several records of one cell hash.
    """

    path: str
    records: list[Record]
    environments: dict[str, Any]
    plans: dict[str, StoredSuite] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # hash of a record -> why it cannot be read
    arrays: Callable[[Record], bytes] = lambda record: b""  # the safetensors bytes beside a record


def read(path: Path) -> Source:
    """Read a source, all of it, so that what is wrong with it is known before anything is written.

    The records of a bundle lose their arrays, which it does not have. Raises UsageError where it is no source, and
    where it holds nothing.
    """
    if path.is_dir():
        return _read_store(path)
    try:
        content = json.loads(path.read_bytes())
        fields = set(content) if isinstance(content, dict) else set()
    except FileNotFoundError:
        raise UsageError(f"there is no {path}: {EXPECTED}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        fields = set()
    if "records" in fields:
        records, environments = bundle.read(path)
        bare = [record.model_copy(update={"arrays": [], "arrays_hash": None}) for record in records]
        return Source(str(path), bare, environments)
    if not fields & microbench.FIELDS:
        raise UsageError(f"{path}: {EXPECTED}")
    records, environment = microbench.read(path)
    plan = StoredSuite(
        suite=None, cells=[record.cell.hash for record in records], keys=[record.cell.key for record in records]
    )
    return Source(str(path), records, {digest(environment): environment}, {microbench.SUITE: plan})


def _read_store(path: Path) -> Source:
    store = Store(path)
    contents, plans = store.contents(), store.suites()
    if not contents.records and not plans:
        left = f"{len(contents.damaged)} damaged records and no other" if contents.damaged else "no records"
        raise UsageError(f"{path} holds {left}; {EXPECTED}")
    records, damaged = [], dict(contents.damaged)
    for record in [*contents.records, *contents.left_out]:
        try:
            content = store.read_arrays(record)
        except UsageError as error:
            damaged[record.cell.hash] = str(error)
            continue
        hash_ = digest(content) if content else None  # records of older versions do not have it
        records.append(record.model_copy(update={"arrays_hash": hash_}))
    return Source(str(path), records, store.environments(), plans, damaged, store.read_arrays)

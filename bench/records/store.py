"""Records on disk: one JSON file per cell, named by its hash, written atomically; arrays beside it in safetensors.

    FOLDER/records/HASH.json  arrays/HASH.safetensors  environments/HASH.json  suites/NAME.json  aside/

A record is the commit point of its cell: its arrays and its environment are on disk before it is. The file of a suite
lists the hashes of its cells as of the last run; other records of that suite (of older source, of another device) stay
in the folder and are not shown.

Whatever a file says is checked before it is used: a hash is 16 hexadecimal digits, so that it never names a file
elsewhere, and record, arrays and environment each have a digest that a changed byte breaks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from bench.errors import UsageError, printable
from bench.files import digest, write_atomic
from bench.plan.cell import Hash
from bench.records import index
from bench.records.record import (
    FINISHED,
    SCHEMA_VERSION,
    Record,
    describe_damage,
    parse_record,
    require_known_schema,
)
from bench.records.upgrade import upgrade_suite

ABANDONED = 3600.0  # seconds after which a temporary file has no writer any more: writing one takes a moment
T = TypeVar("T")
AGAIN = "`fidmap run` measures its cell again"


class StoredSuite(BaseModel):
    """A suite as of its last run into a store: its definition, which says how it is shown, and its cells' hashes."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 2  # files of that version have no such field
    suite: dict[str, Any] | None
    cells: list[Hash]
    keys: list[Hash] = []  # of the cells, in this order; empty where an older version wrote the file
    checksum: Hash | None = None  # of all of these; None where an older version or a hand wrote the file

    @model_validator(mode="after")
    def _check(self) -> StoredSuite:
        if self.keys and len(self.keys) != len(self.cells):
            raise ValueError(f"{len(self.cells)} cells have {len(self.keys)} keys")
        if self.checksum not in (None, self.digest()):
            raise ValueError("its content is not what was stored: its checksum differs")
        return self

    def digest(self) -> str:
        """The checksum of the suite's definition and of what it lists."""
        return digest([self.suite, self.cells, *([self.keys] if self.keys else [])])


@dataclass(frozen=True)
class Contents:
    """All that a folder of records, or the JSON bundle of one, holds: its records, and what is damaged or missing."""

    records: list[Record]
    damaged: dict[str, str] = field(default_factory=dict)  # hash of a record -> why it cannot be read
    left_out: list[Record] = field(default_factory=list)  # not of their suite's last run, or older than another
    absent: dict[str, tuple[int, int]] = field(default_factory=dict)  # suite -> (cells without a record, all cells)


class Store:
    """A folder of records, one per cell; several processes may write into it at the same time.

    With ``repair``, damaged files are set aside, so that their cells run again. Without it, a damaged record is named
    on stderr and left out, and a damaged suite or environment raises UsageError.
    """

    def __init__(self, folder: Path | str, *, repair: bool = False):
        self.folder, self.repair = Path(folder), repair
        self.damaged: dict[str, str] = {}  # hash of a record -> why it could not be read
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{folder} is a file; a folder of records is accepted")
        self.records_folder = self.folder / "records"
        self.written: dict[str, StoredSuite] = {}

    def create(self) -> Store:
        """Make the folder, and remove the temporary files of writers that were killed."""
        try:
            for name in ("records", "arrays", "environments", "suites"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        for left in self.folder.glob("*/.*.tmp"):
            # A process number says nothing of a writer on another host or in another container; its age does.
            try:
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
            except OSError:  # its writer has just renamed it
                continue
        return self

    def write(self, record: Record, arrays: bytes | None = None) -> None:
        """Store a record and, before it, its arrays (safetensors bytes)."""
        name = record.cell.hash
        if arrays:
            self.put(f"arrays/{name}.safetensors", arrays)
            record = record.model_copy(update={"arrays_hash": digest(arrays)})
        fields = json.loads(record.model_dump_json())
        text = json.dumps(fields | {"checksum": digest(fields)}, indent=1, allow_nan=False)
        self.put(f"records/{name}.json", (text + "\n").encode())

    def write_environment(self, environment: dict[str, Any]) -> str:
        """Store the description of a machine and its software, once, under its hash; returns the hash."""
        name = digest(environment)
        content = json.dumps(environment, indent=1, sort_keys=True).encode()
        file = self.folder / "environments" / f"{name}.json"
        if not file.is_file() or file.read_bytes() != content:
            self.put(f"environments/{name}.json", content)
        return name

    def write_suite(
        self, name: str, suite: dict[str, Any] | None, cells: list[str], keys: Sequence[str] = (), *, part: bool = False
    ) -> None:
        """Store the hashes of a suite's ``cells``, their keys, and its definition, which says how they are shown.

        With ``part``, ``cells`` are a selection: where the file lists them and more, its list stays. ``suites`` of this
        object gives ``cells`` in either case.
        """
        before = self.suites().get(name) if part else None
        stored = StoredSuite(schema_version=SCHEMA_VERSION, suite=suite, cells=cells, keys=list(keys))
        self.written[name] = stored
        if before is not None and set(cells) <= set(before.cells):
            stored = stored.model_copy(update={"cells": before.cells, "keys": before.keys})
        content = stored.model_dump(exclude={"checksum"}) | {"checksum": stored.digest()}
        self.put(f"suites/{name}.json", json.dumps(content, indent=1).encode())

    def put(self, relative: str, content: bytes) -> None:
        """Write a file of the store atomically; ``relative`` is its path within the store's folder."""
        write_atomic(self.folder / relative, content)

    def get(self, name: str) -> Record | None:
        """The record of the cell with the hash ``name``, None where there is none that can be read."""
        return self._read(self.records_folder / f"{name}.json")

    def holds(self, name: str, *, arrays: Iterable[str] = ()) -> bool:
        """Whether the cell with the hash ``name`` need not run again: its record is finished and undamaged.

        The record must have all of its own arrays, and, unless it diverged or was skipped, those named in ``arrays``.
        """
        record = self.get(name)
        if record is None or record.status not in FINISHED:
            return False
        if record.status == "ok" and not set(arrays) <= set(record.arrays):
            return False
        try:
            self.read_arrays(record)
        except UsageError as error:
            print(f"fidmap: {error}", file=sys.stderr)
            return False
        return True

    def suites(self) -> dict[str, StoredSuite]:
        """The suites that were run into this folder, by name, each as of its last run.

        What this object wrote itself comes before what lies in the folder, where another run may have replaced it.
        """

        def parse(stem: str, content: bytes) -> StoredSuite:
            fields = json.loads(content)
            require_known_schema(fields.get("schema_version") if isinstance(fields, dict) else None)
            stored = StoredSuite.model_validate(fields)
            if stored.schema_version < SCHEMA_VERSION and stored.suite is not None:
                stored = stored.model_copy(update={"suite": upgrade_suite(stored.suite)})
            return stored

        return self._documents("suites", parse) | self.written

    def environments(self) -> dict[str, Any]:
        """Every stored environment by its hash: machine and software that records were measured with."""

        def parse(stem: str, content: bytes) -> Any:
            environment = json.loads(content)
            if not isinstance(environment, dict) or digest(environment) != stem:
                raise ValueError("its content has another hash than its name")
            return environment

        return self._documents("environments", parse)

    def records(self) -> list[Record]:
        """The records that tables and comparisons show.

        These are the records of every stored suite's cells, in the suite's order, and then, of records whose suite is
        not stored here, the newest of each key.
        """
        return self.contents().records

    def contents(self) -> Contents:
        """Read the whole folder: the records that ``records`` gives, those left out, missing cells, damaged files."""
        suites = self.suites()
        names = dict.fromkeys(name for suite in suites.values() for name in suite.cells)
        read = self._read_all()
        shown = {name: read[name] for name in names if name in read}
        newest: dict[str, Record] = {}
        left_out = []
        for name, record in read.items():
            if name in names:
                continue
            twin = newest.get(record.cell.key)
            if record.cell.suite in suites or (twin and twin.started_at > record.started_at):
                left_out.append(record)
                continue
            left_out += [twin] if twin else []
            newest[record.cell.key] = record
        others = sorted(newest.values(), key=lambda r: (r.cell.suite, r.started_at, r.cell.key))
        absent = {name: (len(set(suite.cells) - set(shown)), len(suite.cells)) for name, suite in suites.items()}
        return Contents([*shown.values(), *others], dict(self.damaged), left_out, absent)

    def arrays(self, record: Record) -> dict[str, Any]:
        """The tensors stored beside a record, by name; raises UsageError where their file is damaged or missing."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self.read_arrays(record)
        try:
            return dict(sorted(load(content).items())) if content else {}
        except SafetensorError as error:
            raise UsageError(f"the arrays of {record.cell.hash} cannot be read: {error}; {AGAIN}") from None

    def _read_all(self) -> dict[str, Record]:
        """The records that can be read, by the names of their files, of a large store from its index."""
        stamps = index.stamps(self.records_folder)
        indexed = index.load(self.folder) if len(stamps) >= index.LEAST else {}
        found: dict[str, index.Indexed] = {}
        for name, stamp in stamps.items():
            if (kept := indexed.get(name)) and kept.stamp == stamp:
                found[name] = kept
            elif record := self._read(self.records_folder / f"{name}.json"):
                found[name] = index.Indexed(stamp, record)
        if len(stamps) >= index.LEAST and found != indexed:
            index.keep(self.folder, found)
        return {name: one.record for name, one in found.items()}

    def _read(self, file: Path) -> Record | None:
        """The record in a file, None where there is none or it is damaged."""

        def parse(stem: str, content: bytes) -> Record:
            record = parse_record(content)
            if record.cell.hash != stem:
                raise ValueError(f"it holds the record {record.cell.hash}")
            return record

        try:
            return _load(file, parse)
        except _Damage as damage:
            self.damaged[file.stem] = str(damage)
            if self.repair:
                _warn(f"{file} is damaged ({damage}); set aside as {self._set_aside(file)}, its cell will run again")
            else:
                _warn(f"{file} is damaged ({damage}); left out")
            return None

    def read_arrays(self, record: Record) -> bytes:
        """The file of a record's arrays, empty where it has none; raises UsageError where it is gone or damaged."""
        if not record.arrays:
            return b""
        file = self.folder / "arrays" / f"{record.cell.hash}.safetensors"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}; {AGAIN}") from None
        if record.arrays_hash is not None and digest(content) != record.arrays_hash:
            raise UsageError(f"{file} is damaged (it is not what was stored); {AGAIN}")
        return content

    def _documents(self, folder: str, parse: Callable[[str, bytes], T]) -> dict[str, T]:
        """The JSON files of a folder by their names without suffix, each as ``parse`` returns it."""
        found = {}
        for file in sorted((self.folder / folder).glob("*.json")):
            try:
                document = _load(file, parse)
            except _Damage as damage:
                if not self.repair:
                    remedy = "run the suite again, or remove the file"
                    raise UsageError(f"{file} is damaged ({damage}); {remedy}") from None
                _warn(f"{file} is damaged ({damage}); set aside as {self._set_aside(file)}")
                continue
            if document is not None:
                found[file.stem] = document
        return found

    def _set_aside(self, file: Path) -> Path:
        aside = self.folder / "aside" / file.name
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(file, aside)
        except FileNotFoundError:  # another run has just done so
            pass
        except OSError as error:
            raise UsageError(f"cannot move {file} to {aside}: {error.strerror}") from error
        return aside


class _Damage(Exception):
    """A file that can be read and does not hold what was stored in it; the message is the reason."""


def _load(file: Path, parse: Callable[[str, bytes], T]) -> T | None:
    """What ``parse`` makes of a file's name without suffix and of its bytes; None where there is no such file.

    Raises _Damage where ``parse`` finds the content wrong, and UsageError where the file cannot be read or a newer
    fidmap wrote it.
    """
    try:
        return parse(file.stem, file.read_bytes())
    except FileNotFoundError:  # another run may have just set it aside
        return None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise _Damage(describe_damage(error)) from None


def _warn(message: str) -> None:
    print(f"fidmap: {printable(message)}", file=sys.stderr)

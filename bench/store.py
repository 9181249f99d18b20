"""Records on disk: one JSON file a cell, named by its hash, written atomically; arrays beside it in safetensors.

    FOLDER/records/HASH.json  arrays/HASH.safetensors  environments/HASH.json  suites/NAME.json  aside/

A record is the commit point of its cell: its arrays and its environment are on disk before it is. A suite's file has
the hashes of its cells as last run: of that suite, what is not among them (older source, another device) is not shown.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.environment import digest
from bench.errors import UsageError

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1
Status = Literal["ok", "failed", "out_of_memory", "timeout", "diverged", "skipped"]
FINISHED: frozenset[str] = frozenset({"ok", "diverged", "skipped"})  # what a second run does not run again


class Measured(BaseModel):
    """One measure of a record; NaN and infinities are written as strings."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    name: str
    value: float
    interval: tuple[float, float] | None = None  # 95 %
    n: int | None = None  # sample size
    unit: str = ""
    direction: Literal["lower", "higher", "target"] = "lower"
    deterministic: bool = True  # gates; else a timing, advisory
    window: float = 0.0  # relative change that counts as the same
    floor: float = 0.0  # absolute change that counts as the same
    extractor: str | None = None  # name@hash
    reference: str | None = None  # hash of the reference data


class Record(BaseModel):
    """What one cell measured, and all that is needed to run it again."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    schema_version: int = SCHEMA_VERSION
    # identity
    suite: str
    task: str
    kind: str
    entry: str
    parameters: dict[str, Any]
    seed: int
    key: str  # task, entry, parameters and seed: what two stores are matched by
    hash: str  # the key and all that may move the numbers
    # code and environment
    version: str
    commit: str | None = None
    dirty: bool | None = None
    environment: str  # hash of a file in environments/
    device: str
    hardware: str = ""  # the model behind the device
    threads: int
    # results
    measures: list[Measured] = []
    timing: dict[str, Any] = {}  # entry -> median, quartiles, p90, p99; raw samples are arrays
    arrays: list[str] = []
    status: Status = "ok"
    error: str | None = None
    started_at: str
    duration: float  # seconds

    def value(self, name: str) -> float | None:
        """The value of a measure, None where the record has none of that name."""
        return next((m.value for m in self.measures if m.name == name), None)

    def measure(self, name: str) -> Measured | None:
        """The measure of that name, if the record has it."""
        return next((m for m in self.measures if m.name == name), None)


class Store:
    """A folder of records; several processes may write into one at once.

    ``repair``: damaged records are set aside, so that their cells run again; else they are named and left.
    """

    def __init__(self, folder: Path | str, *, repair: bool = False):
        self.folder, self.repair = Path(folder), repair
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{folder} is a file; --out takes a folder")
        self.records_folder = self.folder / "records"

    def create(self) -> Store:
        """Make the folder; sweeps away what writers that are gone left half-written."""
        try:
            for name in ("records", "arrays", "environments", "suites"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        for left in self.folder.glob("*/.*.tmp"):
            if not _alive(left.name):
                left.unlink(missing_ok=True)
        return self

    def write(self, record: Record, arrays: bytes | None = None) -> None:
        """Store a record and, before it, its arrays (safetensors bytes)."""
        if arrays:
            self.put(f"arrays/{record.hash}.safetensors", arrays)
        self.put(f"records/{record.hash}.json", (record.model_dump_json(indent=1) + "\n").encode())

    def write_environment(self, environment: dict[str, Any]) -> str:
        """Store an environment once, by its hash, and return that."""
        name = digest(environment)
        if not (self.folder / "environments" / f"{name}.json").exists():
            self.put(f"environments/{name}.json", json.dumps(environment, indent=1, sort_keys=True).encode())
        return name

    def write_suite(self, name: str, suite: dict[str, Any] | None, cells: list[str]) -> None:
        """Store which cells a suite has now, and how it is shown."""
        self.put(f"suites/{name}.json", json.dumps({"suite": suite, "cells": cells}, indent=1).encode())

    def put(self, relative: str, content: bytes) -> None:
        """Write a file atomically: temporary file, fsync, rename."""
        write_atomic(self.folder / relative, content)

    def get(self, name: str) -> Record | None:
        """The record of that hash, None where there is none that can be read."""
        return self._read(self.records_folder / f"{name}.json")

    def holds(self, name: str, *, arrays: Iterable[str] = ()) -> bool:
        """Whether a finished record of that hash is here, with all its arrays and those asked for."""
        record = self.get(name)
        return (
            record is not None
            and record.status in FINISHED
            and (record.status != "ok" or set(arrays) <= set(record.arrays))
            and (not record.arrays or (self.folder / "arrays" / f"{name}.safetensors").exists())
        )

    def suites(self) -> dict[str, dict[str, Any]]:
        """What ``write_suite`` stored, by name."""
        return self._documents("suites", ("suite", "cells"))

    def environments(self) -> dict[str, Any]:
        """Every stored environment by its hash."""
        return self._documents("environments", ())

    def records(self) -> list[Record]:
        """The records of every suite's cells, in order, then the newest of each key of what is in no suite."""
        suites = self.suites()
        names = dict.fromkeys(name for suite in suites.values() for name in suite["cells"])
        shown = [record for name in names if (record := self.get(name))]
        newest: dict[str, Record] = {}
        for file in sorted(self.records_folder.glob("*.json")) if self.records_folder.is_dir() else []:
            record = None if file.stem in names else self._read(file)
            if record is None or record.suite in suites:
                continue
            if record.key not in newest or newest[record.key].started_at <= record.started_at:
                newest[record.key] = record
        return shown + sorted(newest.values(), key=lambda r: (r.suite, r.started_at, r.key))

    def arrays(self, record: Record) -> dict[str, Any]:
        """The tensors kept beside a record; raises UsageError where their file is gone or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.folder / "arrays" / f"{record.hash}.safetensors"
        try:
            return load_file(file) if record.arrays else {}
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot read {file}: {error}; `fidmap run` measures its cell again") from None

    def frame(self) -> pandas.DataFrame:
        """One row a measure: identity, parameters, value, interval, status."""
        return frame(self.records())

    def _read(self, file: Path) -> Record | None:
        try:
            content = file.read_bytes()
            record = Record.model_validate_json(content)
            if record.hash == file.stem:
                return record
            reason = f"it holds the record {record.hash}"
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
        except ValidationError as error:
            _require_known_schema(file, content)
            reason = error.errors()[0]["msg"]
        if not self.repair:
            print(f"fidmap: {file} is damaged ({reason}); left out", file=sys.stderr)
            return None
        aside = self.folder / "aside" / file.name
        aside.parent.mkdir(exist_ok=True)
        os.replace(file, aside)
        print(f"fidmap: {file} is damaged ({reason}); set aside as {aside}, its cell will run again", file=sys.stderr)
        return None

    def _documents(self, folder: str, keys: tuple[str, ...]) -> dict[str, Any]:
        found = {}
        for file in sorted((self.folder / folder).glob("*.json")):
            try:
                content = json.loads(file.read_bytes())
                found[file.stem] = {key: content[key] for key in keys} if keys else content
            except (OSError, ValueError, KeyError, TypeError) as error:
                print(f"fidmap: {file} is damaged ({error}); left out", file=sys.stderr)
        return found


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """Records as a pandas DataFrame, one row a measure (a record without any has one row)."""
    import pandas

    rows = []
    for record in records:
        identity = {
            "suite": record.suite, "task": record.task, "entry": record.entry, "seed": record.seed,
            "status": record.status, "error": record.error, "device": record.device, "hardware": record.hardware,
            "threads": record.threads, "environment": record.environment, "commit": record.commit,
            "key": record.key, "hash": record.hash, **record.parameters,
        }  # fmt: skip
        measures = [
            m.model_dump(include={"value", "unit", "n", "interval", "extractor", "reference"}) | {"measure": m.name}
            for m in record.measures
        ]
        rows += [identity | measure for measure in measures or [{}]]
    return pandas.DataFrame(rows)


def bundle(store: Store) -> str:
    """A whole store (without its arrays) as one JSON text, which ``load`` reads."""
    records = ",\n".join(record.model_dump_json() for record in store.records())
    environments = json.dumps(store.environments(), sort_keys=True)
    return f'{{"schema_version": {SCHEMA_VERSION},\n"environments": {environments},\n"records": [\n{records}\n]}}\n'


def load(path: Path | str) -> list[Record]:
    """Records of a store's folder or of a bundle file; raises UsageError where there are none to read."""
    path = Path(path)
    if path.is_dir():  # a store
        records = Store(path).records()
        if not records:
            raise UsageError(f"{path} holds no records; make some with: fidmap run SUITE --out {path}")
        return records
    try:
        content = json.loads(path.read_bytes())
        records = [Record.model_validate_json(json.dumps(item)) for item in content["records"]]
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}: expected a folder of records or a file of `fidmap table --format json`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} is not a file of `fidmap table --format json`: {reason}") from error
    if not records:
        raise UsageError(f"{path} holds no records")
    return records


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new and nothing between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{os.getpid()}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; what was stored before is kept") from error


def _require_known_schema(file: Path, content: bytes) -> None:
    """Raise UsageError where a newer fidmap wrote the record: it is not damaged."""
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError):
        return
    if version != SCHEMA_VERSION:
        raise UsageError(f"{file} has schema version {version!r}, and this fidmap reads {SCHEMA_VERSION}")


def _alive(temporary: str) -> bool:
    import psutil

    pid = temporary.split(".")[1]
    return not pid.isdigit() or psutil.pid_exists(int(pid))

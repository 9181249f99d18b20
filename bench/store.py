"""Records on disk: one JSON file a cell, named by its hash, written atomically; arrays beside it in safetensors.

    FOLDER/records/HASH.json  arrays/HASH.safetensors  environments/HASH.json  suites/NAME.toml  aside/

A record is the commit point of its cell: its arrays and its environment are on disk before it is.
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
    position: int = 0  # of the cell in its suite: how tables are ordered
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
    timing: dict[str, Any] = {}  # entry -> median, quartiles, p90, p99, samples
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
    """A folder of records; several processes may write into one at once."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
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

    def put(self, relative: str, content: bytes) -> None:
        """Write a file atomically: temporary file, fsync, rename."""
        write_atomic(self.folder / relative, content)

    def get(self, name: str) -> Record | None:
        """The record of that hash, None where there is none; a damaged one is named and set aside."""
        return self._read(self.records_folder / f"{name}.json")

    def records(self) -> list[Record]:
        """The newest record of every key, in the order of their suites."""
        newest: dict[str, Record] = {}
        for file in sorted(self.records_folder.glob("*.json")):
            record = self._read(file)
            if record and (record.key not in newest or newest[record.key].started_at <= record.started_at):
                newest[record.key] = record
        return sorted(newest.values(), key=lambda r: (r.suite, r.position, r.key))

    def environments(self) -> dict[str, Any]:
        """Every stored environment by its hash."""
        files = sorted((self.folder / "environments").glob("*.json"))
        return {file.stem: json.loads(file.read_text()) for file in files}

    def arrays(self, record: Record) -> dict[str, Any]:
        """The tensors kept beside a record."""
        from safetensors.torch import load_file

        return load_file(self.folder / "arrays" / f"{record.hash}.safetensors") if record.arrays else {}

    def frame(self) -> pandas.DataFrame:
        """One row a measure: identity, parameters, value, interval, status."""
        return frame(self.records())

    def _read(self, file: Path) -> Record | None:
        try:
            return Record.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            aside = self.folder / "aside" / file.name
            aside.parent.mkdir(exist_ok=True)
            os.replace(file, aside)
            why = error.errors()[0]["msg"]
            print(f"fidmap: {file} is damaged ({why}); set aside as {aside}, its cell will run again", file=sys.stderr)
            return None


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """Records as a pandas DataFrame, one row a measure (a record without any has one row)."""
    import pandas

    rows = []
    for record in records:
        identity = {
            "suite": record.suite, "task": record.task, "entry": record.entry, "seed": record.seed,
            "status": record.status, "key": record.key, "hash": record.hash, **record.parameters,
        }  # fmt: skip
        measures = [
            m.model_dump(include={"value", "unit", "n", "interval"}) | {"measure": m.name} for m in record.measures
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
    if path.is_dir():
        records = Store(path).records()
        if not records:
            raise UsageError(f"{path} holds no records; make some with: fidmap run SUITE --out {path}")
        return records
    try:
        content = json.loads(path.read_bytes())
        return [Record.model_validate_json(json.dumps(item)) for item in content["records"]]
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}: expected a folder of records or a file of `fidmap table --format json`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} is not a file of `fidmap table --format json`: {reason}") from error


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


def _alive(temporary: str) -> bool:
    import psutil

    pid = temporary.split(".")[1]
    return not pid.isdigit() or psutil.pid_exists(int(pid))

"""Records on disk: one JSON file a cell, named by its hash, written atomically; arrays beside it in safetensors.

    FOLDER/records/HASH.json  arrays/HASH.safetensors  environments/HASH.json  suites/NAME.json  aside/

A record is the commit point of its cell: its arrays and its environment are on disk before it is. A suite's file has
the hashes of its cells as last run: of that suite, what is not among them (older source, another device) is not shown.

Whatever a file says is checked before it is used: a hash is 16 hexadecimal digits, so that it never names a file
elsewhere, and record, arrays and environment each have a digest that a changed byte breaks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import UsageError, printable
from bench.files import digest, write_atomic
from bench.plan.blocks import key_of
from bench.toml import explain

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION: Final = 2  # 1: the key held neither device nor threads; such records are read and given the key of now
ABANDONED = 3600.0  # seconds after which a temporary file has no writer any more: writing one takes a moment
T = TypeVar("T")
AGAIN = "`fidmap run` measures its cell again"
Name: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # what may become the name of a file
Status = Literal["ok", "failed", "out_of_memory", "timeout", "diverged", "skipped"]
MEASURED = {"value", "unit", "n", "interval", "extractor", "reference"}  # of a measure, in a table of records
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

    schema_version: Literal[2] = SCHEMA_VERSION
    # identity
    suite: str
    task: str
    kind: str
    entry: str
    parameters: dict[str, Any]
    seed: int
    key: Name  # what two stores are matched by, see key_of
    hash: Name  # the key and all that may move the numbers
    # code and environment
    version: str
    commit: str | None = None
    dirty: bool | None = None
    environment: Name  # of a file in environments/
    device: str
    hardware: str = ""  # the model behind the device
    threads: int
    # results
    measures: list[Measured] = []
    timing: dict[str, Any] = {}  # entry -> median, quartiles, p90, p99; raw samples are arrays
    arrays: list[str] = []
    arrays_hash: Name | None = None  # of their file; None in records that older versions wrote
    status: Status = "ok"
    error: str | None = None
    started_at: str
    duration: float  # seconds

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:
        """Give a record of schema version 1 the key that it has now."""
        if not isinstance(fields, dict) or fields.get("schema_version") != 1:
            return fields
        try:
            key = key_of(*(fields[name] for name in ("task", "parameters", "seed", "device", "threads")))
        except KeyError as error:
            raise ValueError(f"{error.args[0]}: Field required") from None
        return {**fields, "schema_version": SCHEMA_VERSION, "key": key}

    @property
    def made_by(self) -> str:
        """The code that made it: version, commit, and whether that was changed."""
        tree = {True: " with changes", False: "", None: " (whether changed is unknown)"}[self.dirty]
        return f"fidmap {self.version}, commit {(self.commit or 'unknown')[:12]}{tree}"

    def value(self, name: str) -> float | None:
        """The value of a measure, None where the record has none of that name."""
        return next((m.value for m in self.measures if m.name == name), None)

    def measure(self, name: str) -> Measured | None:
        """The measure of that name, if the record has it."""
        return next((m for m in self.measures if m.name == name), None)


class StoredSuite(BaseModel):
    """A suite as it was last run into a store: how it is shown, and the hashes of its cells."""

    model_config = ConfigDict(extra="forbid")

    suite: dict[str, Any] | None
    cells: list[Name]
    checksum: Name | None = None  # of the others; None where an older version or a hand wrote it

    def summed(self) -> StoredSuite:
        """The same with its checksum."""
        return self.model_copy(update={"checksum": digest([self.suite, self.cells])})


class Store:
    """A folder of records; several processes may write into one at once.

    ``repair``: damaged files are set aside, so that their cells run again. Without it a damaged record is named and
    left out, and a damaged suite or environment raises UsageError.
    """

    def __init__(self, folder: Path | str, *, repair: bool = False):
        self.folder, self.repair = Path(folder), repair
        self.damaged: dict[str, str] = {}  # records that could not be read, by hash, and why
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{folder} is a file; --out takes a folder")
        self.records_folder = self.folder / "records"
        self.written: dict[str, StoredSuite] = {}

    def create(self) -> Store:
        """Make the folder; sweeps away what writers that are gone left half-written, some time ago."""
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
        if arrays:
            self.put(f"arrays/{record.hash}.safetensors", arrays)
            record = record.model_copy(update={"arrays_hash": digest(arrays)})
        fields = json.loads(record.model_dump_json())
        text = json.dumps(fields | {"checksum": digest(fields)}, indent=1, allow_nan=False)
        self.put(f"records/{record.hash}.json", (text + "\n").encode())

    def write_environment(self, environment: dict[str, Any]) -> str:
        """Store an environment once, by its hash, and return that."""
        name = digest(environment)
        content = json.dumps(environment, indent=1, sort_keys=True).encode()
        file = self.folder / "environments" / f"{name}.json"
        if not file.is_file() or file.read_bytes() != content:
            self.put(f"environments/{name}.json", content)
        return name

    def write_suite(self, name: str, suite: dict[str, Any] | None, cells: list[str], *, part: bool = False) -> None:
        """Store which cells a suite has now, and how it is shown; to this object it stays so, whoever else writes.

        ``part``: the cells are some of the suite's. Where those stored before hold them all, these remain in the file.
        """
        before = self.suites().get(name) if part else None
        self.written[name] = StoredSuite(suite=suite, cells=cells)
        if before is not None and set(cells) <= set(before.cells):
            cells = before.cells
        content = StoredSuite(suite=suite, cells=cells).summed().model_dump()
        self.put(f"suites/{name}.json", json.dumps(content, indent=1).encode())

    def put(self, relative: str, content: bytes) -> None:
        """Write a file atomically: temporary file, fsync, rename."""
        write_atomic(self.folder / relative, content)

    def get(self, name: str) -> Record | None:
        """The record of that hash, None where there is none that can be read."""
        return self._read(self.records_folder / f"{name}.json")

    def holds(self, name: str, *, arrays: Iterable[str] = ()) -> bool:
        """Whether a finished record of that hash is here, with all its arrays, sound, and those asked for."""
        record = self.get(name)
        if record is None or record.status not in FINISHED:
            return False
        if record.status == "ok" and not set(arrays) <= set(record.arrays):
            return False
        try:
            self._read_arrays(record)
        except UsageError as error:
            print(f"fidmap: {error}", file=sys.stderr)
            return False
        return True

    def suites(self) -> dict[str, StoredSuite]:
        """What ``write_suite`` stored, by name; of two runs into one folder each sees what it wrote itself."""

        def check(stem: str, content: Any) -> StoredSuite:
            stored = StoredSuite.model_validate(content)
            if stored.checksum not in (None, stored.summed().checksum):
                raise ValueError("its content is not what was stored: its checksum differs")
            return stored

        return self._documents("suites", check) | self.written

    def environments(self) -> dict[str, Any]:
        """Every stored environment by its hash."""

        def check(stem: str, content: Any) -> Any:
            if not isinstance(content, dict) or digest(content) != stem:
                raise ValueError("its content has another hash than its name")
            return content

        return self._documents("environments", check)

    def records(self) -> list[Record]:
        """The records of every suite's cells, in order, then the newest of each key of what is in no suite."""
        return self.contents().records

    def contents(self) -> Contents:
        """The same, and which other records are here, which cells have none, and what is damaged."""
        suites = self.suites()
        names = dict.fromkeys(name for suite in suites.values() for name in suite.cells)
        shown = {name: record for name in names if (record := self.get(name))}
        newest: dict[str, Record] = {}
        left_out = []
        for file in sorted(self.records_folder.glob("*.json")) if self.records_folder.is_dir() else []:
            record = None if file.stem in names else self._read(file)
            if record is None:
                continue
            twin = newest.get(record.key)
            if record.suite in suites or (twin and twin.started_at > record.started_at):
                left_out.append(record)
                continue
            left_out += [twin] if twin else []
            newest[record.key] = record
        others = sorted(newest.values(), key=lambda r: (r.suite, r.started_at, r.key))
        absent = {name: (len(set(suite.cells) - set(shown)), len(suite.cells)) for name, suite in suites.items()}
        return Contents([*shown.values(), *others], dict(self.damaged), left_out, absent)

    def arrays(self, record: Record) -> dict[str, Any]:
        """The tensors kept beside a record; raises UsageError where their file is gone or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self._read_arrays(record)
        try:
            return dict(sorted(load(content).items())) if content else {}
        except SafetensorError as error:
            raise UsageError(f"the arrays of {record.hash} cannot be read: {error}; {AGAIN}") from None

    def frame(self) -> pandas.DataFrame:
        """One row a measure: identity, parameters, value, interval, status."""
        return frame(self.records())

    def _read(self, file: Path) -> Record | None:
        try:
            record = parse_record(file.read_bytes())
            if record.hash != file.stem:
                raise ValueError(f"it holds the record {record.hash}")
            return record
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        except (ValueError, RecursionError) as error:
            reason = _reason(error)
        self.damaged[file.stem] = reason
        if not self.repair:
            _warn(f"{file} is damaged ({reason}); left out")
            return None
        _warn(f"{file} is damaged ({reason}); set aside as {self._set_aside(file)}, its cell will run again")
        return None

    def _read_arrays(self, record: Record) -> bytes:
        """The file of a record's arrays, empty where it has none; raises UsageError where it is gone or damaged."""
        if not record.arrays:
            return b""
        file = self.folder / "arrays" / f"{record.hash}.safetensors"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}; {AGAIN}") from None
        if record.arrays_hash is not None and digest(content) != record.arrays_hash:
            raise UsageError(f"{file} is damaged (it is not what was stored); {AGAIN}")
        return content

    def _documents(self, folder: str, check: Callable[[str, Any], T]) -> dict[str, T]:
        """The JSON files of a folder by their stems, each as ``check`` returns it."""
        found = {}
        for file in sorted((self.folder / folder).glob("*.json")):
            try:
                found[file.stem] = check(file.stem, json.loads(file.read_bytes()))
            except FileNotFoundError:  # another run has just set it aside
                continue
            except OSError as error:
                raise UsageError(f"cannot read {file}: {error.strerror}") from error
            except (ValueError, RecursionError) as error:
                reason = _reason(error)
                if not self.repair:
                    remedy = "run the suite again, or remove the file"
                    raise UsageError(f"{file} is damaged ({reason}); {remedy}") from None
                _warn(f"{file} is damaged ({reason}); set aside as {self._set_aside(file)}")
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


def parse_record(content: bytes | str) -> Record:
    """A record's file; raises ValueError where it is damaged, UsageError where a newer fidmap wrote it."""
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    checksum = fields.pop("checksum", None)
    _require_known_schema(fields.get("schema_version"))
    if checksum is not None and checksum != digest(fields):
        raise ValueError("its content is not what was stored: its checksum differs")
    return Record.model_validate(fields)


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """Records as a pandas DataFrame, one row a measure (a record without any has one row).

    A parameter whose name is that of another column is the column ``parameter_NAME``.
    """
    import pandas

    rows = []
    for record in records:
        identity = {
            "suite": record.suite, "task": record.task, "entry": record.entry, "seed": record.seed,
            "status": record.status, "error": record.error, "device": record.device, "hardware": record.hardware,
            "threads": record.threads, "environment": record.environment, "commit": record.commit,
            "key": record.key, "hash": record.hash,
        }  # fmt: skip
        taken = {*identity, *MEASURED, "measure"}
        identity |= {f"parameter_{k}" if k in taken else k: value for k, value in record.parameters.items()}
        measures = [m.model_dump(include=MEASURED) | {"measure": m.name} for m in record.measures]
        rows += [identity | measure for measure in measures or [{}]]
    return pandas.DataFrame(rows)


def bundle(store: Store) -> str:
    """A whole store (without its arrays) as one JSON text, which ``load`` reads.

    Raises UsageError where records are damaged: nothing would be held against a baseline that lacks them.
    """
    contents = store.contents()
    records = ",\n".join(record.model_dump_json() for record in contents.records)
    if contents.damaged:
        names = ", ".join(contents.damaged)
        raise UsageError(f"{store.folder} holds damaged records ({names}); run their suite again, or remove them")
    environments = json.dumps(store.environments(), sort_keys=True)
    return f'{{"schema_version": {SCHEMA_VERSION},\n"environments": {environments},\n"records": [\n{records}\n]}}\n'


@dataclass(frozen=True)
class Contents:
    """What a folder or a bundle holds."""

    records: list[Record]
    damaged: dict[str, str] = field(default_factory=dict)  # why a record cannot be read, by its hash
    left_out: list[Record] = field(default_factory=list)  # of a suite, but not of its last run; or older than another
    absent: dict[str, tuple[int, int]] = field(default_factory=dict)  # by suite: cells without a record, of how many


def load(path: Path | str) -> Contents:
    """What a store's folder or a bundle file holds; raises UsageError where there are no records to read."""
    path = Path(path)
    if path.is_dir():  # a store
        contents = Store(path).contents()
        if not contents.records:
            left = f"{len(contents.damaged)} damaged records and no other" if contents.damaged else "no records"
            raise UsageError(f"{path} holds {left}; make some with: fidmap run SUITE --out {path}")
        return contents
    try:
        content = json.loads(path.read_bytes())
        stored = content["records"]
        _require_known_schema(content.get("schema_version"))
        records = [Record.model_validate(fields) for fields in stored]
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}: expected a folder of records or a file of `fidmap table --format json`"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not a file of `fidmap table --format json`: {_reason(error)}") from None
    if not records:
        raise UsageError(f"{path} holds no records")
    return Contents(records)


def _require_known_schema(version: Any) -> None:
    """Raise UsageError where a newer fidmap wrote the record: it is not damaged."""
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"schema version {version} is a newer fidmap's; this one reads up to {SCHEMA_VERSION}")


def _reason(error: Exception) -> str:
    """Why a file cannot be read, on one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return explain(error) if isinstance(error, ValidationError) else printable(str(error))


def _warn(message: str) -> None:
    print(f"fidmap: {printable(message)}", file=sys.stderr)

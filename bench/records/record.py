"""A record: the measures of one cell, with all that is needed to trace the numbers and to measure them again."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from bench.errors import UsageError, printable
from bench.files import digest
from bench.plan.cell import Hash, Identity
from bench.records.upgrade import upgrade_record
from bench.toml import explain

SCHEMA_VERSION: Final = 3  # records of earlier versions are read, see bench.records.upgrade
Status = Literal["ok", "failed", "out_of_memory", "timeout", "diverged", "skipped"]
FINISHED: frozenset[str] = frozenset({"ok", "diverged", "skipped"})  # a cell with such a status does not run again


class Measurement(BaseModel):
    """One measured number of a record, with its task's declaration of the measure.

    In JSON, NaN and infinities are strings, and what a measurement does not have is left out.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    name: str  # of the measure
    entry: str | None = None  # in a contest, the entry whose number it is
    value: float
    interval: tuple[float, float] | None = None  # 95 %
    n: int | None = None  # sample size
    unit: str = ""
    direction: Literal["lower", "higher", "target"] = "lower"
    deterministic: bool = True  # whether it decides a comparison; a timing is advisory
    window: float = 0.0  # relative change that counts as the same
    floor: float = 0.0  # absolute change that counts as the same
    extractor: str | None = None  # name@hash
    reference: str | None = None  # hash of the reference data

    @model_serializer(mode="wrap", when_used="json")
    def _without_empty_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Record(BaseModel):
    """The record of one cell: what it is, how it ended, what it measured, when, on which machine and by which code."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[3] = SCHEMA_VERSION
    cell: Identity
    # code and environment
    version: str
    commit: str | None = None
    dirty: bool | None = None
    environment: Hash  # of a file in environments/
    # results
    measures: list[Measurement] = []
    timing: dict[str, Any] = {}  # entry -> median, quartiles, p90, p99; raw samples are arrays
    arrays: list[str] = []
    arrays_hash: Hash | None = None  # of their file; None in records that older versions wrote
    status: Status = "ok"
    error: str | None = None
    started_at: str
    duration: float  # seconds

    @classmethod
    def read(cls, fields: Any) -> Record:
        """The record of the fields that any schema version so far has stored.

        Raises ValueError where it is damaged, and UsageError where a newer fidmap wrote it.
        """
        if isinstance(fields, dict):
            require_known_schema(fields.get("schema_version"))
        return cls.model_validate(upgrade_record(fields) if isinstance(fields, dict) else fields)

    @property
    def made_by(self) -> str:
        """The code that made the record, in words: version, commit, and whether files differed from the commit."""
        tree = {True: " with changes", False: "", None: " (whether changed is unknown)"}[self.dirty]
        return f"fidmap {self.version}, commit {(self.commit or 'unknown')[:12]}{tree}"

    def measure(self, name: str, entry: str | None = None) -> Measurement | None:
        """The measurement with the name ``name``, in a contest that of ``entry``; None where the record has none."""
        return next((m for m in self.measures if m.name == name and m.entry == entry), None)

    def value(self, name: str) -> float | None:
        """The value of the measure with the name ``name``, None where the record has none."""
        measure = self.measure(name)
        return None if measure is None else measure.value


def parse_record(content: bytes | str) -> Record:
    """The record in a file's content, of any schema version so far, checked against its checksum.

    Raises ValueError where it is damaged, and UsageError where a newer fidmap wrote it.
    """
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    checksum = fields.pop("checksum", None)
    require_known_schema(fields.get("schema_version"))  # before the checksum, which a newer version may form otherwise
    if checksum is not None and checksum != digest(fields):
        raise ValueError("its content is not what was stored: its checksum differs")
    return Record.read(fields)


def require_known_schema(version: Any) -> None:
    """Raise UsageError where a schema version is newer than this fidmap: such a file is not damaged.

    Raises ValueError where it is no version at all; None stands for a file of a version that did not state it.
    """
    if version is not None and (type(version) is not int or version < 1):
        raise ValueError(f"schema_version is {version!r}; a whole number from 1 is accepted")
    if version is not None and version > SCHEMA_VERSION:
        raise UsageError(f"schema version {version} is a newer fidmap's; this one reads up to {SCHEMA_VERSION}")


def describe_damage(error: Exception) -> str:
    """The reason why a stored file is damaged, in one line, from the error that its content raised."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return explain(error) if isinstance(error, ValidationError) else printable(str(error))

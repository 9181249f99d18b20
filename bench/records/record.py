"""A record: what one cell measured, with all that is needed to trace the numbers and to measure them again."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.errors import UsageError, printable
from bench.files import digest
from bench.plan.cell import Hash, Identity
from bench.records.upgrade import upgrade_record
from bench.toml import explain

SCHEMA_VERSION: Final = 3  # records of earlier versions are read, see bench.records.upgrade
Status = Literal["ok", "failed", "out_of_memory", "timeout", "diverged", "skipped"]
FINISHED: frozenset[str] = frozenset({"ok", "diverged", "skipped"})  # a cell that ended so is not run a second time


class Measurement(BaseModel):
    """One number of a record, with what its task declares of it; NaN and infinities are written as strings."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    name: str  # of the measure
    entry: str | None = None  # in a contest, the entry whose number it is
    value: float
    interval: tuple[float, float] | None = None  # 95 %
    n: int | None = None  # sample size
    unit: str = ""
    direction: Literal["lower", "higher", "target"] = "lower"
    deterministic: bool = True  # it decides a comparison; a timing is advisory
    window: float = 0.0  # relative change that counts as the same
    floor: float = 0.0  # absolute change that counts as the same
    extractor: str | None = None  # name@hash
    reference: str | None = None  # hash of the reference data


class Record(BaseModel):
    """What one cell measured, where, and by which code."""

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

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:
        return upgrade_record(fields) if isinstance(fields, dict) else fields

    @property
    def made_by(self) -> str:
        """The code that made it: version, commit, and whether that was changed."""
        tree = {True: " with changes", False: "", None: " (whether changed is unknown)"}[self.dirty]
        return f"fidmap {self.version}, commit {(self.commit or 'unknown')[:12]}{tree}"

    def measure(self, name: str, entry: str | None = None) -> Measurement | None:
        """The number of that measure, in a contest of that entry; None where the record has none."""
        return next((m for m in self.measures if (m.name, m.entry) == (name, entry)), None)

    def value(self, name: str) -> float | None:
        """The value of that measure, None where the record has none."""
        measure = self.measure(name)
        return None if measure is None else measure.value


def parse_record(content: bytes | str) -> Record:
    """Read a record's file; raises ValueError where it is damaged, UsageError where a newer fidmap wrote it."""
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    checksum = fields.pop("checksum", None)
    require_known_schema(fields.get("schema_version"))
    if checksum is not None and checksum != digest(fields):
        raise ValueError("its content is not what was stored: its checksum differs")
    return Record.model_validate(fields)


def require_known_schema(version: Any) -> None:
    """Raise UsageError where a newer fidmap wrote the record: it is not damaged."""
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"schema version {version} is a newer fidmap's; this one reads up to {SCHEMA_VERSION}")


def describe_damage(error: Exception) -> str:
    """Why a file cannot be read, on one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return explain(error) if isinstance(error, ValidationError) else printable(str(error))

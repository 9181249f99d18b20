"""A cell: one thing to measure, with an identity that its record stores, and the conditions under which it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from bench.files import digest
from bench.toml import Strict

Hash: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # of a form that is safe as the name of a file


class Identity(Strict):
    """The identity of a cell: what is measured, with which parameters and seed, and on which hardware."""

    suite: str
    task: str
    kind: str
    entries: Annotated[list[str], Field(min_length=1)]  # what is measured; several in a contest
    parameters: dict[str, Any]
    seed: int
    device: str
    hardware: str = ""  # the model behind the device
    threads: int
    key: Hash  # what two stores are matched by, see ``key_of``
    hash: Hash  # the key and all that may move the numbers

    @property
    def matched_by(self) -> tuple[str, str, int]:
        """What the cells of two stores are matched by: the key, and device and threads, which other software's lack."""
        return self.key, self.device, self.threads

    @property
    def setting(self) -> dict[str, Any]:
        """The parameters but for the one that names the entry, or in a contest the entries."""
        entry, entries = self.entry, self.entries
        return {name: value for name, value in self.parameters.items() if value not in (entry, entries)}

    @property
    def name(self) -> str:
        """The cell's whole name, ``task/entry/key=value,...`` with its parameters in order of name, and its seed."""
        return name_of(self.task, self.entry, self.setting | {"seed": self.seed})

    @property
    def entry(self) -> str:
        """The names of the entries that the cell measures, as one text with commas, for display."""
        return ",".join(self.entries)


@dataclass(frozen=True)
class Cell:
    """One thing to measure: its identity, the limits within which it runs, and the source that it depends on."""

    identity: Identity
    name: str  # which ``--only`` matches
    block: int  # of its suite: cells of one block have much in common that a worker need compute only once
    timing: bool  # it runs alone
    timeout_s: float
    memory_gib: float
    modules: tuple[str, ...]
    source: str  # hash of the modules
    outside: tuple[str, ...]  # those of them that do not come with fidmap
    samples: bool  # its task generates samples, which can be kept
    skip: str | None = None  # why it does not run
    contents: tuple[tuple[str, str], ...] = ()  # hashes of weights and data that its parameters name
    left_out: tuple[tuple[str, str], ...] = ()  # guests that do not take part, each with the reason


def name_of(task: str, entry: str, setting: dict[str, Any]) -> str:
    """The name of a cell, which ``--only`` matches: ``task/entry/key=value,...`` with the keys in order, no None."""
    values = ",".join(f"{key}={_format(value)}" for key, value in sorted(setting.items()) if value is not None)
    return "/".join([task, entry, values]).rstrip("/")


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return ";".join(f"{k}={_format(v)}" for k, v in sorted(value.items()))
    return ".".join(map(str, value)) if isinstance(value, list) else str(value)


def key_of(task: str, parameters: dict[str, Any], seed: int, device: str, threads: int) -> str:
    """The key of a cell, a hash of what it measures and where, by which the records of two stores are matched."""
    return digest({"task": task, "parameters": parameters, "seed": seed, "device": device, "threads": threads})

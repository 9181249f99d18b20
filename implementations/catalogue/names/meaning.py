"""What a name of another program stands for: one of our entries with options, or the reason why it cannot be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Argument(NamedTuple):
    """An option's value that is an argument of the program's own name, such as diffusers' ``solver_type``."""

    name: str


@dataclass(frozen=True)
class Resolved:
    """A name as ``entry`` with ``options``, and where the name holds one, a ``schedule`` with options of its own.

    ``note`` says in what the program's version differs. A name that is ``refused``, for the reason given there, is
    listed and cannot be run. ``guidance`` is the scheme that the name holds, whose ``scale`` becomes an option.
    """

    entry: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    schedule: str | None = None
    schedule_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    note: str = ""
    refused: str = ""
    guidance: str = ""

    def __str__(self) -> str:
        """Write it as a call, ``dpmpp_2m_sde(solver_type=heun) on karras``, or ``euler with cfg_plus_plus``."""
        schedule = f" on {_call(self.schedule, self.schedule_options)}" if self.schedule else ""
        guidance = f" with {self.guidance}" if self.guidance else ""
        return _call(self.entry, self.options) + guidance + schedule


def _call(name: str, options: Mapping[str, Any]) -> str:
    return name + (f"({', '.join(f'{k}={v}' for k, v in options.items())})" if options else "")

"""What a TOML file may hold, and what is wrong with one that holds something else."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import printable


class Strict(BaseModel):
    """What a file holds: other keys are refused, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError) -> str:
    """A pydantic error as one line: the key, what was given, what is accepted."""
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("list[", "dict[")))
        message = item["msg"].removeprefix("Value error, ")
        if not key:  # the model as a whole: its message names what is wrong
            problems.append(message)
            continue
        given = "" if item["type"] in ("missing", "extra_forbidden") else f" (given {item['input']!r:.80})"
        problems.append(f"{key}: {message}{given}")
    return printable("; ".join(dict.fromkeys(problems)))

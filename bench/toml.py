"""The base of models of TOML files, and the explanation of what is wrong with a file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import printable


class Strict(BaseModel):
    """Base of the models of TOML files: unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: for each problem the key, what is accepted, and what was given."""
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

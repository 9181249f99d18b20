"""The base of models of TOML files, and the explanation of what is wrong with a file."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import printable

OF_UNIONS = ("list[", "dict[", "literal[", "function-")  # parts of a place that say which of several types was tried


class Strict(BaseModel):
    """Base of the models of TOML files: unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """A pydantic error in one line: for each problem the key, what is accepted, and what was given.

    With the ``model``, an unknown key is followed by those that there are, and by the nearest where one is near.
    """
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if not str(part).startswith(OF_UNIONS))
        message = item["msg"].removeprefix("Value error, ")
        if not key:  # the model as a whole: its message names what is wrong
            problems.append(message)
        elif item["type"] == "extra_forbidden":
            problems.append(
                f"{key}: no such key{_hint(str(item['loc'][-1]), _keys(model, item['loc'])) if model else ''}"
            )
        else:
            given = "" if item["type"] == "missing" else f" (given {item['input']!r:.80})"
            problems.append(f"{key}: {message}{given}")
    return printable("; ".join(dict.fromkeys(problems)))


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    listed = f"there are {', '.join(known)}" if known else "none is accepted here"
    return f"; did you mean {near[0]}? {listed}" if near else f"; {listed}"


def _keys(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """The keys that are accepted beside the last one of a place such as ``("plot", 0, "bars", "colour")``."""
    models = [model]
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models(field.annotation)]
        else:  # one of several models, by its kind
            models = [one for one in models if "kind" in one.model_fields and part in _choices(one)]
    return list(dict.fromkeys(key for one in models for key in one.model_fields))


def _choices(model: type[BaseModel]) -> tuple[Any, ...]:
    return typing.get_args(model.model_fields["kind"].annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)

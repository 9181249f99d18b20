"""Errors of use: shown as one line on stderr, with exit code 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UsageError(Exception):
    """What was asked cannot be done as asked: the message says what, where, and what is accepted."""


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


def printable(text: str) -> str:
    """The text on one line, control characters and lone surrogates as escapes: a terminal obeys none of it."""
    text = " ".join(text.encode(errors="replace").decode().split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""Errors of use: shown as one line on stderr, with exit code 2."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked cannot be done as asked: the message says what, where, and what is accepted."""


def printable(text: str) -> str:
    """The text on one line, control characters and lone surrogates as escapes: a terminal obeys none of it."""
    text = " ".join(text.encode(errors="replace").decode().split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

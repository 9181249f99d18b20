"""The error of a request that cannot be carried out, which the command shows in one line, with exit code 2."""

from __future__ import annotations


class UsageError(Exception):
    """Raised where a request cannot be carried out; the message says what is wrong, where, and what is accepted."""


def printable(text: str) -> str:
    """A text as one line that is safe on a terminal: control characters and lone surrogates become escapes."""
    text = " ".join(text.encode(errors="replace").decode().split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""Standard output and error of the command, which must not change what its exit code says.

A reader of stdout may leave (``| head -1``), stdout's disk may be full, its encoding may lack a character, and a text
that comes out of a file may hold control characters. A reader who leaves is no error. A full disk is one. What cannot
or must not be written is escaped as JSON escapes it, so that JSON stays JSON. Bars of progress are made of control
characters, and therefore go to ``sys.__stderr__``.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import Any

# Control characters but for tab and line feed, and those that turn the direction of a line or end it.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text without anything that a terminal obeys: control characters as ``\\u001b``."""
    return CONTROLS.sub(lambda found: _escape(found[0]), text)


def prepare() -> None:
    """Open stdout and stderr anew, as this module describes them; called once, by a process's own command line."""
    for number in (0, 1, 2):  # a file of records that is opened later must not be taken for a closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = _Descriptor(number, f"<{name}>")
        encoding = getattr(getattr(sys, name), "encoding", "utf-8")
        line_buffering = number == 2 or raw.isatty()
        setattr(sys, name, escaping(io.BufferedWriter(raw), encoding, line_buffering=line_buffering))


def escaping(buffer: Any, encoding: str, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """A text stream over a binary one that escapes control characters and what the encoding lacks."""
    codecs.register_error("escape", _escape_unencodable)
    return _Plain(buffer, encoding, "escape", line_buffering=line_buffering)


class _Descriptor(io.RawIOBase):
    """A file descriptor that drops what cannot be written: after the first error, and on stderr without any."""

    def __init__(self, number: int, name: str):
        self.number, self.name, self.lost = number, name, False

    def fileno(self) -> int:
        return self.number

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, content: Any) -> int:
        if self.lost:
            return len(content)
        try:
            return os.write(self.number, content)
        except OSError as error:
            self.lost = True
            if isinstance(error, BrokenPipeError) or self.number == 2:
                return len(content)
            raise OSError(error.errno, error.strerror, "stdout") from None


class _Plain(io.TextIOWrapper):
    def write(self, text: str) -> int:
        super().write(plain(text))
        return len(text)


def _escape(text: str) -> str:
    """Each character as JSON's ``\\uXXXX``, two of them above U+FFFF."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _escape(error.object[error.start : error.end]), error.end

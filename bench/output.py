"""Standard output and error of the command, made so that a trouble in writing does not falsify its exit code.

A reader of stdout that closes the pipe (``| head -1``) is no error; a full disk is one. Control characters, which a
text from a file may hold, and characters that the encoding lacks are written as JSON's ``\\uXXXX``, so that JSON stays
JSON. Progress bars consist of control characters, and therefore go to ``sys.__stderr__``.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
import warnings
from typing import Any

# Control characters except tab and line feed, and those that change the direction of a line or end it.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    """Replace each control character of a text, which a terminal would obey, with its escape such as ``\\u001b``."""
    return CONTROLS.sub(lambda found: _escape(found[0]), text)


def prepare() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` with streams that escape and that survive a closed pipe.

    The command calls it once, when it starts. Python's warning of an async function's return is left out, since the
    command's line says what came in place of a number.
    """
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    for number in (0, 1, 2):  # a closed one's number would go to the next file opened, to which prints would then go
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = _Descriptor(number, f"<{name}>")
        encoding = getattr(getattr(sys, name), "encoding", "utf-8")
        line_buffering = number == 2 or raw.isatty()
        setattr(sys, name, open_escaping(io.BufferedWriter(raw), encoding, line_buffering=line_buffering))


def prints_aside() -> contextlib.redirect_stdout[Any]:
    """Send to stderr what code that is not fidmap's prints meanwhile: it is no result, and would be amid one."""
    return contextlib.redirect_stdout(sys.stderr)


def open_escaping(buffer: Any, encoding: str, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """Wrap a binary stream as a text stream that escapes control characters and those that the encoding lacks."""
    codecs.register_error("escape", _escape_unencodable)
    return _Plain(buffer, encoding, "escape", line_buffering=line_buffering)


class _Descriptor(io.RawIOBase):
    """A file descriptor as a stream that drops what it cannot write.

    A full disk under stdout raises OSError once; a closed pipe, and any trouble on stderr, raise nothing.
    """

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
        super().write(escape_controls(text))
        return len(text)


def _escape(text: str) -> str:
    """Each character as JSON's ``\\uXXXX``; those above U+FFFF as two of them."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _escape(error.object[error.start : error.end]), error.end

"""Lines, words and numbers of text files; what is wrong is named with the file and the line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, with or without a byte order mark; raises ValueError on another encoding."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The place ("FILE: line N") and the words of each line of a text file that is not empty.

    Raises ValueError where the file is not in UTF-8.
    """
    for index, line in enumerate(read_lines(path), 1):
        if words := line.split():
            yield f"{path}: line {index}", words


def parse_number(where: Any, key: str, text: str) -> float:
    """The finite number that a word of a text file spells; raises ValueError that names the place and the field."""
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        shown = text.strip()
        shown = shown if len(shown) <= 40 else f"{shown[:30]}... ({len(shown)} characters)"
        raise ValueError(f"{where} has {key} {shown!r}, which is not a finite number")
    return value

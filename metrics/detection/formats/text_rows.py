"""Text files of detections and truths: their lines, the words of a line and the numbers; errors name file and line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def files_with_suffix(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder whose suffix is one of these in any case, sorted by name; hidden files are not among them.

    Raises ValueError if the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from None
    return [p for p in entries if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()]


def read_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8, with or without a byte order mark; raises ValueError if it is not text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each line that is not empty stands ("FILE: line N"), and its words; raises as ``read_lines`` does."""
    for index, line in enumerate(read_lines(path), 1):
        if words := line.split():
            yield f"{path}: line {index}", words


def number(where: Any, key: str, text: str) -> float:
    """A finite number; raises ValueError that names the place and the field."""
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        shown = text.strip()
        shown = shown if len(shown) <= 40 else f"{shown[:30]}... ({len(shown)} characters)"
        raise ValueError(f"{where} has {key} {shown!r}, which is not a finite number")
    return value

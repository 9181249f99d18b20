"""Rows of words in text files, and the numbers in them; errors name the file and line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each line that is not empty stands, and its words; raises ValueError on what is not text."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    for index, line in enumerate(lines, 1):
        if words := line.split():
            yield f"{path}: line {index}", words


def number(where: Any, key: str, text: str) -> float:
    """A finite number; raises ValueError that names the place and the field."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where} has {key} {text.strip()!r}, which is not a finite number")
    return value

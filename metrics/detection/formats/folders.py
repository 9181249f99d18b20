"""A folder whose files are listed once, however many readers ask for some of them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path


class Folder:
    """The files of one folder, listed once, however many readers ask for some of them; ``str`` is its path."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def at(cls, place: Folder | str | os.PathLike[str]) -> Folder:
        """Give the folder at a path; one that is a ``Folder`` already keeps its list."""
        return place if isinstance(place, Folder) else cls(place)

    @cached_property
    def entries(self) -> list[Path]:
        """The visible files and folders in it, sorted by name; raises ValueError if it cannot be read."""
        try:
            return sorted(path for path in self.path.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise ValueError(f"{self} cannot be read: {error.strerror}") from None

    def files(self, *suffixes: str) -> list[Path]:
        """The files in it whose suffix is one of these, in upper or lower case, sorted by name."""
        return [path for path in self.entries if path.suffix.lower() in suffixes and path.is_file()]

"""A table written into a file of markdown, between two lines that mark its place."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UsageError
from bench.files import write_atomic


def markers(name: str) -> tuple[str, str]:
    """The two lines between which the table of a name stands; markdown does not show them."""
    return f"<!-- fidmap {name} -->", f"<!-- /fidmap {name} -->"


def write_into(file: Path, tables: dict[str, str]) -> None:
    """Replace what stands between the two markers of each table's name, in one atomic write.

    Raises UsageError where the file cannot be read, and where a pair of markers is missing or there twice; then nothing
    is written.
    """
    try:
        file = file.resolve()  # a link stays one
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(
            f"--into {file}: there is no such file; one with {_pair(next(iter(tables)))} is accepted"
        ) from None
    except (OSError, RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: before Python 3.13, of a loop of links
        raise UsageError(f"--into {file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    end = "\r\n" if "\r\n" in text else "\n"
    for name, table in tables.items():
        first, last = markers(name)
        lines = text.split(end)
        stripped = [line.strip() for line in lines]
        if stripped.count(first) != 1 or stripped.count(last) != 1 or stripped.index(first) > stripped.index(last):
            raise UsageError(f"--into {file}: {_pair(name)} are expected, once and in this order")
        begin, stop = stripped.index(first), stripped.index(last)
        text = end.join([*lines[: begin + 1], *table.rstrip("\n").split("\n"), *lines[stop:]])
    write_atomic(file, text.encode())


def _pair(name: str) -> str:
    return "the lines {} and {}".format(*markers(name))

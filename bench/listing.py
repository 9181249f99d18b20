"""``fidmap list``: the entries of catalogues as text, by family, or the names that other programs have for them."""

from __future__ import annotations

import fnmatch
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bench.catalogue import kinds
from bench.errors import UsageError
from implementations.catalogue.entry import Entry
from implementations.catalogue.names import list_names

NAMED = ("samplers", "schedules")  # kinds for which other programs have names


def choose(kind: str | None, where: Mapping[str, str]) -> dict[str, list[Entry]]:
    """The entries of one kind of catalogue, or of all, whose fields match globs such as ``family=exponential``.

    Raises UsageError on an unknown kind, on a field that no entry chosen from has, and where nothing matches.
    """
    catalogues = kinds()
    if kind is not None and kind not in catalogues:
        raise UsageError(f"no kind {kind!r}; there are {', '.join(catalogues)}")
    chosen = {kind: catalogues[kind]} if kind else catalogues
    known = {field: None for table in chosen.values() for entry in table.values() for field in asdict(entry)}
    if unknown := [field for field in where if field not in known]:
        raise UsageError(f"--where {unknown[0]}: no such field; there are {', '.join(known)}")
    found = {name: [entry for entry in table.values() if _matches(entry, where)] for name, table in chosen.items()}
    if where and not any(found.values()):
        raise UsageError(
            "--where " + ", ".join(f"{field}={glob}" for field, glob in where.items()) + " matches nothing"
        )
    return {name: entries for name, entries in found.items() if entries or not where}


def text(chosen: Mapping[str, list[Entry]], width: int) -> Iterator[str]:
    """Lines for a terminal of so many columns: per kind, and within it per family, a name and a summary."""
    for kind, entries in chosen.items():
        yield f"{kind} ({len(entries)})"
        families: dict[str, list[Entry]] = {}
        for entry in entries:
            families.setdefault(_family(kind, entry), []).append(entry)
        for family, members in families.items():
            if family:
                yield f"  {family}"
            indent = "    " if family else "  "
            for entry in members:
                yield from _line(entry, indent, width)


def names(kind: str | None, program: str) -> dict[str, dict[str, Any]]:
    """What a program calls samplers and schedules: per kind, its name -> what that is here."""
    if kind is not None and kind not in NAMED:
        raise UsageError(f"--names {program} is of {' and '.join(NAMED)}, given {kind!r}")
    return {one: list_names(one, program) for one in ([kind] if kind else NAMED)}


def names_text(found: Mapping[str, Mapping[str, Any]], program: str) -> Iterator[str]:
    """Lines for a terminal: per name of the program, the entry with its options, and what is to be known of it."""
    for kind, table in found.items():
        yield f"{kind} of {program} ({len(table)})"
        for name, meaning in table.items():
            refused = f"  cannot be run: {meaning.refused}" if meaning.refused else ""
            yield f"  {name:<34} {meaning}{refused}" + (f"  ({meaning.note})" if meaning.note else "")


def _matches(entry: Entry, where: Mapping[str, str]) -> bool:
    fields = asdict(entry)
    return all(field in fields and fnmatch.fnmatchcase(str(fields[field]), glob) for field, glob in where.items())


def _family(kind: str, entry: Entry) -> str:
    """What an entry is listed under: its family, what a metric is of, or the folder of a task."""
    if kind == "tasks" and entry.target.startswith("bench.tasks."):
        return entry.target.split(".")[2]
    return str(getattr(entry, "family", "") or getattr(entry, "of", ""))


def _line(entry: Entry, indent: str, width: int) -> list[str]:
    source = "" if entry.source == "fidmap" else f" [{entry.source}]"
    paper = f" ({entry.paper})" if entry.paper else ""
    start = f"{indent}{entry.name:<24} "
    return textwrap.wrap(
        f"{entry.summary or entry.target}{paper}{source}", max(width, 60), initial_indent=start,
        subsequent_indent=" " * len(start), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip

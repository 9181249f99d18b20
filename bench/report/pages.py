"""The tables of a store as pages of markdown: one with sentences, contents and tables, and one per long table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench.records.store import Contents
from bench.report.head import list_contents, summarize
from bench.report.table import Table, clean_line

LONG = 60  # rows: a table with more of them has a page of its own
MAIN = "tables.md"


def write_pages(title: str, contents: Contents, tables: Sequence[Table], foot: Sequence[str]) -> dict[str, str]:
    """The text of each page by its name: ``tables.md``, and ``tables/NAME.md`` of each table that is long."""
    tables = _name_apart(tables)
    files = {table.name: f"tables/{table.name}.md" for table in tables if len(table.rows) > LONG}
    pages = {}
    parts = [f"# {clean_line(title[:1].upper() + title[1:])}", ""]
    if said := summarize(contents, tables):
        parts += [*(f"- {clean_line(sentence)}" for sentence in said), ""]
    if tables:
        parts += ["Contents:", "", *list_contents(tables, files), ""]
    for table in tables:
        if table.name not in files:
            parts.append(table.render())
            continue
        name = files[table.name]
        pages[name] = "\n".join([table.render(), f"One of [the tables](../{MAIN}).", ""])
        short = [f"## {clean_line(table.title)}", "", *(clean_line(each) for each in table.says)]
        parts += [*short, *([""] if table.says else []), f"{len(table.rows)} rows, in [{name}]({name}).", ""]
    parts += ["\n\n".join(map(clean_line, foot)), ""]
    return {MAIN: "\n".join(parts), **pages}


def _name_apart(tables: Sequence[Table]) -> list[Table]:
    """The tables with a number behind a name that another before has: suites of one store may share names."""
    seen: Counter[str] = Counter()
    found = []
    for table in tables:
        seen[table.name] += 1
        number = seen[table.name]
        found.append(table if number == 1 else replace(table, name=f"{table.name}-{number}"))
    return found

"""The head of a file of tables: sentences computed from its records, and a list of contents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from bench.records.record import Record
from bench.records.store import Contents
from bench.report.sentences import count
from bench.report.table import Table, clean_line

SENTENCES = 10  # at most


def summarize(contents: Contents, tables: Sequence[Table]) -> list[str]:
    """Five to ten sentences: how the cells ended, what they took, what they rest on, then what the tables say."""
    records = contents.records
    if not records:
        return []
    about = [_tell_ends(records), _tell_times(records), _tell_seeds(records), _tell_figures(records)]
    first = [f"{table.title}: {table.says[0]}" for table in tables if table.says]
    more = [f"{table.title}: {said}" for table in tables for said in table.says[1:]]
    return [*about, *[*first, *more][: SENTENCES - len(about)]]


def list_contents(tables: Sequence[Table], files: dict[str, str]) -> list[str]:
    """A line per table with a link to it, and to its file where it has one; ``files`` are by the table's name."""
    slugs: Counter[str] = Counter()
    lines = []
    for table in tables:
        slug = slug_of(table.title)
        number = f"-{slugs[slug]}" if slugs[slug] else ""
        slugs[slug] += 1
        apart = f", {len(table.rows)} rows in [{files[table.name]}]({files[table.name]})" if table.name in files else ""
        lines.append(f"- [{clean_line(table.title)}](#{slug}{number}){apart}")
    return lines


def slug_of(title: str) -> str:
    """The anchor that markdown on the web gives to a heading: lower case, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", clean_line(title).strip().lower()).replace(" ", "-")


def _tell_ends(records: list[Record]) -> str:
    suites = list(dict.fromkeys(record.cell.suite for record in records))
    ends = Counter(record.status for record in records)
    others = [
        f"{number} {status.replace('_', ' ')} ({count(_most(records, status))})"
        for status, number in sorted(ends.items()) if status != "ok"
    ]  # fmt: skip
    text = f"{len(records):,} cells of {count(suites)}: {ends['ok']:,} ended well"
    return f"{text}{''.join(', ' + each for each in others)}."


def _most(records: list[Record], status: str) -> list[str]:
    """The entries whose cells ended so, those of most cells first."""
    found = Counter(record.cell.entry for record in records if record.status == status)
    return [entry for entry, _ in sorted(found.items(), key=lambda each: (-each[1], each[0]))]


def _tell_times(records: list[Record]) -> str:
    slowest = max(records, key=lambda record: (record.duration, record.cell.name))
    whole = sum(record.duration for record in records)
    task = f"{slowest.cell.task} of {count(slowest.cell.entries)}"
    return f"The cells took {_duration(whole)}; the slowest, {task}, took {_duration(slowest.duration)}."


def _tell_seeds(records: list[Record]) -> str:
    by_seed = Counter(record.cell.seed for record in records)
    if len(by_seed) == 1:
        return f"All are of seed {next(iter(by_seed))}, so that no figure has a spread over seeds."
    seeds = [f"{number:,} of seed {seed}" for seed, number in sorted(by_seed.items())]
    return f"{count(seeds, 6)}: ± is the deviation over seeds."


def _tell_figures(records: list[Record]) -> str:
    measures = [measure for record in records for measure in record.measures]
    held = sum(measure.interval is not None for measure in measures)
    timings = sum(not measure.deterministic for measure in measures)
    own = f"; {timings:,} are timings, of this machine alone" if timings else "; none is a timing"
    return (
        f"They have {len(measures):,} figures, {f'{held:,}' if held else 'none'} of them with an interval of 95 %{own}."
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"

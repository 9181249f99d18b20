"""What has been published of the entries of a leaderboard, to stand beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.report.published import choose, find, read_kind, setting_of
from bench.report.readings import Key

METRICS = {"frechet": "fd", "frechet_mixed": "fd", "prdc": "prdc", "coco": "coco_ap"}  # that contests are about
NOTE = (
    "published: what a paper or repository states. not comparable: it is of another measure, data, network or budget "
    "than what was measured here."
)


@dataclass(frozen=True)
class Beside:
    """The column of published figures by row, and the notes with their sources; both empty where there are none."""

    cells: dict[Key, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_beside(kind: str, task: str, measure: str, rows: Mapping[Key, Mapping[str, Any]]) -> Beside:
    """The published figures of rows, whose first part is the entry; ``rows`` gives the parameters of each."""
    published = read_kind(kind) if kind else []
    if not published or not rows:
        return Beside()
    cells: dict[Key, str] = {}
    marks: dict[str, int] = {}
    for key, parameters in rows.items():
        here = setting_of(task, parameters)
        entry = METRICS.get(str(parameters.get("contest")), key[0])
        found = choose(find(published, entry), measure, here)
        if found is None or found.figure is None:
            cells[key] = "none found"
            continue
        mark = marks.setdefault(f"{found.source} ({found.date})", len(marks) + 1)
        apart = "" if found.comparable(measure, here) else ", not comparable"
        cells[key] = f"{found.short()}{apart} [{mark}]"
    return Beside(cells, [NOTE, *(f"[{mark}] {source}" for source, mark in marks.items())])

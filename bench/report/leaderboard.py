"""A leaderboard: the entries of a family ranked by one measure, what stands beside it, and its forms of text."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import Any

from bench.report.beside import Beside
from bench.report.figure import Figure
from bench.report.readings import OPTIONS, Key
from bench.report.tables import Table
from bench.task import Direction


@dataclass(frozen=True)
class Column:
    """A column of figures: of a measure of some task at some setting, ranked where more or less of it is better."""

    name: str
    title: str
    unit: str
    direction: Direction
    timing: bool
    figures: dict[Key, Figure]
    ranks: dict[Key, int]
    answers: bool = False  # yes or no

    def text(self, key: Key) -> str:
        """The text of a cell."""
        if key not in self.figures:
            return "-"
        figure = self.figures[key]
        if self.answers and figure.value in (0, 1):
            return "yes" if figure.value else "no"
        return figure.text()

    def best(self, key: Key) -> bool:
        """Whether a cell is the best of the column, or not told from the best, and others are not."""
        return self.ranks.get(key) == 1 and any(place > 1 for place in self.ranks.values())


@dataclass(frozen=True)
class Leaderboard:
    """A ranked table: its columns, of which the first ranks, its rows in order, its sentence and its notes."""

    name: str
    title: str
    sentence: str
    labels: list[str]  # of the columns that name the row
    columns: list[Column]
    rows: list[Key]
    ended: dict[Key, str]
    floors: dict[Key, str]  # against the floor, in words
    beside: Beside  # what has been published
    notes: list[str]
    setting: dict[str, str]
    total: int

    def place(self, key: Key) -> str:
        """The rank of a row, with = where others share it."""
        ranks = self.columns[0].ranks
        if key not in ranks:
            return "-"
        shared = sum(place == ranks[key] for place in ranks.values()) > 1
        return f"{ranks[key]}{'=' * shared}"

    def table(self) -> Table:
        """The leaderboard as a table, with the best in bold."""
        header, body, bold = ["", *self.labels, *(column.title for column in self.columns)], [], set()
        if self.floors:
            header.insert(len(self.labels) + 2, "against the floor")
        for y, key in enumerate(self.rows):
            cells = [column.text(key) for column in self.columns]
            if key in self.ended:
                cells[0] = self.ended[key]
            marks = [column.best(key) for column in self.columns]
            if self.floors:
                cells.insert(1, self.floors.get(key, "-"))
                marks.insert(1, False)
            names = [part for part, shown in zip(key, self._shown(), strict=True) if shown]
            body.append([self.place(key), *names, *cells])
            bold |= {(y, 1 + len(names) + x) for x, best in enumerate(marks) if best}
            if marks[0]:
                bold.add((y, 1))
        if self.beside.cells:
            header.append("published")
            body = [[*row, self.beside.cells.get(key, "-")] for row, key in zip(body, self.rows, strict=True)]
        return Table(self.name, self.title, header, body, [*self.notes, *self.beside.notes], (self.sentence,), bold)

    def _shown(self) -> list[bool]:
        """Which parts of a key name the row: the options only where one has some."""
        return [True, OPTIONS in self.labels, *([True] * (len(self.rows[0]) - 2))] if self.rows else []

    def as_dict(self) -> dict[str, Any]:
        """The leaderboard for JSON."""
        rows: list[dict[str, Any]] = [
            {"rank": self.columns[0].ranks.get(key), "entry": key[0], "options": key[1]}
            | dict(zip(self.labels[-(len(key) - 2) :] if len(key) > 2 else [], key[2:], strict=True))
            | {
                "figures": {
                    column.title: _as_dict(column.figures[key]) for column in self.columns if key in column.figures
                },
                "status": self.ended.get(key, "ok"), "floor": self.floors.get(key),
                "published": self.beside.cells.get(key),
            }
            for key in self.rows
        ]  # fmt: skip
        about = [
            {"name": one.title, "measure": one.name, "unit": one.unit, "direction": one.direction}
            for one in self.columns
        ]
        return {
            "name": self.name, "title": self.title, "sentence": self.sentence, "setting": self.setting,
            "columns": about, "rows": rows, "entries": self.total, "notes": [*self.notes, *self.beside.notes],
        }  # fmt: skip

    def as_csv(self) -> str:
        """The leaderboard as CSV: a row per entry, and per column the value and the ends of its interval."""
        out = io.StringIO()
        ends = [f"{column.title}{end}" for column in self.columns for end in ("", " low", " high")]
        write = csv.writer(out, lineterminator="\n").writerow
        write(["leaderboard", "rank", *self.labels, *ends])
        for key in self.rows:
            names = [part for part, shown in zip(key, self._shown(), strict=True) if shown]
            numbers: list[Any] = []
            for column in self.columns:
                one = column.figures.get(key)
                numbers += [one.value, *(one.interval or ("", ""))] if one else ["", "", ""]
            write([self.name, self.columns[0].ranks.get(key, ""), *names, *numbers])
        return out.getvalue()


def _as_dict(figure: Figure) -> dict[str, Any]:
    ends = figure.interval and [end if math.isfinite(end) else str(end) for end in figure.interval]
    return {"value": figure.value, "interval": ends, "seeds": len(figure.by_seed)}


STYLES = ("md", "csv", "json", "latex", "html")


def render(boards: list[Leaderboard], style: str) -> str:
    """Leaderboards as one text in the format ``style``, one of ``STYLES``."""
    if style == "json":
        return json.dumps([board.as_dict() for board in boards], indent=1, allow_nan=False) + "\n"
    if style == "csv":
        first, *others = [board.as_csv() for board in boards]
        return "".join([first, *others])
    return "\n".join(board.table().render(style) for board in boards)

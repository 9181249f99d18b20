"""A table as text, in markdown, LaTeX or HTML."""

from __future__ import annotations

import html
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple

from bench.output import escape_controls


@dataclass(frozen=True)
class Table:
    """A table as text: title, header, rows of cells, and notes beneath; sentences above it, and cells in bold."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    says: tuple[str, ...] = ()
    bold: Set[tuple[int, int]] = frozenset()  # cells as (row, column)

    def render(self, style: str = "md") -> str:
        """The table in markdown (``md``), LaTeX (``latex``) or HTML (``html``).

        Line breaks, bars and control characters in the cells are replaced, so that no text from a record breaks a row.
        """
        from tabulate import tabulate

        form = STYLES[style]
        rows = [
            [self._mark(_clean(text, style), (y, x) in self.bold, style) for x, text in enumerate(row)]
            for y, row in enumerate(self.rows)
        ]
        header = [_clean(text, style) for text in self.header]
        body = tabulate(rows, header, tablefmt=form.tabulate, disable_numparse=True)
        for mark, text in zip(MARKS, form.bold, strict=True):
            body = body.replace(mark, text)
        title, *prose = [form.prose(clean_line(text)) for text in (self.title, *self.says, *self.notes)]
        says, notes = prose[: len(self.says)], prose[len(self.says) :]
        before, after = form.title
        return "\n".join(
            [
                f"{before}{title}{after}", "",
                *(each for text in says for each in (f"{form.says}{text}", "")),
                body, *([""] if notes else []), *(form.note.format(note) for note in notes),
            ]
        ) + "\n"  # fmt: skip

    def _mark(self, text: str, bold: bool, style: str) -> str:
        if not bold:
            return text
        start, end = ("**", "**") if style == "md" else MARKS  # in markdown the marks count for the width
        return f"{start}{text}{end}"


MARKS = ("\ue000", "\ue001")  # of no alphabet: they stand for bold until a format has escaped its text


class Style(NamedTuple):
    """How a format writes a table and what stands around it."""

    tabulate: str
    title: tuple[str, str]
    says: str
    note: str
    bold: tuple[str, str]
    prose: Callable[[str], str] = str


STYLES = {
    "md": Style("github", ("## ", ""), "", "- {}", ("**", "**")),
    "latex": Style("latex_booktabs", ("% ", ""), "% ", "% {}", ("\\textbf{", "}")),
    "html": Style("html", ("<h2>", "</h2>"), "<p>", "<p>{}", ("<b>", "</b>"), html.escape),
}


def clean_line(text: str) -> str:
    """A text as one line without control characters."""
    return escape_controls(" ".join(text.splitlines()))


def _clean(text: str, style: str) -> str:
    line = clean_line(text).translate(dict.fromkeys(map(ord, MARKS)))
    return line.replace("|", "\\|") if style == "md" else line

"""A comparison in the formats of ``fidmap compare --format``, one function each: for people, programs and CI."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from bench.errors import UsageError, printable
from bench.records.compare import JUDGED, Comparison, Judgement, show
from bench.report.tables import Table

SHOWN = 200  # the most rows of the markdown table: a step's summary is at most 1 MiB
MARKS = str.maketrans(
    {character: f"&#{ord(character)};" for character in "|*`"}
)  # what markdown would obey in a row of a table

Format = Callable[[Comparison, str, str], str]  # of a comparison and the names of the baseline and the candidate


def text(comparison: Comparison, baseline: str, candidate: str) -> str:
    """The comparison for people: what each side was made by, a line per change, the counts and the conclusion."""
    changes = [one.line() + ("" if one.gates else " [advisory]") for one in _changes(comparison)]
    return "\n".join([*_sides(comparison, baseline, candidate), *changes, _counts(comparison), comparison.conclusion])


def as_json(comparison: Comparison, baseline: str, candidate: str) -> str:
    """The comparison as one JSON object with every judgement."""
    return json.dumps(comparison.as_dict(), indent=1)


def junit(comparison: Comparison, baseline: str, candidate: str) -> str:
    """The comparison as JUnit XML, in ASCII: a test case per measure, and one per cell whose status or record changed.

    A case fails where the judgement makes the comparison fail. What decides nothing is skipped: an advisory measure, a
    new one, an ambiguous one. Where no measure was judged, a case named ``gate`` fails.
    """
    shown = [one for one in comparison.judgements if one.measured or one.verdict != "same"]
    suite = ElementTree.Element("testsuite", name="fidmap compare")
    for one in shown:
        _case(suite, one.task, f"{one.entry} [{one.cell}] {one.measure}", _outcome(one), one)
    if not comparison.judged:
        _case(suite, "fidmap", "gate", ("failure", comparison.failures[-1]), None)
    numbers = {"tests": len(suite), "failures": len(suite.findall("*/failure")), "errors": 0}
    numbers["skipped"] = len(suite.findall("*/skipped"))
    for name, number in numbers.items():
        suite.set(name, str(number))
    output = ElementTree.SubElement(suite, "system-out")
    output.text = printable("; ".join([*_sides(comparison, baseline, candidate), comparison.conclusion]))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True).decode()


def github(comparison: Comparison, baseline: str, candidate: str) -> str:
    """The comparison as annotations of a GitHub workflow: errors for what fails, warnings for what is advisory.

    The conclusion comes first, since GitHub shows at most ten annotations of a level per step; the log has the others.
    """
    level = "error" if comparison.failures else "notice"
    lines = [_annotation(level, "fidmap compare", comparison.conclusion)]
    for one in _changes(comparison):
        if one.fails or not one.gates:
            title = f"{one.verdict}: {one.task}/{one.entry} {one.measure}"
            lines.append(_annotation("error" if one.fails else "warning", title, one.line()))
    return "\n".join(lines)


def markdown(comparison: Comparison, baseline: str, candidate: str) -> str:
    """The comparison as markdown: the conclusion as the title, a table of what changed, and what was compared."""
    changes = _changes(comparison)
    header = ["verdict", "task", "entry", "setting", "measure", "baseline", "candidate", "why"]
    rows = [
        [one.verdict + ("" if one.gates else ", advisory"), one.task, one.entry, one.cell, one.measure,
         show(one.baseline), show(one.candidate), one.why]
        for one in changes[:SHOWN]
    ]  # fmt: skip
    more = [f"{len(changes) - SHOWN} more are in `--format text`"] if len(changes) > SHOWN else []
    notes = [*more, _counts(comparison), *_sides(comparison, baseline, candidate)]
    title = f"fidmap compare: {_escape(comparison.conclusion)}"
    if not rows:
        return "\n".join([f"## {title}", "", *(f"- {_escape(note)}" for note in notes)])
    shown = [[_escape(cell) for cell in row] for row in rows]
    return Table("comparison", title, header, shown, [*more, *map(_escape, notes[len(more) :])]).render().rstrip("\n")


FORMATS: dict[str, Format] = {"text": text, "json": as_json, "junit": junit, "github": github, "md": markdown}


def append_summary(file: Path, content: str) -> None:
    """Append markdown to the file of a step's summary, which GitHub names in ``GITHUB_STEP_SUMMARY``.

    Raises UsageError where it cannot be written.
    """
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(content + "\n")
    except OSError as error:
        raise UsageError(f"cannot write GITHUB_STEP_SUMMARY={file}: {error.strerror or error}") from None


def _changes(comparison: Comparison) -> list[Judgement]:
    return [one for one in comparison.judgements if one.verdict != "same"]


def _sides(comparison: Comparison, baseline: str, candidate: str) -> list[str]:
    sides = (("baseline", baseline, comparison.baseline), ("candidate", candidate, comparison.candidate))
    return [f"{name} {path}: {'; '.join(lines)}" for name, path, lines in sides]


def _counts(comparison: Comparison) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in sorted(comparison.counts.items()))


def _outcome(one: Judgement) -> tuple[str, str] | None:
    """The element of a test case that says how it ended, with its message; None where it passes."""
    why = f"{one.verdict}: {show(one.baseline)} -> {show(one.candidate)}" + (f" ({one.why})" if one.why else "")
    if one.fails:
        return "failure", why
    if one.gates and one.measured and one.verdict in JUDGED and one.verdict != "ambiguous":
        return None
    return "skipped", why if one.gates else f"advisory: {why}"


def _case(
    suite: ElementTree.Element, task: str, name: str, outcome: tuple[str, str] | None, of: Judgement | None
) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=printable(task), name=printable(name), time="0")
    if outcome:
        ended = ElementTree.SubElement(case, outcome[0], message=printable(outcome[1]))
        if outcome[0] == "failure":
            ended.set("type", of.verdict if of else "gate")
            ended.text = printable(of.line() if of else outcome[1])


def _annotation(level: str, title: str, message: str) -> str:
    """A workflow command; of its title, colons and commas are escaped too, since they end a property."""
    message, title = (printable(part).replace("%", "%25") for part in (message, title))
    return f"::{level} title={title.replace(':', '%3A').replace(',', '%2C')}::{message}"


def _escape(words: str) -> str:
    """Text of a record, for markdown: one line, whose characters stand for themselves."""
    return html.escape(printable(words), quote=False).translate(MARKS)

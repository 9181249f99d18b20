"""Tables of records: markdown or LaTeX, laid out as the suite asks; CSV with one row per measure; JSON as a bundle."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable

from bench.plan.spec import TableSpec
from bench.plan.suite import SuiteRun
from bench.records.bundle import bundle
from bench.records.frame import frame
from bench.records.record import Measurement, Record
from bench.records.store import Store
from bench.report.agreement import compare_rankings
from bench.report.best import NOTE as best_note
from bench.report.best import Arrays, best
from bench.report.figure import describe_test, figure_of, is_ratio, show_ratio
from bench.report.marks import YES_NO, Column, Groups, arrange, find_best, name_entries, say
from bench.report.provenance import omissions, provenance
from bench.report.select import label, lookup, select, show, split_all
from bench.report.table import Table, clean_line
from metrics.floors import Floor, tell_from_floor

FORMATS = ("md", "csv", "json", "latex", "html")
FLOOR = "_floor"  # behind the name of a measure: its floor
VERDICT = " against the floor"
APART = "not told apart"
APART_NOTE = f"({APART}): the figure lies in the range of the floor, or its interval holds its mean. Others lie above."


def render(store: Store, runs: list[SuiteRun], style: str = "md") -> str:
    """All tables of a store as one text in the format ``style``, one of ``FORMATS``.

    ``md`` and ``latex`` give the tables of the suites in ``runs``, with provenance and omissions beneath.
    """
    if style == "json":
        return bundle(store)
    contents = store.contents()
    if style == "csv":
        return frame(contents.records).to_csv(index=False, lineterminator="\n")
    foot = [*provenance(contents.records, store.environments()), *omissions(contents)]
    tables = [table.render(style) for table in build(contents.records, runs, store.arrays)]
    before = {"md": "", "latex": "% ", "html": "<p>"}[style]
    return "\n".join([*tables, "\n\n".join(before + clean_line(line) for line in foot), ""])


def build(records: list[Record], runs: list[SuiteRun], arrays: Arrays = lambda record: {}) -> list[Table]:
    """Build the tables that the suites in ``runs`` ask for, then one per task for records that none of them shows.

    ``arrays`` gives the arrays stored beside a record, which a table of best entries compares case by case.
    """
    tables, shown = [], set()
    records = split_all(records)
    silent = not any(spec.says for suite, _ in runs for spec in suite.table)  # then each says its first measure
    for suite, cells in runs:
        own = [record for record in records if record.cell.hash in set(cells)]
        for spec in suite.table:
            chosen = select(own, spec.task, spec.where)
            shown |= {(record.cell.hash, record.cell.entry) for record in chosen}
            if chosen:
                says = spec.values[:1] if silent else spec.says
                tables.append(lay_out(spec.model_copy(update={"says": says}), chosen, arrays))
    rest = [record for record in records if (record.cell.hash, record.cell.entry) not in shown]
    for task in dict.fromkeys(record.cell.task for record in rest):
        own = [record for record in rest if record.cell.task == task]
        default = default_spec(task, own)
        tables.append(lay_out(default.model_copy(update={"says": default.values[:1] if silent else []}), own))
    return tables


def lay_out(spec: TableSpec, records: list[Record], arrays: Arrays = lambda record: {}) -> Table:
    """Lay out one table of ``records``: rows by parameters, columns by measures or by the values of one parameter.

    Values are means over the seeds. Parameters that differ within a cell become rows too.
    """
    columns = _columns(spec, records)
    names_best = spec.best and not name_entries(spec.rows, records)
    names = [*spec.rows, *([] if names_best else _find_unnamed(spec, records))]
    entries = name_entries(names, records)
    notes = [spec.note] if spec.note else []
    if names_best:
        notes.append(best_note)
    reasons: dict[str, int] = {}
    groups: Groups = {}
    for record in records:
        groups.setdefault(tuple(label(lookup(record, name)) for name in names), []).append(record)
    says = [] if names_best else say(spec.says, names, entries, groups, columns)
    if spec.agrees is not None and spec.columns is not None:
        says += compare_rankings(groups, spec.values[0], spec.columns, spec.agrees)
    shown = arrange(spec, names, entries, groups, columns)
    if len(shown) < len(groups):
        notes.append(f"{len(shown)} of {len(groups)} rows; all are in measures.csv.")
    best = find_best(names, entries, shown, columns) if spec.best and entries else set()
    if best:
        figures = [one for own in shown.values() for one in (figure_of(own, name) for name in spec.values) if one]
        notes.append(f"Bold: the best of a setting, and what is not told from it at 5 %: {describe_test(figures)}.")
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for index, (key, own) in enumerate(shown.items()):
        cells = [(name, [r for r in own if keep(r)]) for _, name, keep in columns]
        bold |= {(len(rows), x) for y, x in best if y == index}
        rows.append([*key, *(_fill(spec, of, name, reasons, arrays, names_best) for name, of in cells)])
        following = list(shown)[index + 1] if index + 1 < len(shown) else None
        if spec.floor and (following is None or following[:-1] != key[:-1]):
            same = [r for k, members in groups.items() if k[:-1] == key[:-1] for r in members]
            floors = [
                _cell([r for r in same if keep(r) and r.status == "ok"], spec.floor, {}) for _, _, keep in columns
            ]
            rows.append([*key[:-1], "floor (exact draws)", *floors])
    if any(f"({APART})" in cell for row in rows for cell in row):
        notes.append(APART_NOTE)
    if any("±" in cell for row in rows for cell in row):
        notes.append("±: the standard deviation over seeds, of one seed's value and not of the mean.")
    notes += [f"[{mark}] {reason}" for reason, mark in reasons.items()]
    return Table(spec.name, spec.title, [*names, *(one.title for one in columns)], rows, notes, tuple(says), bold)


def default_spec(task: str, records: list[Record]) -> TableSpec:
    """The layout of records that no suite shows: rows by entry and varying parameters, a column per measure."""
    names = list(dict.fromkeys(name for record in records for name in record.cell.parameters))
    varying = [n for n in names if len({label(record.cell.parameters.get(n)) for record in records}) > 1]
    measures = list(dict.fromkeys(m.name for record in records for m in record.measures))
    rows = list(
        dict.fromkeys(
            ["entry", *(n for n in varying if label(records[0].cell.parameters.get(n)) != records[0].cell.entry)]
        )
    )
    name = re.sub("[^a-z0-9_-]", "_", task.lower())  # of a file: a task of the user's is module:name
    return TableSpec(name=name, title=task, task=task, rows=rows, values=measures or ["status"])


def _columns(spec: TableSpec, records: list[Record]) -> list[Column]:
    titles = {}
    for name in spec.values:
        unit = next((m.unit for record in records if (m := record.measure(name))), "")
        titles[name] = f"{name} ({unit})" if unit and unit != YES_NO else name
    if spec.columns is None:
        return [column for name in spec.values for column in _with_verdict(name, titles[name], spec)]
    column = spec.columns
    values = list(dict.fromkeys(label(lookup(record, column)) for record in records))

    def of(value: str) -> Callable[[Record], bool]:
        return lambda record: label(lookup(record, column)) == value

    many = len(spec.values) > 1
    return [
        Column(f"{titles[name]}, {column} {value}" if many else f"{column} {value}", name, of(value))
        for name in spec.values
        for value in values
    ]


def _with_verdict(name: str, title: str, spec: TableSpec) -> list[Column]:
    """The column of a measure, and behind that of a floor one that says in words what the figure is against it."""
    column = Column(title, name, lambda record: True)
    figure = name.removesuffix(FLOOR)
    if figure == name or figure not in spec.values:
        return [column]
    return [column, Column(f"{figure} against the floor", f"{figure}{VERDICT}", lambda record: True)]


def _fill(
    spec: TableSpec, records: list[Record], name: str, reasons: dict[str, int], arrays: Arrays, names_best: bool
) -> str:
    """The text of a cell under a measure, or of a verdict on a figure against its floor."""
    if name.endswith(VERDICT):
        figure = name.removesuffix(VERDICT)
        return _tell(records, figure, f"{figure}{FLOOR}") or "-"
    if names_best:
        return _best(records, name, reasons, arrays)
    text = _cell(records, name, reasons)
    own = spec.floor if len(spec.values) == 1 or spec.floor == f"{name}{FLOOR}" else None
    told = _tell(records, name, own) if own else None
    return f"{text} ({told})" if told in (APART, "below the floor") else text


def _tell(records: list[Record], name: str, floor: str) -> str | None:
    """A figure against its floor, in words; None where either is missing.

    The mean over seeds is held against the range of one set of exact draws, which is wider than that of a mean.
    """
    found = [
        (figure, of) for r in records
        if r.status == "ok" and (figure := r.measure(name)) and (of := r.measure(floor)) and of.interval
    ]  # fmt: skip
    if not found:
        return None
    ends = [of.interval for _, of in found if of.interval]
    mean, low, high = (statistics.fmean(each) for each in ([of.value for _, of in found], *zip(*ends, strict=True)))
    value = statistics.fmean(figure.value for figure, _ in found)
    return tell_from_floor(value, Floor(mean, low, high), found[0][0].interval if len(found) == 1 else None)


def _find_unnamed(spec: TableSpec, records: list[Record]) -> list[str]:
    """Parameters that differ between the records of one table cell; they become rows, as only seeds are averaged."""
    named = [*spec.rows, *([spec.columns] if spec.columns else [])]
    cells: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        cells.setdefault(tuple(label(lookup(record, name)) for name in named), []).append(record)
    places = ["device", "threads", "hardware"]
    names = [
        name
        for name in dict.fromkeys(name for record in records for name in [*record.cell.parameters, *places])
        if name not in named and any(len({label(lookup(r, name)) for r in same}) > 1 for same in cells.values())
    ]
    # A seed appears twice for two entries of a contest, and for one cell with two states of the source.
    for last in ("entry", "hash"):
        found = Counter((*(label(lookup(r, name)) for name in [*named, *names]), r.cell.seed) for r in records)
        if max(found.values(), default=0) > 1 and len({lookup(r, last) for r in records}) > 1:
            names.append(last)
    return names


def _cell(records: list[Record], name: str, reasons: dict[str, int]) -> str:
    """The text of a cell: a value with its interval, mean and spread over seeds, or a status and its reason."""
    if name == "status":
        return ", ".join(dict.fromkeys(record.status for record in records)) or "-"
    ended = [record for record in records if record.status != "ok"]
    marks = [str(reasons.setdefault(r.error or r.status, len(reasons) + 1)) for r in ended]
    mark = f" [{', '.join(dict.fromkeys(marks))}]" if marks else ""
    measured: list[Measurement] = [m for record in records if record.status == "ok" and (m := record.measure(name))]
    if not measured:
        return f"{ended[0].status}{mark}" if ended else "-"
    if ended:
        mark = f" of {len(measured)} of {len(records)} seeds{mark}"
    values = [m.value for m in measured]
    if measured[0].unit == YES_NO and set(values) <= {0.0, 1.0}:
        found = [answer for answer, value in (("yes", 1.0), ("no", 0.0)) if value in values]
        tried = measured[0].n  # the number of cases that a "yes" rests on
        yes = f"yes ({tried:,})" if tried else "yes"
        answer = (
            {"yes": yes, "no": "no"}[found[0]]
            if len(found) == 1
            else f"yes for {int(sum(values))} of {len(values)} seeds"
        )
        return answer + mark
    interval = measured[0].interval
    if is_ratio(measured[0]):
        mean = statistics.geometric_mean(values) if min(values) > 0 else statistics.fmean(values)
        return show_ratio(mean, interval if len(values) == 1 else None) + mark
    if len(set(values)) == 1:
        return show(values[0]) + (f" [{show(interval[0])}, {show(interval[1])}]" if interval else "") + mark
    return f"{show(statistics.fmean(values))} ± {show(statistics.stdev(values))}{mark}"


def _best(records: list[Record], name: str, reasons: dict[str, int], arrays: Arrays) -> str:
    """The text of a cell that names the best entry and those tied with it; without values per case, as ``_cell``."""
    found = best(records, name, arrays, show)
    if found is None:
        return _cell(records, name, reasons)
    ended = {str(reasons.setdefault(r.error or r.status, len(reasons) + 1)) for r in records if r.status != "ok"}
    return found + (f" [without {', '.join(sorted(ended))}]" if ended else "")

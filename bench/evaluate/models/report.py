"""The report on a model: a row per sampler and budget, with a mark where no other is better for as little time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.evaluate.models.template import NOTE
from bench.records.record import Record
from bench.report import front
from bench.report.front import Figure, average
from bench.report.select import show
from bench.report.tables import Table

FRONT = "*"
MEASURES = (
    "fd", "fd_floor", "kid", "sliced_w2", "sliced_w2_floor", "energy", "solver_error", "reference_error", "latency",
    "evaluations", "prepare_evaluations",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A sampler at a budget: its figures by measure, whether it is on the Pareto front, and how its cells ended."""

    sampler: str
    nfe: int | None
    figures: dict[str, Figure]
    front: bool
    status: str = "ok"  # or how a cell ended, with the reason


@dataclass(frozen=True)
class ModelReport:
    """What ``fidmap evaluate model`` found: the rows, what the probe says, and where records and pictures are."""

    model: str
    quality: str  # the measure that decides the front
    extractor: str  # name@hash; empty for points and without data
    rows: list[Row]
    warnings: list[str]
    folder: Path

    def table(self) -> str:
        """The rows as a markdown table, with notes on what figures, intervals and marks mean."""
        held = [name for name in MEASURES if any(name in row.figures for row in self.rows)]
        shown = [name for name in held if name != "reference_error"]
        titles = {"fd": f"fd_{self.extractor.partition('@')[0]}", "latency": "latency (ms)"}
        header = ["sampler", "nfe", *(titles.get(name, name) for name in shown), "front"]
        body = [
            [row.sampler, show(row.nfe), *(_cell(row.figures.get(name)) for name in shown),
             FRONT if row.front else row.status.partition(":")[0] if row.status != "ok" else ""]
            for row in self.rows
        ]  # fmt: skip
        notes = [NOTE]
        if self.quality in held:
            notes.append(f"{FRONT}: no row that is not told to take longer has its interval of {self.quality} below.")
        errors = [row.figures["reference_error"].value for row in self.rows if "reference_error" in row.figures]
        if errors:
            notes.append(f"The converged solution differs from one of half its steps by {show(max(errors))}.")
        notes += [f"extractor {self.extractor}"] if self.extractor else []
        notes += [f"{row.sampler}, {show(row.nfe)}: {row.status}" for row in self.rows if row.status != "ok"]
        return Table("model", f"Samplers on {self.model}", header, body, notes).render()

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def read_rows(records: Iterable[Record], quality: str) -> list[Row]:
    """The rows of a model's records, in their order; the records of one sampler and budget differ in their seed."""
    groups: dict[tuple[str, int | None], list[Record]] = {}
    for record in records:
        groups.setdefault((record.cell.entry, record.cell.parameters.get("nfe")), []).append(record)
    found = {key: _figures(own) for key, own in groups.items()}
    return [
        Row(sampler, nfe, found[sampler, nfe], is_on_front(found[sampler, nfe], found.values(), quality), _status(own))
        for (sampler, nfe), own in groups.items()
    ]


def is_on_front(figures: dict[str, Figure], others: Iterable[dict[str, Figure]], quality: str) -> bool:
    """Whether no other point that is not told to take longer is better beyond both intervals; smaller is better."""
    held = [one for one in (figures, *others) if quality in one and "latency" in one]
    if not held or held[0] is not figures:
        return False
    points = [(one["latency"], one[quality]) for one in held]
    return front.is_on_front(points[0], points)


def _figures(records: list[Record]) -> dict[str, Figure]:
    found = {}
    for name in MEASURES:
        measured = [m for record in records if record.status == "ok" and (m := record.measure(name))]
        if len(measured) == 1:
            found[name] = Figure(measured[0].value, measured[0].interval)
        elif measured:
            found[name] = average([one.value for one in measured])
    return found


def _status(records: list[Record]) -> str:
    ended = [f"{record.status}: {record.error}" for record in records if record.status != "ok"]
    return "; ".join(dict.fromkeys(ended)) or "ok"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    ends = f" [{show(figure.interval[0])}, {show(figure.interval[1])}]" if figure.interval else ""
    return show(figure.value) + ends

"""What a comparison judges: the cells and measures that ``--only GLOB`` and ``--measure NAME`` choose."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace

from bench.errors import UsageError
from bench.records.record import Measurement, Record
from bench.records.store import Contents


@dataclass(frozen=True)
class Choice:
    """A choice of cells, those whose name contains a match of the glob ``only``, and of measures, by name.

    A cell's name is ``task/entry/key=value,...`` with all parameters in order of name, and its seed. Without a glob all
    cells are chosen, without a name all measures.
    """

    only: str | None = None
    measures: tuple[str, ...] = ()

    def matches(self, record: Record) -> bool:
        """Whether the glob chooses the record's cell."""
        return self.only is None or fnmatch.fnmatchcase(record.cell.name, f"*{self.only}*")

    def takes(self, measure: Measurement) -> bool:
        """Whether the measure is chosen, by its name."""
        return not self.measures or measure.name in self.measures

    def select(self, baseline: Contents, candidate: Contents) -> tuple[Contents, Contents]:
        """Both sides without the records that are not chosen.

        A record without any measure, as of a cell that failed, is chosen where others of its task have one that is. A
        damaged record is left out only where the other side tells that the glob does not choose it. Raises UsageError
        where neither side has a cell that the glob chooses, or a measure of one of the names.
        """
        every = [*baseline.records, *candidate.records]
        chosen = [record for record in every if self.matches(record)]
        if not chosen and every:
            raise UsageError(
                f"--only {self.only!r} matches none of {len(every)} cells; the first is {every[0].cell.name}"
            )
        names = dict.fromkeys(measure.name for record in chosen for measure in record.measures)
        if unknown := [name for name in self.measures if name not in names]:
            raise UsageError(f"--measure {unknown[0]!r}: no record has it; there are {', '.join(names) or 'none'}")
        having = [record for record in chosen if any(map(self.takes, record.measures))]
        tasks = {record.cell.task for record in every if any(map(self.takes, record.measures))}
        having += [record for record in chosen if not record.measures and record.cell.task in tasks]
        keys = {record.cell.matched_by for record in (having if self.measures else chosen)}
        others = {record.cell.hash for record in every} - {record.cell.hash for record in chosen}

        def restrict(side: Contents) -> Contents:
            records = [record for record in side.records if record.cell.matched_by in keys and self.matches(record)]
            damaged = {name: why for name, why in side.damaged.items() if name not in others}
            return replace(side, records=records, damaged=damaged)

        return restrict(baseline), restrict(candidate)


EVERYTHING = Choice()

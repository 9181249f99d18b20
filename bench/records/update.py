"""A baseline brought up to date with a candidate: ``fidmap compare BASE CANDIDATE --update``.

Afterwards the baseline has the candidate's cells: what only the baseline had is removed, unless ``--only`` does not
choose it. A cell that is the same, within the windows of its measures, keeps its record. So small changes do not add up
over updates, and the difference of two versions of a file shows what changed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import UsageError
from bench.files import write_atomic
from bench.records import bundle, source
from bench.records.choice import Choice
from bench.records.compare import judge_cell
from bench.records.merge import interleave
from bench.records.record import FINISHED, Record
from bench.records.source import Source
from bench.records.store import Contents, Store, StoredSuite

Lists = dict[str, list[Record]]  # suite -> the records of its cells


@dataclass(frozen=True)
class Update:
    """An update of the baseline at ``path``: the records that it has afterwards, and what becomes of its cells."""

    path: Path
    candidate: Source
    lists: Lists
    taken: frozenset[str]  # the hashes of the candidate's records among them; the others are the baseline's
    whole: bool  # not only the cells that a glob chooses
    counts: dict[str, int]

    def write(self) -> str:
        """Write the baseline, a file atomically, and return a line that says what was done.

        In a store, the records are written first, each atomically, and then the lists of the suites, which show them;
        records that are no longer shown stay in the folder.
        """
        changed = self._write_store() if self.path.is_dir() else self._write_file()
        counts = ", ".join(f"{n} cells {what}" for what, n in self.counts.items())
        return f"{'wrote' if changed else 'left as it is'}: {self.path}: {counts}"

    def _write_file(self) -> bool:
        records = list({record.cell.hash: record for own in self.lists.values() for record in own}.values())
        known = bundle.read(self.path)[1] if self.path.exists() else {}
        known |= self.candidate.environments
        used = dict.fromkeys(record.environment for record in records)
        content = bundle.write(records, {name: known[name] for name in used if name in known}).encode()
        if self.path.exists() and self.path.read_bytes() == content:
            return False
        write_atomic(self.path, content)
        return True

    def _write_store(self) -> bool:
        store = Store(self.path, repair=self.whole).create()
        store.contents()  # what is damaged is set aside, where the whole is replaced
        changed = False
        for new in self.candidate.records:
            if new.cell.hash not in self.taken or store.get(new.cell.hash) == new:
                continue
            if new.environment in self.candidate.environments:
                store.write_environment(self.candidate.environments[new.environment])
            store.write(new, self.candidate.arrays(new))
            changed = True
        for name, own in self.lists.items():
            before, plan = store.suites().get(name), self.candidate.plans.get(name)
            first, second = (plan, before) if self.whole else (before, plan)
            definition = next((one.suite for one in (first, second) if one), None)
            after = StoredSuite(
                suite=definition, cells=[one.cell.hash for one in own], keys=[one.cell.key for one in own]
            )
            if before is None or (before.suite, before.cells) != (after.suite, after.cells):
                store.write_suite(name, after.suite, after.cells, after.keys)
                changed = True
        return changed


def load_baseline(path: Path) -> Contents:
    """Read the baseline to update; a file that is not there yet, of a name that ends in .json, has no records."""
    if not path.exists() and path.suffix == ".json":
        return Contents([])
    return bundle.load(path)


def prepare(path: Path, baseline: Contents, candidate: Path, contents: Contents, choice: Choice) -> Update:
    """Decide on an update of the baseline at ``path`` with ``contents``, those of the candidate; write nothing.

    Raises UsageError where the candidate is damaged or not complete, has none of the chosen cells, or failed in cells
    whose measures the baseline has.
    """
    found = source.read(candidate)
    old, new = choice.select(baseline, contents)
    hashes = {record.cell.hash for record in new.records}
    damaged = new.damaged | {name: why for name, why in found.damaged.items() if name in hashes}
    if damaged:
        raise UsageError(f"{candidate} holds damaged records ({', '.join(damaged)}); {path} is left as it is")
    if not new.records:
        raise UsageError(f"--only {choice.only!r} matches no cell of {candidate}; {path} is left as it is")
    absent = [f"{n} of {of} cells of {name} have no record" for name, (n, of) in contents.absent.items() if n]
    if absent and choice.only is None:
        raise UsageError(
            f"{candidate} is not complete ({'; '.join(absent)}): run the suite to its end, or choose cells with --only"
        )
    was = {record.cell.matched_by: record for record in old.records}
    now = {record.cell.matched_by: record for record in new.records}
    for key, record in now.items():
        if record.status not in FINISHED and key in was and was[key].measures:
            name = f"{record.cell.task}/{record.cell.entry}"
            raise UsageError(f"{name} ({record.cell.hash}) has the status {record.status} in {candidate}, and {path} "
                             "has its measures; run it again, or choose other cells with --only")  # fmt: skip
    after = {key: was[key] if key in was and _same(was[key], record) else record for key, record in now.items()}
    untouched = [record for record in baseline.records if not choice.matches(record)]
    after |= {record.cell.matched_by: record for record in untouched}
    plans = Store(path).suites() if path.is_dir() else {}
    before, later = _by_suite(baseline, plans), _by_suite(replace(contents, records=new.records), found.plans)
    lists = {
        name: _renew(before.get(name, []), later.get(name, []), after, choice.only is None)
        for name in dict.fromkeys([*before, *later])
    }
    counts = Counter(_count(was.get(key), after[key]) for key in now)
    counts["removed"] += len(set(was) - set(now))
    counts["as before"] += len(untouched)
    shown = {what: counts[what] for what in ("new", "changed", "removed", "as before")}
    taken = frozenset(after[key].cell.hash for key, record in now.items() if after[key] is record)
    return Update(path, found, lists, taken, choice.only is None, shown)


def _same(old: Record, new: Record) -> bool:
    """Whether a cell is the same on both sides, in every measure."""
    return all(one.verdict == "same" for one in judge_cell(old, new, gate_timings=True))


def _count(old: Record | None, after: Record) -> str:
    return "new" if old is None else "as before" if after is old else "changed"


def _by_suite(contents: Contents, plans: dict[str, StoredSuite]) -> Lists:
    """The records of each suite, in the order of its plan; without one, those whose cells name the suite."""
    known = {record.cell.hash: record for record in contents.records}
    lists = {name: [known[cell] for cell in plan.cells if cell in known] for name, plan in plans.items()}
    listed = {record.cell.hash for own in lists.values() for record in own}
    for record in contents.records:
        if record.cell.hash not in listed:
            lists.setdefault(record.cell.suite, []).append(record)
    return lists


def _renew(
    before: list[Record], later: list[Record], after: dict[tuple[str, str, int], Record], whole: bool
) -> list[Record]:
    """The records of a suite after the update: in the candidate's order, or of a part, in that of the baseline."""
    new = [record.cell.matched_by for record in later]
    if not whole:
        new = interleave([key for record in before if (key := record.cell.matched_by) in after], new)
    return [after[key] for key in new]

"""Stores merged: the union of records and of suites' plans, with conflicts named. ``fidmap import`` is its command.

Records are the same where their cells have one hash. Of two that differ, the one is kept that ended well, then the one
that has its arrays, then the newer; a last tie is decided by content. This is an order of records, so that the result
depends neither on the order of the sources nor on how often they are merged. A suite's plan is the union by key of the
cells that it lists; of a key with several hashes, as of two versions of the source, the same order decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench.files import digest
from bench.records.record import FINISHED, Record
from bench.records.source import Source
from bench.records.store import Store

K = TypeVar("K")


@dataclass
class Merged:
    """What a merge did: the number of records by what became of them, and a line per conflict and damaged record."""

    counts: dict[str, int] = field(default_factory=lambda: {"new": 0, "replaced": 0, "there already": 0})
    conflicts: list[str] = field(default_factory=list)  # records of one hash that differ; suites defined differently
    damaged: list[str] = field(default_factory=list)
    repeated: int = 0  # cells that were measured again with the same deterministic measures
    contradicted: bool = False  # whether deterministic measures of one hash differ

    def line(self) -> str:
        """The counts as one line."""
        again = f"; {self.repeated} cells were measured more than once, with equal results" if self.repeated else ""
        return ", ".join(f"{n} {what}" for what, n in self.counts.items()) + again


def merge(sources: list[Source], store: Store) -> Merged:
    """Merge the sources into a store: environments, records with their arrays, then the plans of suites.

    Each file is written atomically and a record after all that it needs, so that a merge that is interrupted leaves a
    sound store, and a repetition completes it. What is in the store already is not written again.
    """
    merged = Merged(damaged=[f"{source.path}: {name} is damaged ({why})" for source in sources
                             for name, why in source.damaged.items()])  # fmt: skip
    store.create()
    names = {record.cell.hash for source in sources for record in source.records}
    before = {name: record for name in names if (record := store.get(name))}
    kept: dict[str, tuple[Record, Source | None]] = {name: (record, None) for name, record in before.items()}
    for source in sources:
        for record in source.records:
            name = record.cell.hash
            if name in kept:
                kept[name] = _choose(kept[name], (record, source), merged, str(store.folder))
            else:
                kept[name] = record, source
    for name, (record, origin) in kept.items():
        if origin is not None:
            if record.environment in origin.environments:
                store.write_environment(origin.environments[record.environment])
            store.write(record, origin.arrays(record))
        what = "there already" if origin is None else "replaced" if name in before else "new"
        merged.counts[what] += 1
    for name in sorted({name for source in sources for name in source.plans}):
        _merge_plans(name, sources, store, merged)
    return merged


def interleave(first: Iterable[K], second: Iterable[K]) -> list[K]:
    """The union of two orders: ``first``, with what ``second`` alone has behind its predecessor there."""
    merged = list(dict.fromkeys(first))
    known, before = set(merged), None
    for one in second:
        if one not in known:
            merged.insert(0 if before is None else merged.index(before) + 1, one)
            known.add(one)
        before = one
    return merged


def rank(record: Record) -> tuple[bool, int, str, str]:
    """The order in which records of one cell are kept, the greatest first."""
    return record.status in FINISHED, len(record.arrays), record.started_at, digest(record.model_dump_json().encode())


def _choose(
    one: tuple[Record, Source | None], other: tuple[Record, Source | None], merged: Merged, folder: str
) -> tuple[Record, Source | None]:
    """The greater of two records of one hash, each with where it is from (None: the store); a conflict is named."""
    kept, left = (one, other) if rank(one[0]) >= rank(other[0]) else (other, one)
    if _content(kept[0]) == _content(left[0]):
        return kept
    if not (reason := _find_difference(kept[0], left[0])):
        merged.repeated += 1
        return kept
    merged.contradicted |= {kept[0].status, left[0].status} <= FINISHED
    cell = kept[0].cell
    places = [f"{origin.path if origin else folder} of {record.started_at}" for record, origin in (kept, left)]
    merged.conflicts.append(f"{cell.name} ({cell.hash}): {reason}; kept is {places[0]}, left out {places[1]}")
    return kept


def _content(record: Record) -> str:
    """A record without its arrays, which a bundle of the same record lacks."""
    return record.model_dump_json(exclude={"arrays", "arrays_hash"})


def _find_difference(kept: Record, left: Record) -> str:
    """What differs between two records and should not, status or a deterministic measure, in words; or nothing."""
    if kept.status != left.status:
        return f"status {kept.status} and {left.status}"
    for measure in kept.measures:
        other = left.measure(measure.name, measure.entry)
        if measure.deterministic and (other is None or repr(other.value) != repr(measure.value)):
            return f"{measure.name} {measure.value!r} and {'none' if other is None else repr(other.value)}"
    return ""


def _merge_plans(name: str, sources: list[Source], store: Store, merged: Merged) -> None:
    """Write the plan of the suite ``name``: the union of the sources' and the store's, where that is another one.

    Of definitions that differ, that of the plan with the newest record is kept.
    """
    own = store.suites().get(name)
    plans = [(str(store.folder), own)] if own else []
    plans += [(source.path, source.plans[name]) for source in sources if name in source.plans]
    records = {cell: store.get(cell) for _, plan in plans for cell in plan.cells}
    order: list[str] = []
    hashes: dict[str, list[str]] = {}
    newest = []
    for _, plan in plans:
        # A plan of an older version has no keys: records tell them, and a cell without a record stands for itself.
        keys = plan.keys or [record.cell.key if (record := records[cell]) else cell for cell in plan.cells]
        order = interleave(order, keys)
        for key, cell in zip(keys, plan.cells, strict=True):
            hashes.setdefault(key, []).append(cell)
        newest.append(max((record.started_at for cell in plan.cells if (record := records[cell])), default=""))

    def rank_of(cell: str) -> tuple[Any, ...]:
        record = records[cell]
        return (True, *rank(record)) if record else (False,)

    cells = [max(dict.fromkeys(hashes[key]), key=rank_of) for key in order]
    chosen = max(range(len(plans)), key=lambda index: (newest[index], digest(plans[index][1].suite)))
    if len(definitions := {digest(plan.suite) for _, plan in plans}) > 1:
        merged.conflicts.append(f"suite {name}: {len(definitions)} definitions; kept is that of {plans[chosen][0]}")
    suite = plans[chosen][1].suite
    if own is None or (own.suite, own.cells, own.keys) != (suite, cells, order):
        store.write_suite(name, suite, cells, order)

"""The foot of a report: where its numbers come from, and which records it does not show."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.records.record import Record
from bench.records.store import Contents

NAMED = 6  # entries that a line lists by name; the rest are counted


def facts(records: list[Record], environments: dict[str, Any]) -> dict[str, Any]:
    """Where numbers come from, for ``provenance.json``: code, machines, seeds, extractors, data, dates, all hashes.

    ``environments`` are the store's, by hash.
    """
    measures = [m for r in records for m in r.measures]
    dates = sorted(r.started_at[:10] for r in records)
    return {
        "code": sorted({record.made_by for record in records}),
        "environments": {name: environments.get(name, {}) for name in sorted({r.environment for r in records})},
        "seeds": sorted({r.cell.seed for r in records}),
        "threads": sorted({r.cell.threads for r in records}),
        "extractors": sorted({m.extractor for m in measures if m.extractor}),
        "reference data": sorted({m.reference for m in measures if m.reference}),
        "measured": sorted({*dates[:1], *dates[-1:]}),
        "cells": len(records),
    }


def provenance(records: list[Record], environments: dict[str, Any], hashes: str = "") -> list[str]:
    """A line that says where numbers come from: version, machine, software, seeds, extractors, and dates, in words.

    ``environments`` are the store's, by hash; ``hashes`` says where commits and hashes are.
    """
    if not records:
        return ["no records"]
    lines = []
    for name in dict.fromkeys(r.environment for r in records):
        env = environments.get(name, {})
        packages = ", ".join(f"{k} {v}" for k, v in env.get("packages", {}).items() if k in ("torch", "numpy", "scipy"))
        gpus = "".join(f", {gpu['name']}" for gpu in env.get("gpus", []))
        lines.append(
            f"{env.get('cpu', '?')} x {env.get('cores', '?')}{gpus}, {env.get('python', '?')}"
            + (f", {packages}" if packages else "")
        )
    found = facts(records, environments)
    said = {
        "seed": found["seeds"],
        "threads": found["threads"],
        "extractor": sorted({name.partition("@")[0] for name in found["extractors"]}),
    }
    parts = [
        *sorted({f"fidmap {record.version}" for record in records}), *dict.fromkeys(lines),
        *(f"{name} {', '.join(map(str, values))}" for name, values in said.items() if values),
        f"measured {' to '.join(found['measured'])}", f"{found['cells']} cells", *([hashes] if hashes else []),
    ]  # fmt: skip
    return ["; ".join(parts) + "."]


def omissions(contents: Contents) -> list[str]:
    """Lines on what no table shows, each with the reason: older records, cells that did not run, damaged records."""
    shown = {record.cell.key for record in contents.records}
    lines = []
    for suite in dict.fromkeys(record.cell.suite for record in contents.left_out):
        own = [record for record in contents.left_out if record.cell.suite == suite]
        older = [record for record in own if record.cell.key in shown]
        if older:
            lines.append(
                f"Not shown: {len(older)} records of {suite} that other source, versions or hardware made, "
                "of cells that are shown."
            )
        if len(older) < len(own):
            entries = Counter(record.cell.entry for record in own if record.cell.key not in shown)
            names = ", ".join(f"{entry} ({n})" for entry, n in entries.most_common(NAMED))
            more = f" and {len(entries) - NAMED} more entries" if len(entries) > NAMED else ""
            lines.append(
                f"Not shown: {len(own) - len(older)} records of {suite} whose cells its last run here did not have "
                f"({names}{more}): it had another device, seed, source or list of cells; run it as "
                "they were run, with their `--sampler`, `--loss` or `--nms`, to see them."
            )
    for suite, (absent, of) in contents.absent.items():
        if absent:
            lines.append(
                f"{absent} of {of} cells of {suite} have no record here: they were not run, or not to their end."
            )
    if contents.damaged:
        lines.append(f"Not shown: {len(contents.damaged)} damaged records.")
    return lines

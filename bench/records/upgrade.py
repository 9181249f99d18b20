"""Upgrades of records and suites that earlier versions of fidmap stored to the schema of today.

In version 1 of the schema, a cell's key covered neither device nor threads. Up to version 2, the fields of the cell
stood beside the others, a contest's entries were one text with commas, and its measures were named ``measure:entry``.
"""

from __future__ import annotations

from typing import Any

from bench.plan.cell import key_of

CELL = ("suite", "task", "kind", "parameters", "seed", "device", "hardware", "threads", "key", "hash")
KEY = ("task", "parameters", "seed", "device", "threads")


def upgrade_record(fields: dict[str, Any]) -> dict[str, Any]:
    """Upgrade the fields of a record to today's schema, of which they come back unchanged.

    Raises ValueError where the record is damaged.
    """
    if fields.get("schema_version") not in (1, 2):
        return fields
    try:
        if fields["schema_version"] == 1:
            fields = fields | {"key": key_of(*(fields[name] for name in KEY))}
        contest = fields["kind"] == "contest"
        entries = fields["entry"].split(",") if contest else [fields["entry"]]
        cell = {name: fields[name] for name in CELL if name in fields} | {"entries": entries}
        measures = [_separate(measure) if contest else measure for measure in fields.get("measures", [])]
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: Field required") from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it is no record: {error}") from None
    rest = {name: value for name, value in fields.items() if name not in (*CELL, "entry")}
    return rest | {"schema_version": 3, "cell": cell, "measures": measures}


def _separate(measure: dict[str, Any]) -> dict[str, Any]:
    """A contest's measure with its entry in a field of its own."""
    name, _, entry = measure["name"].partition(":")
    return measure | {"name": name, "entry": entry}


def upgrade_suite(suite: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a suite stored by schema version 2, whose plots had the options of every kind, most of them empty.

    Raises ValueError where the suite is damaged.
    """
    try:
        return suite | {"plot": [_upgrade_plot(plot) for plot in suite.get("plot", [])]}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it is no suite: {error}") from None


def _upgrade_plot(plot: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in plot.items() if value not in ("", None, [], {}, False, "shared")}
    if own.get("kind") == "boxes" and "zlabel" in own:
        own["names"] = [name.strip() for name in own.pop("zlabel").split(",")]
    return own

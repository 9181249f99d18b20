"""Bundles: all records of a store in one JSON file, as baselines are; and a reader of stores and bundles alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.records.record import SCHEMA_VERSION, Record, describe_damage, require_known_schema
from bench.records.store import Contents, Store


def bundle(store: Store) -> str:
    """All records of a store and their environments, without arrays, as one JSON text, which ``load`` reads.

    Raises UsageError where records are damaged, since a baseline would lack them and they would never be compared.
    """
    contents = store.contents()
    if contents.damaged:
        names = ", ".join(contents.damaged)
        raise UsageError(f"{store.folder} holds damaged records ({names}); run their suite again, or remove them")
    return write(contents.records, store.environments())


def write(records: list[Record], environments: dict[str, Any]) -> str:
    """Records and environments as the JSON text of a bundle."""
    lines = ",\n".join(record.model_dump_json() for record in records)
    described = json.dumps(environments, sort_keys=True)
    return f'{{"schema_version": {SCHEMA_VERSION},\n"environments": {described},\n"records": [\n{lines}\n]}}\n'


def load(path: Path | str) -> Contents:
    """Read the records of a store (a folder) or of a bundle (a file).

    Raises UsageError where there are no records, and where a bundle cannot be read.
    """
    path = Path(path)
    if path.is_dir():  # a store
        contents = Store(path).contents()
        if not contents.records:
            left = f"{len(contents.damaged)} damaged records and no other" if contents.damaged else "no records"
            raise UsageError(f"{path} holds {left}; make some with: fidmap run SUITE --out {path}")
        return contents
    return Contents(read(path)[0])


def read(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """Read the records and the environments of a bundle; raises UsageError where there are no records."""
    try:
        content = json.loads(path.read_bytes())
        stored = content["records"]
        require_known_schema(content.get("schema_version"))
        records = [Record.read(fields) for fields in stored]
        environments = dict(content.get("environments", {}))  # a bundle made by hand may have none
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}: expected a folder of records or a file of `fidmap table --format json`"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not a file of `fidmap table --format json`: {describe_damage(error)}") from None
    if not records:
        raise UsageError(f"{path} holds no records")
    return records, environments

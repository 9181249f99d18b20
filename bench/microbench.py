"""pytest-benchmark's JSON as records of a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import environment
from bench.errors import UsageError
from bench.store import Measured, Record, Store
from bench.timing import median_interval

SUITE = "microbench"


def import_file(file: Path, store: Store) -> list[Record]:
    """Store each benchmark of a pytest-benchmark JSON file as a record with its raw timings; returns them.

    The median's 95 % interval is a bootstrap over the raw samples, if the file has them (``--benchmark-save-data``).
    Raises UsageError where the file is not one of pytest-benchmark's.
    """
    try:
        content = json.loads(file.read_text())
        machine, commit = content["machine_info"], content["commit_info"]
        name = store.write_environment({"cpu": machine["cpu"].get("brand_raw", machine["processor"]),
                                        "cores": machine["cpu"].get("count"), "python": machine["python_version"],
                                        "os": f"{machine['system']} {machine['release']}"})  # fmt: skip
        records = [_record(item, name, commit, content["datetime"]) for item in content["benchmarks"]]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} is not pytest-benchmark's JSON: {type(error).__name__} {error}") from error
    for record in records:
        store.write(record)
    store.write_suite(SUITE, None, [record.hash for record in records])
    return records


def _record(item: dict[str, Any], environment_hash: str, commit: dict[str, Any], started: str) -> Record:
    stats = item["stats"]
    samples = stats.get("data") or []
    parameters = {"file": item["fullname"].partition("::")[0]}
    identity = {"task": SUITE, "entry": item["name"], "parameters": parameters}
    median = Measured(name="median", value=stats["median"] * 1e3, n=stats["rounds"], unit="ms", deterministic=False)
    if len(samples) >= 20:
        low, high = median_interval(samples)
        median.interval = (low * 1e3, high * 1e3)
    return Record(
        suite=SUITE, task=SUITE, kind="plain", entry=item["name"], parameters=parameters, seed=0,
        key=environment.digest(identity), hash=environment.digest(identity | {"stats": stats, "started": started}),
        version=environment.code()["version"], commit=commit.get("id"), dirty=commit.get("dirty"),
        environment=environment_hash, device="cpu", threads=1, measures=[median],
        timing={item["name"]: {k: stats[k] for k in ("median", "q1", "q3", "iterations")} | {"data": samples}},
        started_at=started, duration=float(stats.get("total", 0.0)),
    )  # fmt: skip

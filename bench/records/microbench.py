"""pytest-benchmark's JSON as records of a store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.errors import UsageError
from bench.files import digest
from bench.plan.blocks import key_of
from bench.records.store import Measured, Record, Store
from bench.timing import median_interval

SUITE = "microbench"
BOOTSTRAP = 20  # rounds from which the samples are resampled, and from which the quartiles hold the median
RANGE = 6  # rounds from which least and greatest hold the median in 95 % of cases: 1 - 2**(1 - 6) = .969


def import_file(file: Path, store: Store) -> list[Record]:
    """Store each benchmark of a pytest-benchmark JSON file as a record with its raw timings; returns them.

    A benchmark is known by its full name, ``file::Class::test[parameters]``. Raises UsageError where the file is not
    one of pytest-benchmark's, or has two benchmarks of one name.
    """
    try:
        content = json.loads(file.read_bytes())
        if missing := {"machine_info", "commit_info", "datetime", "benchmarks"} - set(content):
            raise UsageError(f"{file} is not pytest-benchmark's JSON: it has no {', '.join(sorted(missing))}")
        machine, commit = content["machine_info"], content["commit_info"]
        cpu = machine["cpu"]
        described = {
            "cpu": cpu.get("brand_raw", machine["processor"]), "cores": cpu.get("count"),
            "python": machine["python_version"], "os": f"{machine['system']} {machine['release']}",
        }  # fmt: skip
        common: dict[str, Any] = {
            "hardware": _hardware(machine), "environment": store.write_environment(described),
            "started_at": content["datetime"], "version": environment.code()["version"],
        }  # fmt: skip
        if commit["id"] != "unversioned":  # pytest-benchmark's word for: it knows of no repository
            common |= {"commit": commit["id"], "dirty": commit.get("dirty")}
        records = [_record(item, common) for item in content["benchmarks"]]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file} is not pytest-benchmark's JSON: {type(error).__name__} {reason}") from error
    keys = [record.key for record in records]
    if twice := next((record for record in records if keys.count(record.key) > 1), None):
        raise UsageError(f"{file} has {twice.parameters['file']}::{twice.entry} twice; one of a name is accepted")
    for record in records:
        store.write(record)
    store.write_suite(SUITE, None, [record.hash for record in records])
    return records


def interval_of(stats: dict[str, Any]) -> tuple[float, float] | None:
    """A 95 % interval of the median in seconds, or None where there are fewer than 6 rounds.

    A bootstrap over the raw samples where the file has 20 or more of them (``--benchmark-save-data``). Without them
    the quartiles, which hold the median of 20 rounds and more in at least 95 % of cases, or below that the range.
    """
    samples: Sequence[float] = stats.get("data") or []
    if len(samples) >= BOOTSTRAP:
        return median_interval(samples)
    if stats["rounds"] < RANGE:
        return None
    low, high = ("q1", "q3") if stats["rounds"] >= BOOTSTRAP else ("min", "max")
    return float(stats[low]), float(stats[high])


def _hardware(machine: dict[str, Any]) -> str:
    """The processor's model; virtual machines give many of them one name, which their numbers tell apart."""
    cpu = machine["cpu"]
    name = cpu.get("brand_raw") or machine["processor"]
    if not name:
        return f"{machine['machine']} of {machine['node']}"
    numbers = [f"{key} {cpu[key]}" for key in ("family", "model", "stepping") if key in cpu]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _record(item: dict[str, Any], common: dict[str, Any]) -> Record:
    stats = item["stats"]
    file, _, test = item["fullname"].partition("::")
    entry, parameters = test or item["name"], {"file": file, "test": test}
    where: dict[str, Any] = {"device": "cpu", "threads": 1}
    median = Measured(name="median", value=float(stats["median"]) * 1e3, n=stats["rounds"], unit="ms",
                      deterministic=False)  # fmt: skip
    if (interval := interval_of(stats)) and all(map(math.isfinite, interval)):
        median.interval = (interval[0] * 1e3, interval[1] * 1e3)
    key = key_of(SUITE, parameters, 0, **where)
    kept = {k: stats[k] for k in ("median", "q1", "q3", "iterations")} | {"data": stats.get("data") or []}
    return Record(
        suite=SUITE, task=SUITE, kind="plain", entry=entry, parameters=parameters, seed=0, key=key,
        hash=digest([key, stats, common]), measures=[median], timing={entry: kept},
        duration=float(stats.get("total", 0.0)), **where, **common,
    )  # fmt: skip

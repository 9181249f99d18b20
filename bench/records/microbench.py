"""pytest-benchmark's JSON, read: each benchmark becomes a record, with its median in milliseconds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.errors import UsageError
from bench.files import digest
from bench.plan.cell import Identity, key_of
from bench.records.record import Measurement, Record
from bench.timing import median_interval

SUITE = "microbench"
BOOTSTRAP = 20  # rounds from which raw samples are resampled, and the quartiles contain the median in 95 % of cases
RANGE = 6  # rounds from which the range contains the median in 95 % of cases: 1 - 2**(1 - 6) = .969


FIELDS = {"machine_info", "commit_info", "datetime", "benchmarks"}


def read(file: Path) -> tuple[list[Record], dict[str, Any]]:
    """Each benchmark of a pytest-benchmark JSON file as a record with its raw timings, and the machine they ran on.

    A benchmark is identified by its full name, ``file::Class::test[parameters]``. Raises UsageError where the file is
    not one of pytest-benchmark's, or has two benchmarks of one name.
    """
    try:
        content = json.loads(file.read_bytes())
        if missing := FIELDS - set(content):
            raise UsageError(f"{file} is not pytest-benchmark's JSON: it has no {', '.join(sorted(missing))}")
        machine, commit = content["machine_info"], content["commit_info"]
        cpu = machine["cpu"]
        described = {
            "cpu": cpu.get("brand_raw", machine["processor"]), "cores": cpu.get("count"),
            "python": machine["python_version"], "os": f"{machine['system']} {machine['release']}",
        }  # fmt: skip
        common: dict[str, Any] = {
            "environment": digest(described), "started_at": content["datetime"],
            "version": environment.code()["version"],
        }  # fmt: skip
        if commit["id"] != "unversioned":  # what pytest-benchmark writes where it finds no repository
            common |= {"commit": commit["id"], "dirty": commit.get("dirty")}
        records = [_record(item, _hardware(machine), common) for item in content["benchmarks"]]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file} is not pytest-benchmark's JSON: {type(error).__name__} {reason}") from error
    keys = [record.cell.key for record in records]
    if twice := next((record for record in records if keys.count(record.cell.key) > 1), None):
        raise UsageError(
            f"{file} has {twice.cell.parameters['file']}::{twice.cell.entry} twice; one of a name is accepted"
        )
    return records, described


def interval_of(stats: dict[str, Any]) -> tuple[float, float] | None:
    """A 95 % interval for the median time in seconds, from a benchmark's ``stats``; None for fewer than 6 rounds.

    Where the file has 20 or more raw samples (``--benchmark-save-data``), it is a bootstrap over them. Otherwise it is
    the range from the first to the third quartile, which contains the true median in at least 95 % of cases from 20
    rounds on, or for fewer rounds the range of all of them.
    """
    samples: Sequence[float] = stats.get("data") or []
    if len(samples) >= BOOTSTRAP:
        return median_interval(samples)
    if stats["rounds"] < RANGE:
        return None
    low, high = ("q1", "q3") if stats["rounds"] >= BOOTSTRAP else ("min", "max")
    return float(stats[low]), float(stats[high])


def _hardware(machine: dict[str, Any]) -> str:
    """The processor's model name with its numbers, since virtual machines give several models the same name."""
    cpu = machine["cpu"]
    name = cpu.get("brand_raw") or machine["processor"]
    if not name:
        return f"{machine['machine']} of {machine['node']}"
    numbers = [f"{key} {cpu[key]}" for key in ("family", "model", "stepping") if key in cpu]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _record(item: dict[str, Any], hardware: str, common: dict[str, Any]) -> Record:
    stats = item["stats"]
    file, _, test = item["fullname"].partition("::")
    entry, parameters = test or item["name"], {"file": file, "test": test}
    median = Measurement(name="median", value=float(stats["median"]) * 1e3, n=stats["rounds"], unit="ms",
                         deterministic=False)  # fmt: skip
    if (interval := interval_of(stats)) and all(map(math.isfinite, interval)):
        median.interval = (interval[0] * 1e3, interval[1] * 1e3)
    cell = Identity(
        suite=SUITE, task=SUITE, kind="plain", entries=[entry], parameters=parameters, seed=0, device="cpu",
        hardware=hardware, threads=1, key=(key := key_of(SUITE, parameters, 0, "cpu", 1)),
        hash=digest([key, stats, hardware, common]),
    )  # fmt: skip
    kept = {k: stats[k] for k in ("median", "q1", "q3", "iterations")} | {"data": stats.get("data") or []}
    return Record(cell=cell, measures=[median], timing={entry: kept}, duration=float(stats.get("total", 0.0)), **common)

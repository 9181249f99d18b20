"""pytest-benchmark's own JSON becomes records with units, intervals and raw samples."""

import json
import os
import statistics
import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.microbench import import_file
from bench.store import Store

BENCHMARKS = """
def test_short(benchmark): benchmark.pedantic(sum, (range(1000),), rounds=25)
def test_few(benchmark): benchmark.pedantic(sum, (range(10),), rounds=3)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "test_mine.py").write_text(BENCHMARKS)
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-save-data", "--benchmark-json=report.json"]
    # A worker of xdist would hand down that it is one, and there pytest-benchmark measures nothing.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "test_mine.py"]
    subprocess.run(command, cwd=folder, env=alone, check=True, capture_output=True)
    return folder / "report.json"


def test_medians_in_ms_with_intervals_where_the_samples_allow(report, tmp_path):
    found = {record.entry: record for record in import_file(report, Store(tmp_path).create())}
    samples = {item["name"]: item["stats"]["data"] for item in json.loads(report.read_text())["benchmarks"]}
    for name, record in found.items():
        measure = record.measure("median")
        assert measure.value == pytest.approx(1e3 * statistics.median(samples[name]))
        assert (measure.unit, measure.deterministic) == ("ms", False)
        assert record.timing[name]["data"] == samples[name]
    low, high = found["test_short"].measure("median").interval
    assert low <= found["test_short"].value("median") <= high
    assert found["test_few"].measure("median").interval is None
    assert [r.entry for r in Store(tmp_path).records()] == ["test_short", "test_few"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"machine_info": {}, "commit_info": {}, "benchmarks": 3}'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(UsageError, match=r"other\.json is not pytest-benchmark's JSON"):
        import_file(tmp_path / "other.json", Store(tmp_path / "store").create())

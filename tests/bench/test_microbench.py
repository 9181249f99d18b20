"""pytest-benchmark's own JSON becomes records with units, intervals and raw samples."""

import copy
import json
import os
import shutil
import statistics
import subprocess
import sys

import numpy as np
import pytest

from bench.errors import UsageError
from bench.records import microbench, source
from bench.records.bundle import load
from bench.records.compare import compare
from bench.records.merge import merge
from bench.records.microbench import interval_of
from bench.records.store import Store


def import_file(file, store):
    """Import a file into a store, and return the file's records."""
    merge([source.read(file)], store)
    return microbench.read(file)[0]


BENCHMARKS = """
def test_short(benchmark): benchmark.pedantic(sum, (range(1000),), rounds=25)
def test_few(benchmark): benchmark.pedantic(sum, (range(10),), rounds=3)
class TestOther:
    def test_short(self, benchmark): benchmark.pedantic(sum, (range(10),), rounds=25)
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
    found = {record.cell.entry: record for record in import_file(report, Store(tmp_path).create())}
    samples = {
        item["fullname"].partition("::")[2]: item["stats"]["data"]
        for item in json.loads(report.read_text())["benchmarks"]
    }
    for name, record in found.items():
        measure = record.measure("median")
        assert measure.value == pytest.approx(1e3 * statistics.median(samples[name]))
        assert (measure.unit, measure.deterministic) == ("ms", False)
        assert record.timing[name]["data"] == samples[name]
    low, high = found["test_short"].measure("median").interval
    assert low <= found["test_short"].value("median") <= high
    assert found["test_few"].measure("median").interval is None
    assert [r.cell.entry for r in Store(tmp_path).records()] == [
        "test_short", "test_few", "TestOther::test_short",
    ]  # fmt: skip
    assert all(record.cell.hardware for record in found.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "JSONDecodeError"),
        ("[[]]", "TypeError"),
        ('{"benchmarks": []}', "it has no commit_info, datetime, machine_info"),
        (
            '{"machine_info": {}, "commit_info": {}, "datetime": "", "benchmarks": 3}',
            "KeyError 'cpu'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, says):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(UsageError, match=rf"other\.json is not pytest-benchmark's JSON: {says}"):
        microbench.read(tmp_path / "other.json")


@pytest.fixture
def judge(report, tmp_path):
    """Imports the report and a changed copy of it, and holds the second against the first, timings gating."""

    def run(change, also=lambda content: None):
        stores = []
        for name, changes in (("a", [also]), ("b", [also, change])):
            content = json.loads(report.read_text())
            for each in changes:
                each(content)
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
            shutil.rmtree(tmp_path / name, ignore_errors=True)  # of an earlier call, whose file has the same date
            import_file(tmp_path / f"{name}.json", Store(tmp_path / name).create())
            stores.append(load(tmp_path / name))
        result = compare(*stores, gate_timings=True)
        return {f.entry: f.verdict for f in result.judgements}, result.exit_code

    return run


def scale(factor, name="", drop=()):
    """Makes benchmarks slower, those whose full name ends so, and takes fields away from all."""

    def change(content):
        for item in content["benchmarks"]:
            for field, value in item["stats"].items():
                if item["fullname"].endswith(name) and isinstance(value, float):
                    item["stats"][field] = factor * value
            item["stats"]["data"] = [factor * x for x in item["stats"]["data"]] if "data" not in drop else None

    return change


def test_two_classes_benchmarks_of_one_name_are_two(judge):
    verdicts, code = judge(scale(7.5, "TestOther::test_short", drop=["data"]), also=scale(1, drop=["data"]))
    assert (verdicts["test_short"], verdicts["TestOther::test_short"], code) == ("same", "worse", 1)


@pytest.mark.parametrize("factor", [1 / 40, 1 / 3, 1.0, 1.05, 2.5, 40.0])
@pytest.mark.parametrize("rounds", [3, 7, 12, 25])
def test_without_raw_samples_the_quartiles_or_the_range_tell(judge, factor, rounds):
    """Generated: factors and rounds; only with fewer than 6 rounds nobody can tell, which does not pass."""

    def strip(content):
        for item in content["benchmarks"]:
            stats = item["stats"]
            stats |= {"data": None, "rounds": rounds, "min": 0.9e-6, "q1": 0.95e-6, "median": 1e-6, "q3": 1.05e-6,
                      "max": 1.2e-6}  # fmt: skip

    verdicts, code = judge(scale(factor, drop=["data"]), also=strip)
    apart = "better" if factor < 1 else "worse"
    expected = "same" if 0.95 < factor < 1.1 else apart if rounds >= 6 else "incomparable"
    assert set(verdicts.values()) == {expected}
    assert code == (expected in ("worse", "incomparable"))


@pytest.mark.parametrize("rounds", [6, 9, 19, 20, 27, 60])
def test_the_interval_without_raw_samples_covers_the_median(rounds):
    draws = np.random.default_rng(rounds).exponential(size=(2000, rounds))
    q1, q3 = np.quantile(draws, [0.25, 0.75], axis=1)
    found = [interval_of({"rounds": rounds, "min": row.min(), "max": row.max(), "q1": low, "q3": high})
             for row, low, high in zip(draws, q1, q3, strict=True)]  # fmt: skip
    assert np.mean([low <= np.log(2) <= high for low, high in found]) > 0.94  # .95 less two standard deviations


@pytest.mark.parametrize(
    "cpu",
    [{"brand_raw": "Z80"}, {"brand_raw": "Intel(R) Xeon(R) Processor", "model": 1}, {"stepping": 99}, {}],
)
def test_another_processor_is_incomparable(judge, cpu):
    def other(content):
        content["machine_info"]["cpu"] = content["machine_info"]["cpu"] | cpu if cpu else {}

    verdicts, code = judge(other)
    assert (set(verdicts.values()), code) == ({"incomparable"}, 1)
    assert judge(lambda content: None, also=other)[1] == 0


def test_a_benchmark_that_is_there_twice_is_refused(report, tmp_path):
    content = json.loads(report.read_text())
    content["benchmarks"].append(copy.deepcopy(content["benchmarks"][0]))
    (tmp_path / "twice.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"test_mine\.py::test_short twice"):
        source.read(tmp_path / "twice.json")

"""The runner: failures apart, resume, two runs at once, and nothing reused that is no longer true."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from bench.catalogue import TASKS
from bench.records.record import parse_record
from bench.records.store import Store

FAULTY = (Path(__file__).parent / "faulty.py").read_text()
TASK = "faulty = faulty:faulty"


@pytest.fixture
def site(outside):
    return outside("faulty", FAULTY, tasks=TASK)


def suite(folder: Path, axes: str, extra: str = "") -> Path:
    file = folder / "mine.toml"
    file.write_text(f'name = "mine"\ntimeout_s = 8\nmemory_gib = 1\n{extra}\n[[block]]\ntask = "faulty"\n{axes}\n')
    return file


def stored(folder: Path) -> dict[tuple, tuple]:
    """Deterministic content of a store by cell."""
    return {
        (r.cell.entry, r.cell.parameters["index"], r.cell.seed): (r.status, [(m.name, m.value) for m in r.measures])
        for r in Store(folder).records()
    }


def test_bad_cells_are_recorded_and_the_others_go_on(fidmap, site, tmp_path):
    kinds = ["raises", "diverges", "nan", "dies", "exits", "hungry", "undeclared", "unsound", "unspeakable", "well"]
    file = suite(tmp_path, f"axes.behaviour = {json.dumps(kinds)}\nsettings = {{ seconds = 0.01, index = 0 }}")
    excluded = '[[block]]\ntask = "faulty"\naxes.behaviour = ["well"]\nsettings = { seconds = 0.01, index = 1 }\n'
    file.write_text(file.read_text() + excluded + 'exclude = [{match = {index = 1}, reason = "for show"}]\n')
    late = '[[block]]\ntask = "faulty"\naxes.behaviour = ["late"]\nsettings.seconds = 60\n'
    file.write_text(file.read_text() + late)
    result = fidmap("run", file, "--out", "store", "--jobs", "2", site=site)
    assert result.returncode == 1, result.stderr
    status = {
        (r.cell.entry, r.cell.parameters["index"]): (r.status, r.error) for r in Store(tmp_path / "store").records()
    }
    expected = {"well": "ok", "raises": "failed", "diverges": "diverged", "nan": "diverged", "dies": "out_of_memory",
                "exits": "failed", "hungry": "out_of_memory", "undeclared": "failed", "unsound": "failed",
                "unspeakable": "failed"}  # fmt: skip
    assert {kind: status[kind, 0][0] for kind in kinds} == expected
    assert status["well", 1] == ("skipped", "for show")
    assert status["late", 0][0] == "timeout"
    assert "as asked" in status["raises", 0][1]
    assert "cube" in status["undeclared", 0][1]
    assert "two lines" in status["unspeakable", 0][1]
    # What failed is tried again, what ended is not.
    again = fidmap("run", file, "--out", "store", "--dry-run", site=site)
    assert "12 cells, 8 to run" in again.stderr


def test_kill_and_resume_loses_and_repeats_nothing(fidmap, site, tmp_path):
    file = suite(
        tmp_path, 'axes.behaviour = ["well"]\naxes.index = [0,1,2,3,4,5,6,7,8,9,10,11]\nsettings.seconds = 0.25'
    )
    assert fidmap("run", file, "--out", "whole", "--jobs", "1", site=site).returncode == 0
    records, moments = tmp_path / "killed" / "records", random.Random(0)
    written: dict[str, int] = {}
    for _ in range(2):
        process = fidmap("run", file, "--out", "killed", "--jobs", "2", site=site, background=True)
        target = len(written) + 2
        while len(list(records.glob("*.json")) if records.exists() else []) < target and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        now = {file.name: file.stat().st_mtime_ns for file in records.glob("*.json")}
        assert all(now[name] == at for name, at in written.items()), "a finished cell ran again"
        written = now
    assert fidmap("run", file, "--out", "killed", site=site).returncode == 0
    assert all((records / name).stat().st_mtime_ns == at for name, at in written.items())
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    assert len(stored(tmp_path / "whole")) == 12


def test_two_runs_into_one_folder_at_once(fidmap, site, tmp_path):
    file = suite(
        tmp_path, 'axes.behaviour = ["well"]\naxes.index = [0,1,2,3,4,5]\nsettings.seconds = 0.1', "seeds = [0, 1]"
    )
    pair = [fidmap("run", file, "--out", "store", site=site, background=True) for _ in range(2)]
    assert [process.wait(timeout=120) for process in pair] == [0, 0], [p.stderr.read() for p in pair]
    assert stored(tmp_path / "store") == {
        ("well", i, s): ("ok", [("square", i * i), ("seed", s)]) for i in range(6) for s in range(2)
    }
    assert not list((tmp_path / "store").rglob(".*.tmp"))


def test_a_record_is_used_again_only_while_it_is_true(fidmap, site, outside, tmp_path):
    file = suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [1, 2]')

    def waiting(*more, where=site):
        return fidmap("run", file, "--out", "store", "--dry-run", *more, site=where).stderr

    assert fidmap("run", file, "--out", "store", site=site).returncode == 0
    assert " 0 to run" in waiting()
    assert " 2 to run" in waiting("--force")
    assert " 2 to run" in waiting("--seed", "7")
    threads = file.read_text()
    file.write_text(threads + "threads = 2\n")
    assert " 2 to run" in waiting()
    file.write_text(threads)
    assert " 2 to run" in waiting(where=outside("faulty", FAULTY + "\nCHANGED = True\n", tasks=TASK))


def test_a_truncated_record_is_named_set_aside_and_run_again(fidmap, site, tmp_path):
    file = suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [1, 2]')
    assert fidmap("run", file, "--out", "store", site=site).returncode == 0
    broken = next((tmp_path / "store" / "records").glob("*.json"))
    broken.write_bytes(broken.read_bytes()[:100])
    result = fidmap("run", file, "--out", "store", site=site)
    assert result.returncode == 0
    assert broken.name in result.stderr
    assert "1 stored, 1 to run" in result.stderr
    assert (tmp_path / "store" / "aside" / broken.name).exists()
    assert len(stored(tmp_path / "store")) == 2


def test_only_and_limit_choose_cells(fidmap, site, tmp_path):
    file = suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [1, 2, 13]')

    def names(*more):
        return fidmap("run", file, "--dry-run", *more, site=site).stdout.split()[1::2]

    assert names("--only", "index=1*") == ["faulty/well/index=1", "faulty/well/index=13"]
    assert names("--limit", "1") == ["faulty/well/index=1"]


OF_A_MODEL = {"model_quality", "guidance_quality"}  # a user's model, and checkpoints
TIMINGS = {"sampler_overhead", "sampler_latency", "nms_speed", "metric_speed", "latency", "score_matching"}
EVERY_TASK = """
name = "every_task"
[[block]]
task = "coverage"
settings = { n = 40, d = 4, trials = 20 }
axes.interval = ["share", "kid"]
[[block]]
task = "sampler_error"
settings = { nfe = 6, samples = 500 }
axes = { sampler = ["heun", "ddpm", "dpmpp_2m"], oracle = ["gaussian", "mixture"] }
[[block]]
task = "sampler_quality"
settings = { nfe = 6, samples = 100, images = 500 }
axes = { sampler = ["euler", "ddpm"] }
[[block]]
task = "sampler_quality"
settings = { nfe = 6, samples = 65, images = 65, oracle = "classes", schedule = "gits" }
axes = { sampler = ["dpmpp_2m"] }
[[block]]
task = "sampler_order"
axes = { sampler = ["euler", "ddpm"] }
[[block]]
task = "sampler_spectrum"
settings = { nfe = 6 }
axes = { sampler = ["heun", "ddpm"], spectrum = ["toy", "fmnist"] }
[[block]]
task = "sampler_ledger"
settings = { nfe = 6, samples = 200, spectrum = "toy" }
axes = { sampler = ["heun", "ddpm"] }
[[block]]
task = "sampler_choice"
settings = { ours = ["ddim"], theirs = ["diffusers_ddim"], samples = 70, choosing = 1, judging = 2 }
axes = { sides = [["fidmap", "diffusers"]], nfe = [5], schedules = [["karras"]] }
[[block]]
task = "sampler_audit"
axes = { sampler = ["ddim"], variants = [false] }
[[block]]
task = "iou_regression"
settings = { points = 5, iterations = 40 }
axes = { loss = ["iou", "ciou"] }
[[block]]
task = "iou_properties"
settings = { cases = 200, starts = 4 }
axes = { loss = ["giou"] }
[[block]]
task = "iou_gradient"
settings = { points = 8 }
axes = { loss = ["giou"] }
[[block]]
task = "iou_agreement"
settings = { pairs = 60, iterations = 10, resamples = 20 }
axes = { loss = ["giou"] }
[[block]]
task = "iou_choice"
settings = { pairs = 20, iterations = 20, situation = "noisy" }
axes = { loss = ["giou"] }
[[block]]
task = "metric_sensitivity"
settings = { n = 100 }
axes = { disturbance = ["noise"] }
[[block]]
task = "metric_response"
settings = { disturbance = "blur", n = 100 }
axes.metric = ["energy"]

[[block]]
task = "metric_bias"
settings = { n = 100, draws = 2 }
axes = { figure = ["kid_fmnist"] }
[[block]]
task = "nms_quality"
settings = { boxes = 30, images = 3 }
axes = { nms = ["hard", "soft_gaussian"] }
[[block]]
task = "detection_ap"
settings = { scenes = 10 }
axes = { perturbation = ["jitter", "background"] }
[[block]]
task = "objective_quality"
settings = { steps = 20, batch = 16, samples = 50, sampling = 4 }
axes = { objective = ["v", "x0"] }
[[block]]
task = "guidance_truth"
settings = { samples = 50, points = 5, steps = 5 }
axes = { guidance = ["classifier_free", "apg"] }
"""


def test_deterministic_measures_repeat_bit_for_bit_on_one_worker_or_two(fidmap, tmp_path):
    (tmp_path / "every.toml").write_text(EVERY_TASK)
    measures = []
    for jobs in ("1", "2"):
        result = fidmap("run", "every.toml", "--jobs", jobs, "--out", jobs)
        assert result.returncode == 0, result.stderr
        records = Store(tmp_path / jobs).records()
        measures.append(
            {(r.cell.key, m.entry, m.name): m.value for r in records for m in r.measures if m.deterministic}
        )
    assert {r.cell.task for r in records} == set(TASKS) - TIMINGS - OF_A_MODEL
    assert measures[0] == measures[1]


def test_a_source_that_changes_during_a_run_gives_no_record(fidmap, site, tmp_path):
    file = suite(tmp_path, 'axes.behaviour = ["edits"]')
    assert fidmap("run", file, "--out", "store", site=site).returncode == 1
    (record,) = [parse_record(f.read_bytes()) for f in (tmp_path / "store" / "records").glob("*.json")]
    assert (record.status, record.measures) == ("failed", [])
    assert "source changed" in record.error


def test_tables_show_what_the_source_of_now_gives(fidmap, site, outside, tmp_path):
    """A, then B, then A again, which is stored: A's number is shown; what left the suite is not."""
    file = suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [2, 3]')
    other = FAULTY.replace("parameters.index**2", "parameters.index**3")
    shown = []
    for source in (FAULTY, other, FAULTY):
        result = fidmap("run", file, "--out", "store", site=outside("faulty", source, tasks=TASK))
        shown.append({r.cell.parameters["index"]: r.value("square") for r in Store(tmp_path / "store").records()})
    assert shown == [{2: 4, 3: 9}, {2: 8, 3: 27}, {2: 4, 3: 9}]
    assert "2 stored, 0 to run" in result.stderr
    suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [2]')
    fidmap("run", file, "--out", "store", site=site)
    assert len(Store(tmp_path / "store").records()) == 1


def test_interrupted_by_the_user(fidmap, site, tmp_path):
    file = suite(tmp_path, 'axes.behaviour = ["well"]\naxes.index = [0,1,2,3,4,5,6,7,8,9]\nsettings.seconds = 3.0')
    process = fidmap("run", file, "--out", "store", site=site, background=True)
    while not list((tmp_path / "store" / "records").glob("*.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what had finished is stored" in said
    assert "Traceback" not in said


def test_workers_keep_to_the_block_that_they_are_at(monkeypatch):
    """What a block's cells share is computed once: a worker stays, a second one takes another block, and then helps."""
    from types import SimpleNamespace

    from bench.run.session import choose_cell

    pending = [SimpleNamespace(block=block) for block in (2, 1, 1, 0, 0)]  # the next one is the last
    fresh, first = SimpleNamespace(block=None), SimpleNamespace(block=0)
    assert pending[choose_cell(pending, fresh, [])].block == 0
    assert pending[choose_cell(pending, fresh, [first])].block == 1
    assert pending[choose_cell(pending, first, [])].block == 0
    assert choose_cell(pending[3:], fresh, [first]) == 1  # no other block is left

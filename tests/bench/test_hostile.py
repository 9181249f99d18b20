"""Code and files that mean harm, or are broken: one line and exit code 2, and nothing of it changes a figure."""

import json
import zipfile

import numpy as np
import pytest
import torch

from bench.data.crowds import crowds
from bench.errors import UsageError
from bench.evaluate.sides import read_side
from bench.plan.cells import expand
from bench.plan.suite import Suite
from bench.report.into import write_into
from bench.run.worker import _run_cell
from bench.task import Context
from bench.tasks.boxes.calls import suppress
from bench.tasks.samplers.declarations import OrderParameters, sampler_order
from bench.tasks.trial import find_wrong_return

CODE = """
import sys

def gap(real, generated): return float((real.mean(0) - generated.mean(0)).norm())
def prints(real, generated):
    print("said by the metric")
    return 1.0
def leaves(real, generated): sys.exit(0)
def fails(real, generated): raise RuntimeError("first line\\nsecond")
def overflows(real, generated): return 10**400
def takes_three(real, generated, more): return 1.0
def writes(real, generated):
    real.zero_(), generated.zero_()
    return 1.0

def euler(denoiser, x, times, *, condition=None, noise=None, callback=None):
    for here, there in zip(times[:-1], times[1:]):
        x = x + (there - here) * denoiser(x, here, condition).velocity
    return x
def euler_in_place(denoiser, x, times, *, condition=None, noise=None, callback=None):
    for here, there in zip(times[:-1].clone(), times[1:].clone()):
        x += (there - here) * denoiser(x, here, condition).velocity
    times.zero_()
    return x
def suppress_in_place(boxes, scores, labels, *, iou_threshold, image):
    kept = scores.argsort(descending=True)[:5]
    found = kept, scores[kept], boxes[kept]
    boxes.zero_(), scores.zero_(), labels.zero_()
    return found
def leaves_early(denoiser, x, times, *, condition=None, noise=None, callback=None): sys.exit(0)
def prints_euler(denoiser, x, times, *, condition=None, noise=None, callback=None):
    print("said by the sampler")
    return euler(denoiser, x, times)
class Own(BaseException): pass
def raises_late(denoiser, x, times, *, condition=None, noise=None, callback=None):
    if len(x) > 3: raise Own("first line\\nsecond")
    return x
def interrupts_late(denoiser, x, times, *, condition=None, noise=None, callback=None):
    if len(x) > 3: raise KeyboardInterrupt
    return x
async def waits(denoiser, x, times, *, condition=None, noise=None, callback=None): return x
def writes_boxes(pred, target):
    pred.data.zero_()
    return (pred - target).abs().sum(1)
def leaves_boxes(pred, target): return (pred - target).abs().sum(1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile_code.py").write_text(CODE)
    features = np.random.default_rng(0).normal(size=(2, 60, 4))
    np.save("real.npy", features[0]), np.save("generated.npy", features[1] + 0.5)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaves", "it raised SystemExit: 0"),
        ("fails", "it raised RuntimeError: first line second"),
        ("overflows", "it returned 1000"),
        ("takes_three", "it raised TypeError: takes_three() missing 1 required positional argument: 'more'"),
    ],
)
def test_a_metric_that_raises_is_one_line(folder, command, name, said):
    code, printed, lines = command(
        "evaluate", "images", "real.npy", "generated.npy", "--metrics", f"hostile_code:{name}"
    )
    assert code == 2
    assert not printed
    assert lines.startswith(f"fidmap: hostile_code:{name}: {said}")
    assert lines.count("\n") == 1


def test_a_metric_that_writes_into_its_features_changes_no_other(folder, command):
    def measure(metrics):
        code, printed, said = command(
            "evaluate", "images", "real.npy", "generated.npy", "--resamples", "0", "--metrics", metrics
        )
        assert code == 0, said
        return [line for line in printed.splitlines() if line.startswith(("| fd ", "| hostile_code:gap"))]

    alone = measure("fd,hostile_code:gap")
    assert len(alone) == 2
    assert [line.split("|")[2].strip() for line in measure("hostile_code:writes,fd,hostile_code:gap")] == [
        line.split("|")[2].strip() for line in alone
    ]


def test_a_sampler_that_writes_into_its_start_has_the_order_of_one_that_does_not(folder):
    """The start is also that of the exact flow, and is used for every number of steps."""

    def measure(name):
        return sampler_order.run(OrderParameters(sampler=name, path="vp", steps=[20, 40, 80]), Context())

    one, other = measure("hostile_code:euler"), measure("hostile_code:euler_in_place")
    assert one["order"].value == pytest.approx(1, abs=0.2)  # on a short ladder
    assert other["order"].value == one["order"].value
    assert other["finest_error"] == one["finest_error"]


def test_an_nms_that_writes_into_its_boxes_leaves_the_crowd_as_it_was(folder):
    crowd = crowds(20, 2)
    before = [part.clone() for part in (crowd.boxes, crowd.scores, crowd.labels)]
    suppress("hostile_code:suppress_in_place", crowd, 0.5, {})
    assert all(map(torch.equal, before, (crowd.boxes, crowd.scores, crowd.labels)))


def test_a_sampler_that_ends_python_in_its_trial_call_is_named(folder, command):
    code, _, said = command("run", "quick", "--sampler", "hostile_code:leaves_early")
    assert (code, said) == (2, "fidmap: hostile_code:leaves_early ended Python (SystemExit 0) in a trial call\n")


def test_code_that_ends_python_is_no_success(monkeypatch, capsys):
    from bench import __main__, cli

    def leave(*_, **__):
        raise SystemExit(0)

    monkeypatch.setattr(cli, "app", leave)
    with pytest.raises(SystemExit) as ended:
        __main__.main(["list"])
    assert ended.value.code == 2
    assert "ended Python (SystemExit 0)" in capsys.readouterr().err


def claims(shape):
    """The head of an array file that claims a shape and has no content."""
    return (
        b"\x93NUMPY\x01\x00"
        + np.uint16(118).tobytes()
        + str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode().ljust(117)
        + b"\n"
    )


def test_arrays_that_numpy_cannot_read_are_one_line(tmp_path):
    """NumPy raises MemoryError on a shape that no memory holds, and RuntimeError on an encrypted archive."""
    huge, locked, empty = tmp_path / "huge.npy", tmp_path / "locked.npz", tmp_path / "empty.npy"
    huge.write_bytes(claims((10**7, 10**7)))
    with zipfile.ZipFile(locked, "w") as archive:
        archive.writestr("x.npy", claims((0, 1)))
    content = bytearray(locked.read_bytes())
    content[6] |= 1  # the flag of encryption, in the header of the file and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    np.save(empty, np.zeros((60, 0)))
    for file, reason in ((huge, "cannot be read"), (locked, "encrypted"), (empty, "shape (60, 0)")):
        with pytest.raises(UsageError, match=file.name) as error:
            read_side(str(file))
        assert reason in str(error.value)


def test_a_link_to_itself_is_no_file_for_a_table(tmp_path):
    link = tmp_path / "loop.md"
    link.symlink_to(link)
    with pytest.raises(UsageError, match=r"loop\.md: cannot be read"):
        write_into(link, {"samplers": "table"})


@pytest.mark.parametrize(
    ("name", "said"), [("raises_late", "Own: first line second"), ("interrupts_late", "KeyboardInterrupt: ")]
)
def test_whatever_code_raises_in_a_worker_is_named_in_the_record(folder, name, said):
    """Also what is no Exception: the worker would die with an exit code that says nothing."""

    class Untouched:
        def require(self, *_):
            pass

        def restore(self, *_):
            pass

    suite = Suite.model_validate(
        {"name": "s", "block": [{"task": "sampler_order", "settings": {"sampler": f"hostile_code:{name}"}}]}
    )
    (cell,) = expand(suite)
    outcome = _run_cell(cell, False, Untouched(), Untouched())
    assert outcome.status == "failed"
    assert outcome.error.startswith(said)
    assert "hostile_code.py" in outcome.error


def test_a_loss_that_writes_into_its_boxes_is_refused(folder):
    """It would change the boxes that a regression goes on with; a copy would count in its time."""
    assert find_wrong_return("losses", "hostile_code:leaves_boxes") is None
    said = find_wrong_return("losses", "hostile_code:writes_boxes")
    assert said == "hostile_code:writes_boxes writes into its boxes; a loss that leaves them as they are is accepted"


def test_an_async_function_is_one_line(folder, fidmap):
    found = fidmap("run", "quick", "--sampler", "hostile_code:waits", "--dry-run")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert "hostile_code:waits: the sampler returned coroutine" in found.stderr


@pytest.mark.parametrize("how", [["--check", "order"], ["--like", "euler"]], ids=" ".join)
def test_what_a_sampler_prints_is_not_in_the_json_of_its_audit(folder, command, how):
    code, printed, said = command("audit", "--sampler", "hostile_code:prints_euler", *how, "--json")
    assert {one["sampler"] for one in json.loads(printed)} == {"hostile_code:prints_euler"}, (code, said)
    assert "said by the sampler" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "quick", "--only", ""], "--only is empty"),
        (["run", "quick", "--only="], "--only is empty"),
        (["run", "quick", "--out", ""], "--out is empty"),
        (["run", ""], "the argument after 'run' is empty"),
        (["import", "real.npy", "--out", ""], "--out is empty"),
        (["evaluate", "images", "real.npy", "generated.npy", "--extractor", ""], "--extractor is empty"),
        (["evaluate", "images", "real.npy", "generated.npy", "--record", ""], "--record is empty"),
        (["evaluate", "images", "real.npy", ""], "the argument after 'real.npy' is empty"),
        (["table", "samplers", "--rank", "--into", ""], "--into is empty"),
        (["audit", "--sampler", ""], "--sampler is empty"),
    ],
    ids=" ".join,
)
def test_an_empty_text_is_one_line_and_not_the_working_folder(folder, command, arguments, says):
    before = sorted(folder.iterdir())
    code, printed, said = command(*arguments)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert says in said
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("like", "says"),
    [
        ("ddim(", "closing bracket"),
        ("ddim(eta=1", "closing bracket"),
        ("ddim(eta=nan)", "eta must be a number"),
        ("ddim(eta=__import__('os'))", "eta must be a number"),
    ],
)
def test_options_that_a_named_sampler_does_not_take_are_one_line(folder, command, like, says):
    code, printed, said = command("audit", "ddim", "--like", like)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert says in said


def test_a_dry_run_counts_what_runs_and_what_is_skipped(folder, command):
    _, printed, said = command("run", "quick", "--sampler", "hostile_code:euler", "--only", "*_code*", "--dry-run")
    states = [line.split()[0] for line in printed.splitlines()]
    assert set(states) == {"run", "skip"}
    assert said == f"{len(states)} cells, {states.count('run')} to run, {states.count('skip')} skipped\n"


def test_a_damaged_exported_program_is_one_line(folder, fidmap):
    (folder / "network.pt2").write_bytes(b"PK\x03\x04 damaged")
    found = fidmap("evaluate", "images", "fashion_mnist", "fashion_mnist", "--extractor", "network.pt2")
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "network.pt2 is no program of torch.export" in found.stderr


def test_what_a_metric_prints_is_not_in_the_json(folder, command):
    code, printed, said = command(
        "evaluate", "images", "real.npy", "generated.npy", "--metrics", "hostile_code:prints", "--json"
    )
    assert code == 0, said
    assert json.loads(printed)["figures"]
    assert "said by the metric" in said

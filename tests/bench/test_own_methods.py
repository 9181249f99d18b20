"""Methods of the user's by options of ``fidmap run``: what joins a suite, what is returned, what is refused."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.plan.cells import expand, participation
from bench.plan.own_task import join_task, parse_setting
from bench.plan.suite import find, read
from bench.records.guests import describe, find_earlier
from bench.records.store import Store
from bench.task import Context
from bench.tasks.metrics.declarations import BiasParameters, ResponseParameters, metric_bias, metric_response

TASK = """
import json
from pathlib import Path

from bench.task import Context, Measure, SamplerName, TaskParameters, task

OPENS = ("own_scale.json",)


class Parameters(TaskParameters):
    sampler: SamplerName
    steps: int = 4
    levels: list[float] = [1.0]


@task(entry="sampler", catalogue="samplers", measures=[Measure("length", "letters of the name, scaled")])
def name_length(parameters: Parameters, context: Context):
    scale = json.loads(Path(__file__).with_name("own_scale.json").read_text())
    return {"length": len(parameters.sampler) * parameters.steps * scale}
"""
METHODS = """
import torch
from safetensors.torch import save_file
from torch import nan

def gap(real, generated):
    return (real.mean(0) - generated.mean(0)).norm()

class Levels:
    init_noise_sigma = 1.0
    def set_timesteps(self, steps):
        self.sigmas, self.timesteps = torch.linspace(3, 0, steps + 1), torch.arange(steps)
    def step(self, output, timestep, sample): return "next"

def sampler(returned): return lambda denoiser, x, times, *, noise=None: returned(x)
def loss(returned): return lambda pred, target: returned(pred)
def nms(returned): return lambda boxes, scores, labels, *, iou_threshold, image: returned(boxes, scores)
def metric(returned): return lambda real, generated: returned(real)
"""
ROWS = "floats of shape (4,), one loss per row, are accepted"
PARTS = "a tuple of indices (k,) of integers, scores (k,) and boxes (k, 4) of floats is accepted"
NUMBER = "a number, a tensor of one, or a named tuple with `value` (and `low` and `high`, its interval) is accepted"
RETURNS = [  # option, what it returns, what is said of it
    ("sampler", "lambda x: None", "the sampler returned None; floats of the start's shape, (3, 4), are accepted"),
    ("sampler", "lambda x: (x, 1)", "returned tuple of torch.float32 of shape (3, 4), int; floats of the start's"),
    ("sampler", "lambda x: x[0]", "the sampler returned torch.float32 of shape (4,); floats of the start's shape"),
    ("sampler", "lambda x: x.long()", "the sampler returned torch.int64 of shape (3, 4); floats"),
    ("sampler", "lambda x: x * nan", "the sampler returned NaN alone"),
    ("loss", "lambda pred: None", f"own:it returned None for 4 boxes; {ROWS}"),
    ("loss", "lambda pred: pred.mean()", f"own:it returned torch.float32 of shape () for 4 boxes; {ROWS}"),
    ("loss", "lambda pred: pred.detach().sum(1)", "own:it returned a loss without a gradient; one that autograd"),
    ("loss", "lambda pred: pred.sum(1) * nan", "own:it returned [nan, nan, nan, nan] for four ordinary pairs; finite"),
    ("nms", "lambda boxes, scores: boxes", f"own:it returned torch.float32 of shape (40, 4); {PARTS}"),
    ("nms", "lambda boxes, scores: (scores, scores, boxes)", PARTS),
    ("nms", "lambda boxes, scores: (torch.arange(3), scores[:3])", PARTS),
    ("nms", "lambda boxes, scores: (torch.arange(40) + 1, scores, boxes)", "returned indices twice or beyond 39"),
    ("nms", "lambda boxes, scores: (torch.arange(40), scores * nan, boxes)", "returned scores that are not finite"),
    ("metric", "lambda real: None", f"own:it: it returned None; {NUMBER}"),
    ("metric", "lambda real: real.mean(0)", f"own:it: it returned torch.float64 of shape (8,); {NUMBER}"),
    ("metric", "lambda real: 'high'", f"own:it: it returned str; {NUMBER}"),
    ("metric", "lambda real: nan", "own:it: it returned nan; a finite number is accepted"),
]
SUITES = {"sampler": "quick", "loss": "iou", "nms": "nms", "metric": "metrics"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the user's with a task, its file, and functions."""
    files = {"own_task.py": TASK, "own_scale.json": "2", "own_methods.py": METHODS}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("own_task", "own_methods", "own"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.unchecked
@pytest.mark.parametrize(("option", "returned", "says"), RETURNS)
def test_a_wrong_return_is_one_line_that_says_what_came_and_what_is_accepted(option, returned, says, folder, command):
    (folder / "own.py").write_text(f"import torch\nfrom own_methods import *\nit = {option}({returned})\n")
    code, printed, said = command("run", SUITES[option], f"--{option}", "own:it", "--dry-run")
    assert (code, printed, said.count("\n")) == (2, "", 1), said
    assert says in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scheduler", "own_methods:Levels"], ["step of Levels returned str", "as .prev_sample"]),
        (["--scheduler", "own_methods:gap"], ["own_methods:gap", "no scheduler", "set_timesteps(steps)"]),
        (["--metric", "gap"], ["--metric 'gap'", "MODULE:FUNCTION"]),
        (["--metric", "own_methods:nothing"], ["--metric", "own_methods:nothing"]),
        (["--metric", "math:pi"], ["math:pi", "no function"]),
        (["--metric", "own_methods:gap"], ["quick.toml has no axis of metrics"]),
        (["--task", "name_length"], ["--task 'name_length'", "MODULE:NAME"]),
        (["--task", "own_task:Parameters"], ["own_task:Parameters", "a task made with bench.task.task is accepted"]),
        (["--task", "own_task:nothing"], ["own_task:nothing"]),
        (["--settings", "steps=1"], ["--settings", "--task"]),
        (["--task", "own_task:name_length", "--settings", "steps"], ["--settings 'steps'", "KEY=VALUE"]),
        (["--task", "own_task:name_length", "--settings", "step=1"],
         ["step: no such key; did you mean steps? there are sampler, steps, levels"]),
        (["--task", "own_task:name_length", "--settings", "steps=many"], ["--settings steps", "integer", "'many'"]),
        (["--task", "own_task:name_length", "--settings", "sampler=heum"], ["--settings sampler", "mean heun"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_input_of_each_option_is_one_line_and_nothing_is_written(arguments, says, folder, command):
    before = sorted(file.name for file in folder.iterdir() if file.suffix)
    code, printed, said = command("run", "quick", *arguments, "--out", "store")
    assert (code, printed, said.count("\n")) == (2, "", 1), said
    assert all(word in said for word in says), said
    assert sorted(file.name for file in folder.iterdir() if file.suffix) == before
    assert not (folder / "store").exists()


def test_a_file_names_code_only_where_the_command_line_does(folder, command):
    text = 'name = "mine"\n[[block]]\ntask = "own_task:name_length"\naxes.sampler = ["own_methods:gap", "heun"]\n'
    (folder / "mine.toml").write_text(text)
    task, sampler = ("--task", "own_task:name_length"), ("--sampler", "own_methods:gap")
    for granted, says in (((), "by --task own_task:name_length"), (task, "'own_methods:gap' names code")):
        code, _, said = command("run", "mine.toml", *granted, "--dry-run")
        assert (code, said.count("\n")) == (2, 1)
        assert says in said
    code, printed, _ = command("run", "mine.toml", *task, *sampler, "--dry-run")
    assert code == 0
    assert printed.split() == ["run", "own_task:name_length/own_methods:gap", "run", "own_task:name_length/heun"]


def test_a_task_joins_a_suite_with_its_entries_and_one_that_names_it_as_it_says(folder):
    quick = read(find("quick"))
    joined = join_task(quick, "own_task:name_length", ["steps=[2, 3]", "levels=[0.5, 1]"])
    assert joined.block[:-1] == quick.block
    cells = [cell for cell in expand(joined) if cell.identity.task == "own_task:name_length"]
    found = [(cell.identity.entry, cell.identity.parameters["steps"]) for cell in cells]
    assert sorted(found) == sorted((s, n) for s in ("euler", "heun", "ddim", "ddpm", "dpmpp_2m") for n in (2, 3))
    assert {tuple(cell.identity.parameters["levels"]) for cell in cells} == {(0.5, 1.0)}
    assert participation(cells, "own_task:name_length") == (10, "own_task:name_length: in 10 cells")
    named = quick.model_copy(update={"block": [joined.block[-1]]})
    (block,) = join_task(named, "own_task:name_length", ["steps=7", 'sampler=["heun"]']).block
    assert (block.settings, block.axes) == ({"levels": [0.5, 1], "steps": 7}, {"sampler": ["heun"]})


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a=1", ("a", 1)), ("a = true", ("a", True)), ("a=[1, 2]", ("a", [1, 2])), ("a=heun", ("a", "heun")),
        ('a="1"', ("a", "1")), ("a=b=c", ("a", "b=c")), ("a=", ("a", "")), ("a={ b = 1 }", ("a", {"b": 1})),
        ("a=1\nb=2", ("a", "1\nb=2")),
    ],
)  # fmt: skip
def test_settings_are_written_as_in_toml_or_are_texts(text, pair):
    assert parse_setting(text) == pair


def test_a_task_of_one_s_own_runs_and_its_files_belong_to_its_hash(fidmap, folder):
    run = (
        "run",
        "quick",
        "--task",
        "own_task:name_length",
        "--settings",
        "steps=3",
        "--only",
        "own_task*",
        "--out",
        "s",
    )
    result = fidmap(*run)
    assert result.returncode == 0, result.stderr
    assert "own_task:name_length: in 5 cells" in result.stderr
    stored = {record.cell.entry: record.value("length") for record in Store(folder / "s").records()}
    assert stored == {name: len(name) * 6 for name in ("euler", "heun", "ddim", "ddpm", "dpmpp_2m")}
    assert " 0 to run" in fidmap(*run, "--dry-run").stderr
    (folder / "own_scale.json").write_text("5")
    assert " 5 to run" in fidmap(*run, "--dry-run").stderr
    later = expand(read(find("quick")))  # without the task, which goes on being shown
    kept = find_earlier(Store(folder / "s"), "quick", later)
    assert {record.cell.task for record in kept} == {"own_task:name_length"}
    assert [line.partition(", measured")[0] for line in describe(kept)] == [
        "own_task:name_length: 5 cells of an earlier run are still shown"
    ]


def test_a_metric_of_one_s_own_joins_the_suite_of_metrics(fidmap, folder):
    """In each of its blocks of metrics one by one, and it sees a strong fault."""
    cells = expand(read(find("metrics")), guests={"metrics": ["own_methods:gap"]})
    own = [cell for cell in cells if cell.identity.entry == "own_methods:gap"]
    assert {cell.identity.task for cell in own} == {"metric_bias", "metric_response"}
    assert not any(cell.skip for cell in own)
    only = ("--only", "metric_response/own_methods:gap/disturbance=noise,level=1.0", "--out", "s")
    result = fidmap("run", "metrics", "--metric", "own_methods:gap", *only)
    assert result.returncode == 0, result.stderr
    assert "own_methods:gap: in 1 cells" in result.stderr
    (record,) = Store(folder / "s").records()
    assert record.value("value") > 1


def test_a_metric_of_one_s_own_is_the_function_on_the_same_features(folder):
    parameters = {"disturbance": "noise", "level": 0.5, "n": 100}
    values = {
        name: metric_response.run(ResponseParameters(metric=name, **parameters), Context(3))["value"].value
        for name in ("energy", "own_same:energy", "own_same:named")
    }
    assert len(set(values.values())) == 1
    bias = [metric_bias.run(BiasParameters(figure=name, n=100, draws=2), Context())["value"].value
            for name in ("energy_fmnist", "energy", "own_same:energy")]  # fmt: skip
    assert len(set(bias)) == 1
    with pytest.raises(ValueError, match="is of features of clip; a metric of any images' features"):
        BiasParameters(figure="cmmd")
    with pytest.raises(ValueError, match="no metric named 'energie'; did you mean energy"):
        ResponseParameters(metric="energie", disturbance="blur")


@pytest.fixture(autouse=True)
def _same(tmp_path, monkeypatch):
    """A user's module with fidmap's energy distance, as it is and as a named tuple with an interval."""
    text = "from collections import namedtuple\nfrom metrics import energy_distance as energy\n"
    text += "Found = namedtuple('Found', 'value low high')\n"
    text += "def named(real, generated):\n    return Found(energy(real, generated).value, 0.0, 1.0)\n"
    (tmp_path / "own_same.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_same", raising=False)
    importlib.invalidate_caches()


def test_evaluate_images_takes_a_metric_of_one_s_own(folder, command):
    generator = np.random.default_rng(0)
    sides = [generator.standard_normal((60, 4)) + shift for shift in (0, 1)]
    for name, side in zip("xy", sides, strict=True):
        save_file({"features": torch.from_numpy(side)}, folder / f"{name}.safetensors")
    (folder / "own.py").write_text("from own_methods import gap\ngap.better, gap.low = 'higher', 0.0\n")
    files = ("x.safetensors", "y.safetensors")
    code, printed, said = command("evaluate", "images", *files, "--metrics", "kid,own:gap", "--json")
    assert code == 0, said
    figure = json.loads(printed)["figures"][1]
    assert figure["value"] == pytest.approx(np.linalg.norm(sides[0].mean(0) - sides[1].mean(0)), rel=1e-12)
    assert (figure["name"], figure["better"], figure["against_floor"]) == ("own:gap", "higher", "above the floor")
    code, printed, said = command("evaluate", "images", *files, "--metrics", "own:nothing")
    assert (code, said.count("\n")) == (2, 1)
    assert "cannot load 'own:nothing'" in said

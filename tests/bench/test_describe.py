"""``fidmap describe``: every name is described, every task's block runs as it is printed, and torch is not needed."""

import inspect
import json
from importlib import metadata

import pytest

from bench.catalogue import TASKS, kinds
from bench.describe import describe
from bench.errors import UsageError
from bench.plan.cells import expand
from bench.plan.signature import read_signature
from bench.plan.suite import read
from implementations.catalogue import CATALOGUES


def test_every_name_is_described_within_the_width():
    for kind, catalogue in kinds().items():
        for name in catalogue:
            found = {one.kind: one for one in describe(name)}[kind]
            assert found.summary or found.docstring, (kind, name)
            for line in found.text(100).splitlines():
                assert len(line) <= 120, (kind, name, line)  # docstrings and examples are as they are written


@pytest.mark.parametrize("task", TASKS)
def test_the_block_of_a_task_is_a_suite(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if task == "model_quality":  # whose example is a folder
        diffusers = pytest.importorskip("diffusers")
        tiny = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1,
                "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}  # fmt: skip
        diffusers.UNet2DModel(**tiny).save_pretrained("mymodel/unet")
        diffusers.DDPMScheduler().save_pretrained("mymodel/scheduler")
    block = {one.kind: one for one in describe(task)}["tasks"].example
    (tmp_path / "mine.toml").write_text(f'name = "mine"\n{block}\n')
    assert {cell.identity.task for cell in expand(read(tmp_path / "mine.toml"))} == {task}


def test_settings_and_measures_are_those_of_the_task():
    for name, entry in TASKS.items():
        task, found = entry.resolve(), {one.kind: one for one in describe(name)}["tasks"]
        assert [one.name for one in found.settings] == list(task.parameters.model_fields)
        assert [one.name for one in found.measures] == list(task.measures)
        assert found.docstring.partition("\n")[0] == (task.resolve().__doc__ or "").partition("\n")[0]


@pytest.mark.parametrize("kind", ["samplers", "schedules", "losses", "nms"])
def test_options_are_those_of_the_function(kind):
    for name, entry in CATALOGUES[kind].items():
        known = read_signature(entry.target)
        if known is None:
            assert entry.package, name  # only what is made of another library's is not read
            continue
        parameters = inspect.signature(entry.resolve()).parameters.values()
        own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        contract = {"condition", "noise", "generator", "callback", "validate", "image", "iou_threshold"}
        assert {one.name for one in known.options} - contract == own - contract, name


def test_json_and_an_unknown_name(fidmap):
    found = json.loads(fidmap("describe", "ciou", "--json").stdout)
    assert found[0]["kind"] == "losses"
    assert {one["name"] for one in found[0]["settings"]} == {"alpha", "aspect", "gradient"}
    wrong = fidmap("describe", "dpmpp_2n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "dpmpp_2m" in wrong.stderr
    with pytest.raises(UsageError, match="see fidmap list"):
        describe("zzzzzzzzzz")


def test_the_version_is_the_installed_one(fidmap):
    result = fidmap("--version")
    assert (result.returncode, result.stdout.split()) == (0, ["fidmap", metadata.version("fidmap")])


@pytest.mark.parametrize(
    ("name", "kind", "stands_for"),
    [
        ("DPM++ 2M SDE Karras", "samplers", "dpmpp_2m_sde on karras"),
        ("comfyui:dpmpp_2m_sde_heun", "samplers", "dpmpp_2m_sde(solver_type=heun)"),
        ("comfyui:sgm_uniform", "schedules", "sgm_uniform"),
    ],
)
def test_a_name_of_another_program_is_described_by_what_it_stands_for(name, kind, stands_for):
    (found,) = (one for one in describe(name) if one.kind == kind)
    assert found.facts["stands for"] == stands_for
    assert found.docstring


def test_a_name_that_cannot_be_run_says_why():
    (found,) = describe("diffusers:VQDiffusionScheduler")
    assert "tokens" in found.facts["cannot be run"]


def test_facts_are_fields_of_the_entry_and_not_its_methods():
    (heun,) = describe("heun")
    assert "evaluations" not in heun.facts
    (clipped,) = describe("dynamic_threshold")
    assert clipped.facts["evaluations"] == "1"

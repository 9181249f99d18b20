"""Names of other programs at the command: they are listed, audited and take part in a suite of one's own."""

import json

import pytest

from bench.plan.blocks import find_entries
from implementations.catalogue import SAMPLERS

SUITE = """
name = "named"
title = "one sampler by another program's name"
seeds = [0]

[[block]]
task = "sampler_error"
settings = {{ oracle = "gaussian", nfe = 5, schedule = "comfyui:karras" }}
axes.sampler = ["dpmpp_2m_sde", "{name}"]
"""


def test_names_of_a_program_are_listed(fidmap):
    listed = fidmap("list", "samplers", "--names", "comfyui")
    assert listed.returncode == 0
    rows = listed.stdout.splitlines()
    assert rows[0] == "samplers of comfyui (44)"
    assert any(row.split() == ["dpmpp_2m_sde_heun", "dpmpp_2m_sde(solver_type=heun)"] for row in rows)
    assert any(row.split() == ["euler_cfg_pp", "euler", "with", "cfg_plus_plus"] for row in rows)
    both = json.loads(fidmap("list", "--names", "forge", "--json").stdout)
    assert {row["name"]: row["entry"] for row in both["schedules"]}["Align Your Steps GITS"] == "align_your_steps_gits"
    assert {row["name"]: row["options"] for row in both["samplers"]}["DPM++ 2M SDE Heun"] == {"solver_type": "heun"}


def test_a_sampler_is_audited_by_another_program_s_name(fidmap):
    audited = fidmap("audit", "DPM++ 2M Karras", "comfyui:uni_pc", "--check", "cost")
    assert audited.returncode == 0, audited.stderr
    assert audited.stdout.startswith("DPM++ 2M Karras\n  pass  cost")
    assert "comfyui:uni_pc(order=3)" in audited.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("audit", "diffusers:VQDiffusionScheduler"), "sampler 'diffusers:VQDiffusionScheduler' cannot be run: "),
        (("audit", "comfyui:eulr"), "no sampler of comfyui named 'eulr'; did you mean euler"),
        (("audit", "Euler b"), "no sampler named 'Euler b'; did you mean"),
        (("list", "--names", "invoke"), "no program named 'invoke'; there are comfyui, automatic1111, diffusers, "),
        (("list", "losses", "--names", "comfyui"), "--names comfyui is of samplers and schedules, given 'losses'"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line(fidmap, arguments, says):
    ended = fidmap(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"fidmap: {says}")
    assert len(ended.stderr.splitlines()) == 1


def test_a_suite_takes_a_name_with_its_program(fidmap, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE.format(name="comfyui:dpmpp_2m_sde_heun"))
    plan = fidmap("run", "mine.toml", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "2 cells, 2 to run" in plan.stderr
    assert "comfyui:dpmpp_2m_sde_heun" in plan.stdout
    (entry,) = find_entries({"sampler": "comfyui:dpmpp_2m_sde_heun"})  # whose source is in the cell's hash
    assert entry.target == SAMPLERS["dpmpp_2m_sde"].target
    assert entry.preset == {"solver_type": "heun"}

    for name, says in (
        ("Euler a", "'Euler a' is another program's name: write it with the program, as in comfyui:Euler a"),
        ("diffusers:VQDiffusionScheduler", "cannot be run: "),
        ("forge:DPM++ 2M Karras", "is dpmpp_2m on karras: name the sampler and the schedule apart"),
    ):
        (tmp_path / "mine.toml").write_text(SUITE.format(name=name))
        refused = fidmap("run", "mine.toml", "--dry-run")
        assert refused.returncode == 2
        assert says in refused.stderr

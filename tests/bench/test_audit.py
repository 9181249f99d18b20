"""The audit: each fault is found by the check that is meant for it, each script shows it, and peers' known defects."""

import contextlib
import importlib
import io
import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.audit import CHECKS, Subject, audit, of_function, subjects
from bench.task import Context
from bench.tasks.sampler_audit import Parameters, sampler_audit
from implementations.diffusion import RectifiedFlow
from implementations.samplers import SAMPLERS
from tests.bench import faulty_samplers

ROOT = Path(__file__).parent.parent.parent
FAULTS = {
    "sound": set(),
    "sound_heun": set(),
    "wrong_weights": {"order"},
    "euler_in_t": {"equivariance"},
    "off_by_one": {"conditioning"},
    "adds_too_little": {"conditioning", "order"},  # a variance that is wrong for every number of steps
    "leaves_noise": {"end"},
    "stands_still": {"idle"},
    "asks_once_more": {"cost"},
    "shares_a_mean": {"batch"},
    "rounds_to_float32": {"precision"},
    "rounds_to_float16": {"precision", "order"},  # a half has eleven bits: an error of 1e-2 is as far as it comes
    "draws_in_secret": {"determinism"},
    "fails_in_one_step": {"few_steps"},
}


def failed(subject, checks=tuple(CHECKS)):
    return {one.check: one for one in audit(subject, checks) if one.verdict == "fail"}


def peer(name, **options):
    return Subject(SAMPLERS[name].loaded(), options)


def printed(script):
    """The last line that a script prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(script, "reproducer", "exec"), {})
    return out.getvalue().splitlines()[-1]


@pytest.mark.unchecked
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_the_check_that_is_meant_for_it_and_shown_by_its_script(name):
    found = failed(of_function(getattr(faulty_samplers, name)))
    assert set(found) == FAULTS[name]
    for check, one in found.items():
        shown = printed(one.reproducer)
        if check in ("order", "equivariance", "conditioning", "end", "batch", "precision"):
            # what rounding leaves is itself a figure of a few digits
            assert float(shown) == pytest.approx(one.figure, rel=1e-2 if check == "precision" else 1e-6)
        else:  # counts, or what differs between any two calls
            assert shown


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "ddpm", "dpmpp_2m"])
def test_our_own_are_right(name):
    assert not failed(next(subjects(name)))


def test_every_check_says_what_is_not_applicable():
    (found,) = audit(next(s for s in subjects("euler") if s.options == {"coordinate": "t"}), ["equivariance"])
    assert (found.verdict, found.says) == ("not applicable", "it integrates in t, in which paths differ")


@pytest.mark.unchecked
def test_a_state_that_is_inexact_by_the_solver_s_own_error_is_no_wrong_level():
    """In the angle no step is exact, even where data and noise are told."""
    (found,) = audit(next(s for s in subjects("euler") if s.options == {"coordinate": "angle"}), ["conditioning"])
    assert found.verdict == "pass"


@pytest.mark.unchecked
def test_states_of_other_functions_are_stated_in_the_call():
    def half(denoiser, x, times):
        return faulty_samplers.sound(denoiser, x, times)

    assert failed(of_function(half, order=2), ["order"])
    assert not failed(of_function(half, order=1), ["order"])
    with pytest.raises(TypeError, match="ordr"):
        of_function(half, ordr=1)


# peers, from measurements alone


@pytest.mark.unchecked
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_s_spacings_that_take_the_previous_timestep_from_another_grid(spacing):
    """diffusers#12633, #11347, #9261."""
    found = failed(peer("diffusers_ddim", mode="shipped", timestep_spacing=spacing), ["order", "conditioning"])
    assert found["order"].figure < 0.3
    assert found["conditioning"].figure > 0.3
    assert float(printed(found["order"].reproducer)) == pytest.approx(found["order"].figure, rel=1e-6)
    assert not failed(peer("diffusers_ddim", mode="shipped", timestep_spacing="leading"), ["order", "conditioning"])


@pytest.mark.unchecked
def test_the_noise_of_a_final_sigma_that_is_not_zero():
    """diffusers#5689: on Stable Diffusion's table it is that of timestep 0."""
    found = failed(peer("diffusers_dpmpp_2m", mode="shipped", final_sigmas_type="sigma_min"), ["end"])
    assert found["end"].figure == pytest.approx(math.sqrt(0.00085), rel=1e-3)
    assert not failed(peer("diffusers_dpmpp_2m", mode="shipped"), ["end"])


@pytest.mark.unchecked
def test_timesteps_that_are_rounded_under_karras_sigmas():
    """A timestep near the clean end is 4 to 40 % of a level from the next."""
    found = failed(peer("diffusers_dpmpp_2m", mode="shipped", use_karras_sigmas=True), ["conditioning"])
    assert found["conditioning"].figure > 0.04
    assert float(printed(found["conditioning"].reproducer)) == pytest.approx(found["conditioning"].figure, rel=1e-6)
    assert not failed(peer("diffusers_dpmpp_2m"))


@pytest.mark.unchecked
def test_a_last_karras_sigma_that_is_repeated():
    """diffusers#6477."""
    settings = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}
    assert failed(peer("diffusers_dpmpp_2m", mode="shipped", **settings), ["idle"])["idle"].figure == 1


@pytest.mark.unchecked
def test_a_start_that_depends_on_the_number_of_steps():
    """diffusers#13868."""
    found = failed(peer("diffusers_unipc_bh2", mode="shipped", timestep_spacing="leading"), ["start"])
    assert found["start"].figure > 0.1
    assert not failed(peer("diffusers_unipc_bh2", mode="shipped"), ["start"])


@pytest.mark.unchecked
def test_k_diffusion_s_adaptive_solver_depends_on_the_batch():
    assert set(failed(peer("k_diffusion_dpm_adaptive"))) == {"batch"}


@pytest.mark.unchecked
def test_a_third_order_whose_second_difference_has_half_its_weight():
    """DPM-Solver++(3M) of diffusers is of order 2; ours, with the whole weight, of order 3."""
    assert failed(peer("diffusers_dpmpp_3m"), ["order"])["order"].figure < 2.1
    assert not failed(next(subjects("dpmpp_3m")), ["order"])


@pytest.mark.unchecked
def test_a_last_step_that_divides_infinity():
    """UniPC's bh1 divides by a step of the log-SNR, which is infinite to sigma = 0; k-diffusion's 2M-SDE has no h."""
    assert "not finite" in failed(peer("diffusers_unipc_bh1"), ["end"])["end"].says
    assert "'h'" in failed(peer("k_diffusion_dpmpp_2m_sde"), ["few_steps"])["few_steps"].says


# the command and the plugin


@pytest.fixture
def command(capsys, monkeypatch):
    """``fidmap audit`` in this process, with this folder's modules within reach: its exit code and what it prints."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["audit", *arguments])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["ddim", "--check", "end"], 0, "2 audited: 2 pass, 0 fail"),
        (
            ["--sampler", "faulty_samplers:leaves_noise", "--check", "end"],
            1,
            "wrong  faulty_samplers:leaves_noise: end",
        ),
        (["ddmi"], 2, "did you mean"),
        (["--sampler", "ddim"], 2, "MODULE:FUNCTION"),
        (["--peer", "ldm"], 2, "diffusers or k_diffusion"),
        (["ddim", "--check", "speed"], 2, "determinism"),
    ],
)
def test_exit_codes(command, arguments, code, says):
    ended, _, told = command(*arguments)
    assert ended == code
    assert says in told


@pytest.mark.unchecked
def test_json(command):
    ended, printed_, _ = command("--sampler", "faulty_samplers:leaves_noise", "--json")
    found = {one["check"]: one for one in json.loads(printed_)}
    assert ended == 1
    assert set(found) == set(CHECKS)
    assert found["end"]["verdict"] == "fail"
    assert float(printed(found["end"]["reproducer"])) == pytest.approx(found["end"]["figure"], rel=1e-9)


@pytest.fixture
def foreign(tmp_path):
    """Runs pytest in another repository, which finds the plugin as that of an installed fidmap."""
    (tmp_path / "faulty_samplers.py").write_text((Path(__file__).parent / "faulty_samplers.py").read_text())

    def run(test, *arguments):
        (tmp_path / "test_theirs.py").write_text(test)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return run


def test_the_plugin_does_nothing_unless_it_is_asked(foreign):
    result = foreign(
        "import sys\n"
        "def test_light():\n"
        "    assert not {'torch', 'implementations', 'metrics', 'bench.audit', 'bench.cli'} & set(sys.modules)\n"
    )
    assert "1 passed" in result.stdout, result.stdout
    point = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["fidmap"]
    assert importlib.import_module(point).pytest_addoption


def test_the_plugin_collects_an_item_a_check(foreign):
    given = ("--fidmap-sampler", "faulty_samplers:leaves_noise")
    result = foreign("def test_theirs(): pass\n", *given)
    assert f"1 failed, {len(CHECKS)} passed" in result.stdout, result.stdout
    assert "noise is left at the end" in result.stdout
    assert "SAMPLERS['faulty_samplers:leaves_noise']" in result.stdout
    chosen = foreign("def test_theirs(): pass\n", *given, "-k", "idle or cost")
    assert f"2 passed, {len(CHECKS) - 1} deselected" in chosen.stdout, chosen.stdout
    wrong = foreign("", "--fidmap-sampler", "faulty_samplers:nothing")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "faulty_samplers:nothing" in wrong.stderr


def test_the_plugin_s_fixture_audits_a_function(foreign):
    result = foreign(
        "from faulty_samplers import sound\n"
        "def test_right(fidmap_audit):\n"
        "    assert [one.check for one in fidmap_audit(sound, checks=['order', 'end'])] == ['order', 'end']\n"
        "def test_wrong(fidmap_audit):\n"
        "    fidmap_audit(sound, order=2, checks=['order'])\n"
    )
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "at least 1.9" in result.stdout


# the task


@pytest.mark.unchecked
def test_measures_are_verdicts_and_the_figure_of_what_fails():
    right = sampler_audit.run(Parameters(sampler="ddim", variants=True), Context())
    assert {name: right[name].value for name in CHECKS if name in right} == dict.fromkeys(CHECKS, 1.0)
    assert right["order"].n == 2  # without noise and with
    assert right["order_figure"].value == pytest.approx(0.96, abs=0.02)  # the lower of the two
    wrong = sampler_audit.run(Parameters(sampler="tests.bench.faulty_samplers:leaves_noise"), Context())
    assert (wrong["end"].value, wrong["failures"]) == (0.0, 1.0)
    assert wrong["end_figure"].value == pytest.approx(0.02)
    in_t = sampler_audit.run(Parameters(sampler="euler", options={"coordinate": "t"}), Context())
    assert not {"equivariance", "equivariance_figure"} & set(in_t)


# the probes


def test_what_is_told_is_carried_exactly():
    """x' = alpha' 1 + sigma' 0 and alpha' 0 + sigma' 1: the state reads the level that it is at."""
    from bench.audit.probe import Told, Witness

    path = RectifiedFlow()
    told = Witness(Told(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])))
    times = torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=torch.float64)
    last = SAMPLERS["heun"](told, torch.tensor([[0.1, 0.9]], dtype=torch.float64), times)
    for one in told.evaluations:
        assert one.x[0].tolist() == pytest.approx([1 - one.t, one.t], abs=1e-15)
    assert last[0].tolist() == [1.0, 0.0]

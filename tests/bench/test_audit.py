"""The audit: each fault is found by the check that is meant for it, each script shows it, and peers' known defects."""

import contextlib
import importlib
import io
import itertools
import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.audit import CHECKS, Subject, audit, of_function, subjects
from bench.audit.finding import NotApplicable, Undecided
from bench.audit.slope import slope
from bench.task import Context
from bench.tasks.samplers import declarations
from bench.tasks.samplers.declarations import AuditParameters as Parameters
from bench.tasks.samplers.declarations import sampler_audit
from implementations.diffusion import RectifiedFlow
from implementations.samplers import SAMPLERS
from tests.bench import faulty_samplers

ROOT = Path(__file__).parent.parent.parent
FAULTS = {
    "sound": set(),
    "sound_heun": set(),
    "sound_two_steps": set(),
    "sound_three_steps": set(),
    "sound_ancestral": set(),
    "wrong_weights": {"order", "defect"},
    "euler_in_t": {"equivariance"},
    "off_by_one": {"conditioning", "defect"},
    "adds_too_little": {"conditioning", "order"},  # a variance that is wrong for every number of steps
    "leaves_noise": {"end"},
    "stands_still": {"idle"},
    "asks_once_more": {"cost"},
    "shares_a_mean": {"batch"},
    "rounds_to_float32": {"precision"},
    "rounds_to_float16": {"precision", "order", "defect"},  # eleven bits leave no ladder to measure on
    "draws_in_secret": {"determinism"},
    "fails_in_one_step": {"few_steps"},
    "inverts_the_ratio": {"defect"},  # over a ladder its errors cancel
    "turns_the_sign": {"order", "defect"},
    "halves_the_curvature": {"order", "defect"},
    "ends_without_the_network": {"end"},
    "loses_the_first_step": {"start", "equivariance", "cost"},
    "rounds_the_time": {"conditioning", "start", "equivariance", "defect"},
    "remembers_other_calls": {"determinism"},
    "shares_noise_over_calls": {"noise"},  # what every sampler here did by default once
    "shares_noise_over_samples": {"noise"},
    "shares_noise_over_steps": {"noise"},
    "shares_noise_with_the_start": {"noise", "determinism"},
}


def test_a_record_says_of_each_check_what_its_function_says():
    assert {name: check.__doc__.partition("\n")[0] for name, check in CHECKS.items()} == declarations.CHECKS


def failed(subject, checks=tuple(CHECKS)):
    return {one.check: one for one in audit(subject, checks) if one.bad}


def peer(name, **options):
    return Subject(SAMPLERS[name].load(), options)


def printed(script):
    """The last line that a script prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(script, "reproducer", "exec"), {})
    return out.getvalue().splitlines()[-1]


@pytest.mark.unchecked
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_the_check_that_is_meant_for_it_and_shown_by_its_script(name):
    # the ladder takes most of the time: it is left out where a fault is not for it to find
    checks = [check for check in CHECKS if check != "order" or "order" in FAULTS[name] or not FAULTS[name]]
    found = failed(of_function(getattr(faulty_samplers, name)), checks)
    assert set(found) == FAULTS[name]
    for check, one in found.items():
        shown = printed(one.reproducer)
        if one.figure is None or check in ("determinism", "cost", "few_steps", "idle", "noise"):
            assert shown  # counts, what differs between any two calls, or that there is no figure
        else:  # what rounding leaves is itself a figure of a few digits
            assert float(shown) == pytest.approx(one.figure, rel=1e-2 if check == "precision" else 1e-6)


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


@pytest.mark.unchecked
def test_a_cost_says_how_it_follows_from_the_stages_that_were_stated():
    """Two evaluations in every step: ``stages = 2`` counts one in a step to sigma = 0, a ``count`` of its own two."""

    def midpoint(denoiser, x, times, *, condition=None, noise=None, callback=None):
        for here, there in itertools.pairwise(times):
            half = x + (there - here) / 2 * denoiser(x, here).velocity
            x = x + (there - here) * denoiser(half, (here + there) / 2).velocity
        return x

    midpoint.order, midpoint.stages = 2, 2
    assert failed(of_function(midpoint), ["cost"])["cost"].says == (
        "2 evaluations in 1 step, stated is 1 (stages = 2, but 1 in a step to sigma = 0; a `count` may state another)"
    )
    midpoint.count = lambda touching, **options: 2 * len(touching)
    assert not failed(of_function(midpoint), ["cost"])


# peers, from measurements alone


@pytest.mark.unchecked
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_s_spacings_that_take_the_previous_timestep_from_another_grid(spacing):
    """diffusers#12633, #11347, #9261."""
    found = failed(peer("diffusers_ddim", mode="shipped", timestep_spacing=spacing), ["order", "conditioning"])
    assert found["order"].figure is None  # .18 and .013 are no orders
    assert found["order"].says.startswith("does not converge: errors")
    assert found["conditioning"].figure > 0.3
    assert printed(found["order"].reproducer) == "0.0"
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
@pytest.mark.parametrize("mode", ["solver", "shipped"])
@pytest.mark.parametrize("name", ["diffusers_lcm", "diffusers_consistency"])
def test_schedulers_of_distilled_models_are_asked_for_no_more_steps_than_they_take(name, mode):
    """As shipped for no more than 40 or 50, and in either mode on grids that end at the data."""
    assert not failed(peer(name, mode=mode), ["few_steps", "start", "conditioning", "end", "cost"])


@pytest.mark.unchecked
def test_a_sampler_that_cannot_take_one_step_has_its_cost_counted_on_more():
    assert set(failed(peer("k_diffusion_dpmpp_2m_sde"), ["few_steps", "cost"])) == {"few_steps"}


@pytest.mark.unchecked
def test_a_third_order_whose_second_difference_has_half_its_weight():
    """DPM-Solver++(3M) of diffusers is of order 2; ours, with the whole weight, of order 3."""
    assert failed(peer("diffusers_dpmpp_3m"), ["order"])["order"].figure < 2.1
    assert not failed(next(subjects("dpmpp_3m")), ["order"])


@pytest.mark.unchecked
def test_deis_is_of_order_3_from_exact_starting_values():
    """A start of tiny steps makes its closed form cancel, and 2.38 was once said."""
    third = peer("diffusers_deis", order=3)
    order, defect = audit(third, ["order", "defect"])
    assert (order.verdict, defect.verdict) == ("pass", "pass")
    assert order.figure == pytest.approx(2.94, abs=0.03)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "verdict", "slope"),
    [("diffusers_dpmpp_3m_sde", "fail", 1.08), ("diffusers_dpmpp_2m_sde", "pass", 2.03),
     ("diffusers_euler_ancestral", "pass", 0.97)],
)  # fmt: skip
def test_a_peer_that_casts_its_state_to_float32_is_measured_all_the_same(name, verdict, slope):
    """The cast broke the law's check of linearity, and was told as not applicable."""
    (found,) = audit(peer(name), ["order"])
    assert found.verdict == verdict
    assert found.figure == pytest.approx(slope, abs=0.01)
    assert 1e-8 < peer(name).rounding < 1e-7


@pytest.mark.unchecked
@pytest.mark.parametrize(("offset", "still"), [(0, True), (1, False)])
def test_a_last_evaluation_that_changes_nothing_does_so_at_one_offset(offset, still):
    settings = {"set_alpha_to_one": False, "steps_offset": offset}
    assert bool(failed(peer("diffusers_ddim", mode="shipped", **settings), ["idle"])) == still


@pytest.mark.unchecked
def test_a_last_step_that_divides_infinity():
    """UniPC's bh1 divides by a step of the log-SNR, which is infinite to sigma = 0; k-diffusion's 2M-SDE has no h."""
    assert "not finite" in failed(peer("diffusers_unipc_bh1"), ["end"])["end"].says
    assert "'h'" in failed(peer("k_diffusion_dpmpp_2m_sde"), ["few_steps"])["few_steps"].says


# verdicts


BREAKS = [
    ValueError("no"), TypeError("no"), RuntimeError("no"), KeyError("h"), ZeroDivisionError(), IndexError("5"),
    NotImplementedError("later"), AssertionError(), OverflowError("e"), ArithmeticError("e"), AttributeError("x"),
    UnboundLocalError("h"), MemoryError(), OSError("f"), StopIteration(), LookupError(), RecursionError(), EOFError(),
    UnicodeDecodeError("utf-8", b"", 0, 1, "no"), Undecided("nothing to measure"),
]  # fmt: skip
RAISED = [
    *((error, "error") for error in BREAKS),
    (FloatingPointError("NaN"), "fail"),
    (NotApplicable("it chooses its steps"), "not applicable"),
]


@pytest.mark.parametrize(("raised", "verdict"), RAISED, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", ["diffusers_ddim", "euler"])
def test_an_error_is_an_error_and_a_peer_s_too(monkeypatch, name, raised, verdict):
    def check(subject):
        raise raised

    monkeypatch.setitem(CHECKS, "start", check)
    monkeypatch.setattr("bench.audit._raises", lambda _: "print(1)")
    (found,) = audit(peer(name), ["start"])
    assert found.verdict == verdict
    assert found.bad == (verdict in ("fail", "error"))
    assert bool(found.reproducer) == found.bad


def test_a_sampler_that_takes_no_path_is_in_error():
    def refuses(denoiser, x, times):
        raise ValueError("this is not for you")

    found = list(audit(of_function(refuses, order=1), ["order", "start", "batch"]))
    assert {one.verdict for one in found} == {"error"}
    assert all("this is not for you" in one.says for one in found)


@given(
    order=st.floats(1, 5), size=st.floats(1e-3, 10), rounding=st.sampled_from([1e-16, 1e-8, 1e-6, 1e-4]),
    signs=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)  # fmt: skip
def test_a_slope_is_right_or_there_is_none(order, size, rounding, signs):
    """What rounding makes of an order is never taken for one: within .25, or it says that it cannot tell."""
    steps = (40, 80, 160)
    errors = [abs(size * n**-order + rounding * sign) for n, sign in zip(steps, signs, strict=True)]
    try:
        found = slope(steps, errors, rounding)
    except Undecided:
        assert sum(error > max(1e-11, 10 * rounding) for error in errors) < 2
    else:
        assert found == pytest.approx(order, abs=0.25) or max(errors) <= 1e-11


@pytest.mark.parametrize("errors", [(1.0, 0.5, 0.6), (0.2, 0.19, 0.181), (1.0, 1.0, 1.0), (1.0, math.nan, 0.1)])
def test_errors_that_rise_or_stay_do_not_converge(errors):
    assert slope((40, 80, 160), errors, 1e-16) == 0


@pytest.mark.unchecked
@settings(max_examples=12, deadline=None)
@given(
    depth=st.sampled_from([1, 2]), what=st.sampled_from(["sign", "curvature", "ratio"]),
    off=st.floats(-1, 0.7) | st.floats(1.5, 3),
)  # fmt: skip
def test_a_wrong_coefficient_of_a_multistep_is_seen_by_its_defect(depth, what, off):
    """Its slope, its curvature or a power of its step ratio, by any factor that is not near 1."""
    depth = 2 if what == "curvature" else depth
    fault = {"ratio": lambda r: r**off} if what == "ratio" else {what: off}

    def wrong(denoiser, x, times):
        return faulty_samplers._multistep(denoiser, x, times, depth=depth, **fault)

    assert failed(of_function(wrong, order=depth + 1), ["defect"])


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
        (["ddim", "--check", "end"], 0, "2 audited: 2 pass, 0 fail, 0 error, 0 not applicable"),
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
    assert f"1 failed, {len(CHECKS) - 1} passed, 1 skipped" in result.stdout, result.stdout  # it draws no noise
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
    from bench.audit.probe import ConstantDenoiser, RecordingDenoiser

    path = RectifiedFlow()
    recorder = RecordingDenoiser(ConstantDenoiser(path, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])))
    times = torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=torch.float64)
    last = SAMPLERS["heun"](recorder, torch.tensor([[0.1, 0.9]], dtype=torch.float64), times)
    for one in recorder.calls:
        assert one.x[0].tolist() == pytest.approx([1 - one.t, one.t], abs=1e-15)
    assert last[0].tolist() == [1.0, 0.0]

"""`fidmap audit --like`: planted faults are found in the step in which they are planted, and equals are equal."""

import itertools
import json
import math
from pathlib import Path

import pytest

from bench.audit import likeness, of_function, trials
from bench.audit.likeness import compare
from bench.audit.subject import find_subject
from implementations.diffusion import SCHEDULES, VP
from implementations.samplers import SAMPLERS
from tests.bench import faulty_samplers

ROOT = Path(__file__).parent.parent.parent
SAMPLER, SCHEDULER = ("--sampler", "faulty_samplers:"), ("--scheduler", "own_schedulers:")
FAULTS = [  # whose, name, like, step, what is said of it
    (SAMPLER, "inverts_the_ratio", "dpmpp_2m(solver_type=heun)", 2, "the coefficient of the previous x0 prediction is"),
    (SAMPLER, "ends_in_euler", "heun", 8, "evaluates the network 15 times in 8 steps, heun 16 times"),
    (SAMPLER, "off_by_one", "euler", 2, "the network is asked at sigma/alpha 5.693, euler at 10.97"),
    (SAMPLER, "shifts_the_levels", "euler", 1, "the coefficient of the state is"),
    (SAMPLER, "loses_the_first_step", "euler", 1, "the network is asked at sigma/alpha 10.97, euler at 20"),
    (SAMPLER, "wrong_eta", "ddim(eta=1)", 1, "the coefficient of the noise is 0.696, ddim(eta=1) has 0.8325"),
    (SAMPLER, "noise_on_top", "ddim(eta=1)", 1, "the coefficient of the state is 0.9971, ddim(eta=1) has 0.5472"),
    (SAMPLER, "adds_too_little", "ddpm", 1, "the coefficient of the noise is 0.7493, ddpm has 0.8325"),
    (SAMPLER, "swaps_the_corrector", "unipc_bh2", 3, "the coefficient of the x0 prediction 2 steps before is"),
    (SAMPLER, "turns_the_sign", "DPM++ 2M", 2, "the coefficient of the previous x0 prediction is 0.05049"),
    (SAMPLER, "halves_the_curvature", "res_multistep(order=3)", 3, "of the x0 prediction 2 steps before is"),
    (SAMPLER, "wrong_weights", "heun", 1, "the coefficient of the x0 prediction of evaluation 2 is 0.02985, heun has"),
    (SAMPLER, "leaves_noise", "euler", 8, "the coefficient of the x0 prediction is 0.6, euler has 1"),
    (SAMPLER, "asks_once_more", "euler", 1, "evaluation 2 of the step is asked at sigma/alpha 14.82, euler at 10.97"),
    (SAMPLER, "euler_in_t", "euler", 1, "the samples agree all the same on RectifiedFlow(), EDM()"),
    (SCHEDULER, "Inverted", "DPM++ 2M Karras", 2, "of the previous x0 prediction is -0.03806, DPM++ 2M Karras has"),
    (SCHEDULER, "Loud", "Euler a", 1, "the coefficient of the noise is 0.9158, Euler a has 0.8325"),
]
EQUAL = [
    (SAMPLER, "sound", "ddim"), (SAMPLER, "sound_heun", "heun"),
    (SAMPLER, "sound_two_steps", "dpmpp_2m(solver_type=heun)"),
    (SAMPLER, "sound_three_steps", "res_multistep(order=3)"),
    (SAMPLER, "draws_from_torch", "comfyui:euler_ancestral"),
    (SAMPLER, "sound_unipc", "unipc_bh2"), (SCHEDULER, "Multistep", "DPM++ 2M Karras"), (SCHEDULER, "Heun", "heun"),
    (SCHEDULER, "Flow", "euler"), (SCHEDULER, "Table", "ddim"),
]  # fmt: skip


@pytest.fixture
def audit(command, monkeypatch):
    """``fidmap audit`` with the modules of this folder within reach: its exit code, what it prints and says."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return lambda *arguments: command("audit", *arguments)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("whose", "name", "like", "step", "says"), FAULTS, ids=lambda one: one if type(one) is str else ""
)
def test_a_fault_is_found_in_its_step(audit, whose, name, like, step, says):
    option, module = whose
    code, printed, _ = audit(option, module + name, "--like", like)
    assert code == 1
    assert f"  parts  in step {step} of 8" in printed
    assert says in printed


@pytest.mark.unchecked
@pytest.mark.parametrize(("whose", "name", "like"), EQUAL, ids=lambda one: one if type(one) is str else "")
def test_equals_agree(audit, whose, name, like):
    option, module = whose
    code, printed, _ = audit(option, module + name, "--like", like, "--json")
    (found,) = json.loads(printed)
    assert (code, found["verdict"], found["compared"]) == (0, "same", "every coefficient of every step")
    assert found["largest"] < 1e-12
    assert len(found["grids"]) == {"Heun": 4, "Table": 4}.get(name, 6)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_like_itself(name, monkeypatch):
    """In three steps of its first grid, since others differ in their levels alone."""
    where, made = trials.make_trials(find_subject(name), find_subject(name))
    *_, trial = itertools.islice(made, 2 if name == "diffusers_unipc_bh1" else 1)  # it is infinite at sigma = 0
    times = trial.times[[0, 3, 6, 8]]
    first = [trial._replace(times=times, own_times=times)]
    monkeypatch.setattr(likeness, "make_trials", lambda own, like: (where, iter(first)))
    found = compare(find_subject(name), find_subject(name))
    assert (found.verdict, found.largest) == ("same", 0.0), found.text()


@pytest.mark.unchecked
@pytest.mark.parametrize("wrong", [2, 5, 7])
def test_a_step_that_alone_is_wrong_is_named_with_its_coefficients(wrong):
    """The two-step exponential integrator with 1/r for r in one step: both coefficients by its formula."""
    path = VP()

    def mine(denoiser, x, times):
        kept = []
        for i, (here, there) in enumerate(itertools.pairwise(times)):
            x0 = denoiser(x, here).x0
            if i + 1 == len(times) - 1:
                return x0
            h, scale = float(path.log_snr(there) - path.log_snr(here)), float(path.alpha(there))
            mean = x0
            if kept:
                r = float(path.log_snr(here) - path.log_snr(kept[0][0])) / h
                r = 1 / r if i + 1 == wrong else r
                mean = (1 + 1 / (2 * r)) * x0 - kept[0][1] / (2 * r)
            kept.insert(0, (here, x0))
            x = x * float(path.sigma(there) / path.sigma(here)) - scale * math.expm1(-h) * mean
        return x

    found = compare(of_function(mine), find_subject("dpmpp_2m"))
    assert found.parting.step == wrong
    times = SCHEDULES["karras"](path, 8, clean=True, sigma_min=trials.LAST, sigma_max=trials.FIRST)
    before, here, there = (float(v) for v in path.log_snr(times[wrong - 2 : wrong + 1]))
    r, weight = (here - before) / (there - here), -float(path.alpha(times[wrong])) * math.expm1(here - there)
    newest, previous = found.parting.shares
    assert (newest.of, previous.of) == ("the x0 prediction", "the previous x0 prediction")
    assert (newest.own, newest.like) == pytest.approx((weight * (1 + r / 2), weight * (1 + 1 / (2 * r))), rel=1e-9)
    assert (previous.own, previous.like) == pytest.approx((-weight * r / 2, -weight / (2 * r)), rel=1e-9)


@pytest.mark.unchecked
def test_the_view_is_that_in_which_the_named_method_is_shortest():
    """Adams-Bashforth is written with eps: its weights of equal steps are 3/2 and -1/2 of the step of sigma/alpha."""
    parting = compare(find_subject("lms"), find_subject("ipndm")).parting
    newest, previous = parting.shares
    assert (parting.step, newest.of, previous.of) == (2, "the eps prediction", "the previous eps prediction")
    scale = float(VP().alpha(SCHEDULES["karras"](VP(), 8, sigma_min=trials.LAST, sigma_max=trials.FIRST)[2]))
    h = (parting.levels[1] - parting.levels[0]) * scale
    assert (newest.like, previous.like) == pytest.approx((1.5 * h, -0.5 * h), rel=1e-9)


@pytest.mark.unchecked
def test_noise_of_another_sign_may_be_the_same_in_law():
    def mirrored(denoiser, x, times, *, noise=None):
        drawn = noise or faulty_samplers._drawn
        return faulty_samplers.sound_ancestral(denoiser, x, times, noise=lambda k, like: -drawn(k, like))

    found = compare(of_function(mirrored), find_subject("ddpm"))
    assert found.parting.only_in_law
    assert "in law the step may be the same" in found.text()
    assert not compare(of_function(faulty_samplers.adds_too_little), find_subject("ddpm")).parting.only_in_law


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("own", "like", "compared"),
    [("dpm_adaptive", "heun", "no coefficients (dpm_adaptive: it chooses its steps)"),
     ("predictor_corrector", "predictor_corrector", "no coefficients (predictor_corrector: it is not affine"),
     ("heun", "dopri5", "the samples alone (dopri5: it asks for several times at once)"),
     ("picard", "picard", "the samples alone (picard: it asks for several times at once)")],
)  # fmt: skip
def test_what_can_be_compared_of_other_methods_is_said(audit, own, like, compared):
    code, printed, _ = audit(own, "--like", like)
    assert code == (own != like)
    assert compared in printed


@pytest.mark.unchecked
def test_a_grid_on_which_the_named_one_raises_is_left_out(audit):
    code, printed, _ = audit("unipc_bh1", "--like", "diffusers_unipc_bh1")
    assert code == 0
    assert "left out: 8 steps to 0, where diffusers_unipc_bh1 raises FloatingPointError" in printed


def test_the_sampler_of_the_readme_is_held_against_the_named_one(fidmap, tmp_path):
    """In a process of its own, with nothing but README's text: its last step evaluates once more than it need."""
    source = (ROOT / "README.md").read_text().partition("```python\n# midpoint.py")[2].partition("```")[0]
    (tmp_path / "midpoint.py").write_text(source)
    ended = fidmap("audit", "--sampler", "midpoint:midpoint", "--like", "midpoint(coordinate=t)")
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.splitlines()[1:3] == [
        "  parts  in step 8 of 8, sigma/alpha 0.05 to 0  (VP() from sigma/alpha 20: 8 steps to 0)",
        "  step 8: midpoint:midpoint evaluates the network 16 times in 8 steps, midpoint(coordinate=t) 15 times",
    ]


# said once


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("whose", "name", "says"),
    [
        (SAMPLER, "returns_nothing", "error all 13 checks: it returned None; samples are accepted, a tensor of floats"),
        (
            SAMPLER,
            "returns_a_mean",
            "error all 13 checks: it returned a tensor of torch.float64 and shape (2,); samples",
        ),
        (SAMPLER, "raises", "error all 13 checks: KeyError: 'sigma of 2 samples'"),
        (SCHEDULER, "Choosy", "--scheduler cannot make"),
    ],
    ids=lambda one: one if type(one) is str else "",
)
def test_one_reason_is_one_line(audit, whose, name, says):
    option, module = whose
    code, printed, said = audit(option, module + name)
    if name == "Choosy":
        assert (code, printed, said.count("\n")) == (2, "", 1)
        return
    assert code == 1
    lines = [line for line in printed.splitlines() if line.startswith("  ")][:2]
    assert lines[0].startswith(f"  {says}")
    assert printed.count(says.partition(": ")[2]) == 1
    assert f"wrong  {module}{name}: all checks" in said
    both = audit(option, module + name, "--like", "euler")
    assert (both[0], both[1].count("\n")) == (1, 2)
    assert says.partition(": ")[2] in both[1]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("whose", "name", "says"),
    [
        (SCHEDULER, "Forgetful", "the second call differs from the first: it keeps state between calls"),
        (SCHEDULER, "Endless", "the second call raises ValueError: not enough values to unpack (expected 2, got 1), "
                               "the first does not: it keeps state between calls"),
        (SAMPLER, "remembers_other_calls", "the second call differs from the first: it keeps state between calls"),
    ],
    ids=lambda one: one if type(one) is str else "",
)  # fmt: skip
def test_state_that_is_kept_between_calls_is_said_once(audit, whose, name, says):
    faulty_samplers.REMEMBERED.clear()
    option, module = whose
    code, printed, said = audit(option, module + name)
    assert code == 1
    lines = printed.splitlines()
    assert lines[1].split()[:2] == ["fail", "determinism"]
    assert lines[1].endswith(says)
    assert lines[2].startswith("  n/a   noise, few_steps, order, ")
    assert lines[3] == ""
    assert printed.count("keeps state between calls") == 1
    assert f"wrong  {'scheduler:' if whose is SCHEDULER else ''}{module}{name}: determinism\n" in said
    code, printed, _ = audit(option, module + name, "--like", "dpmpp_2m")
    assert code == 1
    assert f"  error  {says}" in printed
    assert ("from step 1 on" in printed) == (name != "Endless")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("whose", "name", "failed"),
    [(SAMPLER, "inverts_the_ratio", "defect"), (SAMPLER, "ends_in_euler", "defect, cost"),
     (SAMPLER, "off_by_one", "defect, conditioning"), (SCHEDULER, "Inverted", "defect"),
     (SAMPLER, "noise_on_top", "conditioning")],
    ids=lambda one: one if type(one) is str else "",
)  # fmt: skip
def test_the_audit_without_a_named_sampler_finds_it_too(audit, whose, name, failed):
    option, module = whose
    checks = [word for check in dict.fromkeys([*failed.split(", "), "determinism"]) for word in ("--check", check)]
    code, _, said = audit(option, module + name, *checks)
    assert code == 1
    assert f"{name}: {failed}\n" in said


# errors of use


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ddim", "--like", "dpmpp_2n"], "no sampler named 'dpmpp_2n'; did you mean"),
        (["ddim", "--like", "zzz"], "`fidmap list samplers` names them"),
        (["ddim", "--like", "ddim(etta=1)"], "ddim has no option etta; its options are: eta, s_noise"),
        (["ddim", "--like", "ddim(eta)"], "'eta' is no option: OPTION=VALUE is accepted"),
        (["ddim", "--like", "diffusers:VQDiffusionScheduler"], "cannot be run: "),
        (["ddim", "--like", "nowhere:f"], "cannot load 'nowhere:f': ModuleNotFoundError"),
        (["--like", "ddim"], "--like NAME needs what is held against it: --sampler, --scheduler or a name"),
        (["ddim", "--like", "ddim", "--check", "order"], "--like and --check: one of them is accepted"),
        (["--like", "ddim", "--peer", "diffusers"], "--like and --peer: one of them is accepted"),
        (["ddim", "--like", "ddim", "--failures"], "--like and --failures: one of them is accepted"),
        (["--scheduler", "ddim"], "--scheduler 'ddim': expected MODULE:NAME"),
        (["--scheduler", "own_schedulers:Stepless"], "is no scheduler: a class or an object with set_timesteps(steps)"),
        (["--scheduler", "own_schedulers:Levelless"], "has neither sigmas nor alphas_cumprod after set_timesteps"),
        (["--scheduler", "own_schedulers:Nobody"], "has no attribute 'Nobody'"),
        (["--sampler", "own_schedulers:Multistep"], "has set_timesteps and is no function: --scheduler takes it"),
    ],
)  # fmt: skip
def test_errors_of_use_are_one_line(audit, arguments, says):
    code, printed, said = audit(*arguments)
    assert (code, printed, said.count("\n")) == (2, "", 1), said
    assert says in said

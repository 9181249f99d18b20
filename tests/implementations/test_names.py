"""Names of the trade: every name of the programs' lists is an entry with options that it takes, and it runs."""

import inspect
import subprocess
import sys

import pytest
import torch

from implementations.catalogue.entry import UnknownName
from implementations.catalogue.names import PROGRAMS, find_entry, list_names, names_code, resolve_name
from implementations.diffusion import SCHEDULES, VP, CountingDenoiser, DiscreteVP
from implementations.samplers import SAMPLERS
from tests.exact import gaussian, normal

# the programs' own lists
COMFYUI = """euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 exp_heun_2_x0 exp_heun_2_x0_sde
dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu
dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral
res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver
sa_solver_pece ddim uni_pc uni_pc_bh2"""
COMFYUI = COMFYUI.split()
COMFYUI_SCHEDULES = """normal karras exponential sgm_uniform simple ddim_uniform beta linear_quadratic kl_optimal"""
COMFYUI_SCHEDULES = COMFYUI_SCHEDULES.split()
WEBUI = """DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun,
DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM, HeunPP2, IPNDM, IPNDM_V, DEIS,
DDPM"""
WEBUI = [name.strip() for name in WEBUI.split(",")]
TYPES = """Automatic, Uniform, Karras, Exponential, Polyexponential, SGM Uniform, KL Optimal, Align Your Steps, Simple,
Normal, DDIM, Beta, Turbo, Align Your Steps GITS"""
TYPES = [name.strip() for name in TYPES.split(",")]
LISTS = [
    *(("samplers", f"comfyui:{name}") for name in COMFYUI),
    *(("schedules", f"comfyui:{name}") for name in COMFYUI_SCHEDULES),
    *(("samplers", f"automatic1111:{name}") for name in WEBUI),
    *(("schedules", f"a1111:{name}") for name in TYPES),
    *((kind, f"{program}:{name}") for program in ("diffusers", "k_diffusion") for kind in ("samplers", "schedules")
      for name in list_names(kind, program)),
]  # fmt: skip
RUN = [  # what is not an entry's own name
    name for kind, name in LISTS
    if kind == "samplers" and not resolve_name(kind, name).refused and name.partition(":")[2] not in SAMPLERS
]  # fmt: skip
CATALOGUES = {"samplers": SAMPLERS, "schedules": SCHEDULES}


@pytest.mark.parametrize(("kind", "text"), LISTS)
def test_every_name_is_an_entry_with_options_that_it_takes(kind, text):
    found = resolve_name(kind, text)
    assert found.entry in CATALOGUES[kind]
    parameters = inspect.signature(CATALOGUES[kind][found.entry].resolve()).parameters
    assert set(found.options) <= set(parameters)
    if found.schedule is not None:
        assert set(found.schedule_options) <= set(inspect.signature(SCHEDULES[found.schedule].resolve()).parameters)
    assert ("cfg_pp" in text or "CFG++" in text) == (found.guidance == "cfg_plus_plus")
    assert text.endswith("_gpu") == ("device" in found.note)


def test_the_lists_are_whole():
    assert list(list_names("samplers", "comfyui")) == COMFYUI
    assert list(list_names("schedules", "comfyui")) == COMFYUI_SCHEDULES
    assert set(WEBUI) < set(list_names("samplers", "forge"))
    assert set(TYPES) < set(list_names("schedules", "a1111"))
    for program in PROGRAMS:
        for kind in CATALOGUES:
            assert all(resolve_name(kind, f"{program}:{n}") == r for n, r in list_names(kind, program).items())


@pytest.mark.parametrize("text", RUN)
def test_a_name_runs_with_its_options(text):
    """Through the catalogue, where a name is taken; and by hand with the options that it stands for."""
    path, found = VP(), resolve_name("samplers", text)
    entry = SAMPLERS[text]
    assert entry.name == text
    times = SCHEDULES["karras"](path, 12, sigma_max=30.0, clean=False)
    times = times.flip(0) if entry.ascending else times
    if "learned_range" in found.options.values():
        with pytest.raises(ValueError, match="learned_range needs predictions whose aux"):
            entry(gaussian(path), normal(3, 6), times)
        return
    counting, x = CountingDenoiser(gaussian(path)), normal(3, 6) * float(path.sigma(times[0]))
    torch.manual_seed(0)
    ours = entry(counting, x, times)
    assert ours.isfinite().all()
    assert entry.evaluations(times, path=path) in (counting.calls, None)
    torch.manual_seed(0)
    assert torch.equal(ours, SAMPLERS[found.entry](gaussian(path), x, times, **found.options))


@pytest.mark.parametrize("text", [text for kind, text in LISTS if kind == "schedules"])
def test_a_schedule_s_name_gives_its_grid(text):
    path, found = DiscreteVP(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2), None
    found = resolve_name("schedules", text)
    times = SCHEDULES[text](path, 10)
    assert len(times) == 11
    assert torch.equal(times, SCHEDULES[found.entry](path, 10, **found.options))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("euler", "euler"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde on karras"),
        ("dpm++ 2m sde KARRAS", "dpmpp_2m_sde on karras"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde(solver_type=heun) on exponential"),
        ("Euler a SGM Uniform", "euler_ancestral on sgm_uniform"),
        ("DDIM DDIM", "ddim on ddim_uniform"),
        ("DPM++ 2M Automatic", "dpmpp_2m on karras"),
        ("Euler Automatic", "euler on normal"),
        ("forge:DPM++ 2M Align Your Steps GITS", "dpmpp_2m on align_your_steps_gits"),
        ("LCM", "lcm"),
        ("k_euler_a", "euler_ancestral"),
        ("comfyui:dpmpp_2m_sde_heun", "dpmpp_2m_sde(solver_type=heun)"),
        ("diffusers:DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++)", "dpmpp_2m_sde(solver_type=midpoint)"),
        ("DPMSolverMultistepScheduler(algorithm_type='dpmsolver', solver_order=3, use_karras_sigmas=True)",
         "dpm_solver_multistep(order=3, solver_type=midpoint, half_curvature=True) on karras"),
        ("DDIMScheduler(eta=0.5, timestep_spacing=leading, steps_offset=1)", "ddim(eta=0.5) on leading(offset=1)"),
        ("EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing=trailing, final_sigmas_type=sigma_min)",
         "euler on karras(clean=False)"),
        ("FlowMatchEulerDiscreteScheduler(shift=3.0)", "flow_euler on sd3_shift(shift=3.0)"),
        ("k_diffusion:sample_dpmpp_2m", "dpmpp_2m"),
        ("mymodule:mine", "mymodule:mine"),
    ],
)  # fmt: skip
def test_names_as_people_write_them(text, meaning):
    assert str(resolve_name("samplers", text)) == meaning


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("samplers", "Euler b", "no sampler named 'Euler b'; did you mean Euler a or"),
        ("samplers", "comfyui:eulr", "no sampler of comfyui named 'eulr'; did you mean euler or"),
        ("samplers", "qqq", "no sampler named 'qqq'; `fidmap list samplers` names them, with --names those of"),
        ("samplers", "diffusers:Nope", "`fidmap list samplers --names diffusers` names them"),
        ("samplers", "Lcm", r"'Lcm' is of several programs, which differ: comfyui:Lcm \(consistency\) or auto"),
        ("samplers", "diffusers:DDIMScheduler(foo=1)", "DDIMScheduler takes eta, timestep_.* here, and not foo"),
        ("samplers", "diffusers:DDIMScheduler(1)", "DDIMScheduler: expected argument=value, got '1'"),
        ("samplers", "diffusers:DPMSolverMultistepScheduler(solver_order=4)", "has no method with .*solver_order=4"),
        ("samplers", "DDIMScheduler(timestep_spacing=x)", "spacing must be leading or trailing or linspace, got x"),
        ("samplers", "EulerDiscreteScheduler(use_karras_sigmas=True, use_beta_sigmas=True)", "one grid at a time"),
        ("schedules", "Karas", "no schedule named 'Karas'; did you mean karras"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line_with_suggestions(kind, text, says):
    with pytest.raises(UnknownName, match=says) as raised:
        resolve_name(kind, text)
    assert "\n" not in str(raised.value)
    if text != "Karas" and text != "qqq":
        with pytest.raises(UnknownName):
            CATALOGUES[kind][text]


def test_a_refused_name_is_listed_and_not_run():
    assert "published" in list_names("schedules", "forge")["Align Your Steps 32"].refused
    for text in ("diffusers:VQDiffusionScheduler", "Euler a Align Your Steps 32"):
        with pytest.raises(UnknownName, match=f"sampler '{text}' cannot be run: "):
            SAMPLERS[text]
        with pytest.raises(UnknownName, match="cannot be run"):
            find_entry(SAMPLERS, text)


def test_code_is_no_program_s_name():
    assert names_code("mymodule:sampler")
    assert not names_code("comfyui:euler")
    assert not names_code("A1111:Euler a")
    assert not names_code("euler")


def test_an_order_that_an_entry_has_not_is_named_when_it_is_run():
    entry = SAMPLERS["UniPCMultistepScheduler(solver_order=9)"]
    with pytest.raises(ValueError, match="order must"):
        entry(gaussian(VP()), normal(3, 6), SCHEDULES["karras"](VP(), 4))


def test_a_name_that_sets_the_order_has_that_variant_alone():
    assert SAMPLERS["comfyui:res_multistep"].variants() == [{"order": 2}]
    assert len(SAMPLERS["res_multistep"].variants()) == 4
    assert SAMPLERS["comfyui:uni_pc"].theory({}) == 2  # lower_order_final


def test_names_need_no_torch():
    code = "import sys; from implementations.catalogue.names import resolve_name; resolve_name('samplers', 'Euler a'); "
    result = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False)
    assert result.returncode == 0

"""What a name of k-diffusion or of diffusers stands for gives the samples of the program itself, and its arguments."""

import inspect
import math

import diffusers
import pytest
import torch

from implementations.catalogue.names import list_names, resolve_name
from implementations.catalogue.names.diffusers import DEFAULTS, GRIDS
from implementations.catalogue.names.diffusers import SAMPLERS as ROWS
from implementations.diffusion import EDM, SCHEDULES, VP, RectifiedFlow
from implementations.peers.k_diffusion_samplers import sampling
from implementations.samplers import SAMPLERS
from tests.exact import draws, gaussian, normal

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.unchecked]
WHOLE = "lower_order_final=False"  # the peer keeps its order to the end on our grids
PEERS = {  # name -> the peer's entry, and its options
    **{f"k_diffusion:sample_{one}": (f"k_diffusion_{one}", {}) for one in (
        "euler", "heun", "dpm_2", "lms", "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde",
        "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde")},
    "diffusers:DDIMScheduler": ("diffusers_ddim", {}),
    "diffusers:DDIMScheduler(eta=0.7)": ("diffusers_ddim", {"eta": 0.7}),
    "diffusers:DDIMInverseScheduler": ("diffusers_ddim_inversion", {}),
    "diffusers:DDPMScheduler": ("diffusers_ddpm", {}),
    "diffusers:DDPMScheduler(variance_type=fixed_large)": ("diffusers_ddpm", {"variance": "large"}),
    "diffusers:PNDMScheduler(skip_prk_steps=True)": ("diffusers_plms", {}),
    "diffusers:IPNDMScheduler": ("diffusers_ipndm", {}),
    "diffusers:EulerDiscreteScheduler": ("diffusers_euler", {}),
    "diffusers:EulerAncestralDiscreteScheduler": ("diffusers_euler_ancestral", {}),
    "diffusers:HeunDiscreteScheduler": ("diffusers_heun", {}),
    "diffusers:KDPM2DiscreteScheduler": ("diffusers_dpm_2", {}),
    "diffusers:KDPM2AncestralDiscreteScheduler": ("diffusers_dpm_2_ancestral", {}),
    "diffusers:LMSDiscreteScheduler": ("diffusers_lms", {}),
    "diffusers:DPMSolverSDEScheduler": ("diffusers_dpmpp_sde", {}),
    "diffusers:DEISMultistepScheduler": ("diffusers_deis", {}),
    "diffusers:DEISMultistepScheduler(solver_order=3)": ("diffusers_deis", {"order": 3}),
    "diffusers:DPMSolverMultistepScheduler": ("diffusers_dpmpp_2m", {}),
    "diffusers:DPMSolverMultistepScheduler(solver_type=heun)": ("diffusers_dpmpp_2m", {"solver_type": "heun"}),
    "diffusers:DPMSolverMultistepScheduler(solver_order=3)": ("diffusers_dpmpp_3m", {}),
    "diffusers:DPMSolverMultistepScheduler(algorithm_type=dpmsolver)": ("diffusers_dpm_solver_multistep_2", {}),
    "diffusers:DPMSolverMultistepScheduler(algorithm_type=dpmsolver, solver_order=3)":
        ("diffusers_dpm_solver_multistep_3", {}),
    "diffusers:DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++)": ("diffusers_dpmpp_2m_sde", {}),
    "diffusers:DPMSolverSinglestepScheduler": ("diffusers_dpmpp_2s", {}),
    "diffusers:DPMSolverSinglestepScheduler(solver_order=3, solver_type=heun)":
        ("diffusers_dpmpp_3s", {"solver_type": "heun"}),
    "diffusers:DPMSolverSinglestepScheduler(algorithm_type=dpmsolver)": ("diffusers_dpm_solver_2", {}),
    "diffusers:DPMSolverSinglestepScheduler(algorithm_type=dpmsolver, solver_order=3, solver_type=heun)":
        ("diffusers_dpm_solver_3", {"solver_type": "heun"}),
    f"diffusers:UniPCMultistepScheduler({WHOLE})": ("diffusers_unipc_bh2", {}),
    f"diffusers:UniPCMultistepScheduler(solver_type=bh1, solver_order=3, {WHOLE})":
        ("diffusers_unipc_bh1", {"order": 3}),
    "diffusers:EDMEulerScheduler": ("diffusers_edm_euler", {}),
    "diffusers:EDMDPMSolverMultistepScheduler": ("diffusers_edm_dpmpp_2m", {}),
}  # fmt: skip
FLOW = {
    "diffusers:FlowMatchEulerDiscreteScheduler": ("diffusers_flow_euler", {}),
    "diffusers:FlowMatchHeunDiscreteScheduler": ("diffusers_flow_heun", {}),
    "diffusers:FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)": ("diffusers_flow_stochastic", {}),
}
FLOAT32 = 1e-4  # a peer's step may cast its state to it


@pytest.mark.parametrize("text", [*PEERS, *FLOW])
def test_a_name_gives_the_samples_of_its_program(text):
    """On the same grid, which ends above sigma = 0, and from the same noise."""
    peer, options = (PEERS | FLOW)[text]
    path = RectifiedFlow() if text in FLOW else VP()
    oracle, found = gaussian(path), resolve_name("samplers", text)
    times = SCHEDULES["karras"](path, 9, sigma_max=30.0, clean=False)
    times = times.flip(0) if SAMPLERS[peer].ascending else times
    x = normal(3, 6) * float(path.sigma(times[0]))
    theirs = SAMPLERS[peer](oracle, x, times, noise=draws, **options)
    for ours in (
        SAMPLERS[text](oracle, x, times, noise=draws),
        SAMPLERS[found.entry](oracle, x, times, noise=draws, **found.options),
    ):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < FLOAT32


def test_sa_solver_is_that_of_diffusers_where_its_tau_is_1_everywhere():
    """As shipped it is 1 from timestep 200 to 800 alone, the name's ``interval``, in which the peer's grid is not."""
    path, text = VP(), "diffusers:SASolverScheduler(predictor_order=3)"
    times = SCHEDULES["karras"](path, 9, sigma_max=30.0, clean=False)
    oracle, x = gaussian(path), normal(3, 6)
    theirs = SAMPLERS["diffusers_sa_solver"](oracle, x, times, noise=draws, predictor_order=3)
    ours = SAMPLERS[text](oracle, x, times, noise=draws, interval=(0.0, math.inf))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    scheduler, kept = diffusers.SASolverScheduler(), []
    for level in SAMPLERS[text].preset["interval"]:
        ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
        kept.append(int((ratios - level).abs().argmin()))
    assert kept == [200, 800]


@pytest.mark.parametrize("name", ["karras", "exponential", "polyexponential"])
def test_a_grid_s_name_gives_the_levels_of_k_diffusion(name):
    theirs = getattr(sampling(), f"get_sigmas_{name}")(10, 0.03, 14.6)
    ours = SCHEDULES[f"k_diffusion:get_sigmas_{name}"](EDM(), 10, sigma_min=0.03, sigma_max=14.6)
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-7)


def test_every_function_and_class_of_the_installed_programs_has_a_name():
    samplers = {name for name in vars(sampling()) if name.startswith("sample_")}
    assert samplers == set(list_names("samplers", "k_diffusion"))
    grids = {name for name in vars(sampling()) if name.startswith("get_sigmas_")}
    assert grids == set(list_names("schedules", "k_diffusion"))
    classes = {
        name for names in diffusers.schedulers._import_structure.values() for name in names
        if name.endswith("Scheduler")
    }  # fmt: skip
    assert classes - {"KarrasDiffusionSchedulers"} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_arguments_are_those_of_the_constructor_with_its_defaults(name):
    """``eta`` of DDIM and TCD, and ``s_noise`` and the like, are arguments of their ``step``."""
    module = getattr(diffusers, name, None) or getattr(diffusers.schedulers, name)
    known = inspect.signature(module.__init__).parameters
    step = inspect.signature(getattr(module, "step", module.__init__)).parameters
    for argument, default in DEFAULTS.get(name, {}).items():
        assert {**step, **known}[argument].default == default, argument
    assert set(GRIDS.get(name, ())) <= set(known)
    for where, _ in ROWS[name]:
        assert set(where) <= set(DEFAULTS.get(name, {}))


def test_flow_ancestral_is_euler_ancestral_of_flow_models():
    """LTXEulerAncestralRFScheduler's step by its formulas, where alpha = 1 - t and sigma = t."""
    path, eta = RectifiedFlow(), 0.8
    oracle, times = gaussian(path), torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=torch.float64)
    x = y = normal(3, 6)
    for i in range(3):
        s, t = float(times[i]), float(times[i + 1])
        x0 = oracle(y, times[i]).x0
        down = t * (1 + eta * (t / s - 1))
        up = (t**2 - down**2 * (1 - t) ** 2 / (1 - down) ** 2) ** 0.5
        y = (1 - t) / (1 - down) * (down / s * y + (1 - down / s) * x0) + up * (draws(i, y) if t else 0)
        y = y if t else x0
    found = SAMPLERS[f"diffusers:LTXEulerAncestralRFScheduler(eta={eta})"](oracle, x, times, noise=draws)
    torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)

"""What the names of ComfyUI, AUTOMATIC1111 and Forge stand for: their methods and grids, worked out without our tables.

Where a program calls a function of k-diffusion, that function is the measure; else the method's formulas in plain
numbers, on a path where the state is x/alpha and its level sigma/alpha.
"""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

from implementations.catalogue.names import list_names, resolve_name
from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, DiscreteVP, Network, RectifiedFlow
from implementations.diffusion.path import per_sample
from implementations.peers.k_diffusion_samplers import sampling
from implementations.samplers import SAMPLERS
from tests.exact import draws, gaussian, normal

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.unchecked]
OF_K_DIFFUSION = (
    "euler", "heun", "dpm_2", "lms", "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde",
    "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde",
)  # fmt: skip
WEBUI = {
    "Euler": "euler", "Euler a": "euler_ancestral", "LMS": "lms", "Heun": "heun", "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral", "DPM++ 2S a": "dpmpp_2s_ancestral", "DPM++ SDE": "dpmpp_sde", "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde", "DPM++ 3M SDE": "dpmpp_3m_sde",
}  # fmt: skip
FUNCTIONS = {
    **{f"comfyui:{name}": (name, {}) for name in OF_K_DIFFUSION},
    **{f"automatic1111:{name}": (function, {}) for name, function in WEBUI.items()},
    **{text: ("dpmpp_2m_sde", {"solver_type": "heun"})
       for text in ("comfyui:dpmpp_2m_sde_heun", "automatic1111:DPM++ 2M SDE Heun")},
}  # fmt: skip
PATH = EDM()
ORACLE = gaussian(PATH)
TIMES = SCHEDULES["karras"](PATH, 6, sigma_min=0.1, sigma_max=20.0, clean=False)
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2  # of Stable Diffusion
LEVELS = ((1 - (1 - BETAS).cumprod(0)) / (1 - BETAS).cumprod(0)).sqrt().numpy()


def model(path):
    """A network that bends: of an affine one, the mean of the reverse SDE is exact by every order."""
    return Network(path, lambda x, t: torch.tanh(x / per_sample(path.alpha(t) * (1 + path.ratio(t)), x)), "x0")


def x0(x, level):
    return torch.tanh(x / (1 + level))


@pytest.mark.parametrize("text", FUNCTIONS)
def test_a_name_gives_the_samples_of_the_function_that_its_program_calls(text):
    name, options = FUNCTIONS[text]
    oracle, times = gaussian(VP()), SCHEDULES["karras"](VP(), 9, sigma_max=30.0, clean=False)
    x = normal(3, 6) * float(VP().sigma(times[0]))
    theirs = SAMPLERS[f"k_diffusion_{name}"](oracle, x, times, noise=draws, **options)
    ours = SAMPLERS[text](oracle, x, times, noise=draws)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4  # a peer may cast to float32


@pytest.mark.parametrize(
    ("text", "eta"),
    [("comfyui:dpm_adaptive", 0.0), ("k_diffusion:sample_dpm_adaptive", 0.0), ("a1111:DPM adaptive", 1.0)],
)
def test_dpm_adaptive_chooses_its_steps_and_ends_near_k_diffusions(text, eta):
    """Both keep the error below 5 %, by step sizes that are one for a batch there and one per sample here."""
    entry, x = SAMPLERS[text], 20 * normal(3, 6)[:1]
    assert entry.adaptive
    assert entry.options({})["eta"] == eta
    theirs = SAMPLERS["k_diffusion_dpm_adaptive"](ORACLE, x, TIMES[[0, -1]])
    ours = entry(ORACLE, x, TIMES[[0, -1]], eta=0.0)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 0.05


@pytest.mark.parametrize(
    ("text", "eta"), [("comfyui:dpm_fast", 0.0), ("k_diffusion:sample_dpm_fast", 0.0), ("a1111:DPM fast", 1.0)]
)
def test_dpm_fast_is_k_diffusions(text, eta):
    x, asked = 20 * normal(3, 6), iter(range(100))
    theirs = sampling().sample_dpm_fast(
        lambda y, sigma: x0(y, sigma[0]), x, 0.1, 20.0, 9, disable=True, eta=eta,
        noise_sampler=lambda *_: draws(next(asked), x),
    )  # fmt: skip
    found = resolve_name("samplers", text)
    times = SCHEDULES[found.schedule](PATH, 4, sigma_min=0.1, sigma_max=20.0, **found.schedule_options)
    torch.testing.assert_close(
        SAMPLERS[text](model(PATH), x, times, noise=draws, remainder=0), theirs, rtol=1e-5, atol=1e-5
    )


def ddim(i, s, x, _):
    return x + (s[i + 1] - s[i]) * (x - x0(x, s[i])) / s[i]


def ddpm(i, s, x, _):
    """The posterior of a level given the one above and x0, with its own variance."""
    kept = (s[i + 1] / s[i]) ** 2
    return kept * x + (1 - kept) * x0(x, s[i]) + s[i + 1] * math.sqrt(1 - kept) * draws(i, x)


def lcm(i, s, x, _):
    """The clean sample that the model's map gives, and noise; here the exact flow's."""
    clean = ORACLE.flow(x, torch.tensor(s[i]).double(), torch.tensor(0.0).double())
    return clean + s[i + 1] * draws(i, x) if s[i + 1] else clean


def heunpp2(i, s, x, _):
    """Slopes here, one and two levels below, weighted by their levels; fewer where there are none (2410.21556)."""
    h, d = s[i + 1] - s[i], (x - x0(x, s[i])) / s[i]
    one, left = x + h * d, len(s) - 2 - i
    if not left:
        return one
    d1 = (one - x0(one, s[i + 1])) / s[i + 1]
    if left == 1:
        w1 = s[i + 1] / (2 * s[0])
        return x + h * ((1 - w1) * d + w1 * d1)
    two = one + (s[i + 2] - s[i + 1]) * d1
    d2 = (two - x0(two, s[i + 2])) / s[i + 2]
    w1, w2 = s[i + 1] / (3 * s[0]), s[i + 2] / (3 * s[0])
    return x + h * ((1 - w1 - w2) * d + w1 * d1 + w2 * d2)


def gradient_estimation(i, s, x, past):
    past.append((x - x0(x, s[i])) / s[i])
    return x + (s[i + 1] - s[i]) * (2 * past[-1] - past[-2] if i else past[-1])


ADAMS = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}


def ipndm(i, s, x, past):
    """Adams and Bashforth's weights of equal steps, up to the fourth order."""
    past.insert(0, (x - x0(x, s[i])) / s[i])
    return x + (s[i + 1] - s[i]) * sum(w * d for w, d in zip(ADAMS[min(i + 1, 4)], past, strict=False))


def integrate_lines(i, s, x, past, order, coordinate):
    """The integral over sigma of the polynomial in a coordinate through the last slopes."""
    past.insert(0, (x - x0(x, s[i])) / s[i])
    nodes = [coordinate(s[i - k]) for k in range(min(i + 1, order))]
    for k, node in enumerate(nodes):
        others = [one for one in nodes if one != node]
        weight, _ = scipy.integrate.quad(
            lambda level, node=node, others=others: math.prod(
                (coordinate(level) - one) / (node - one) for one in others
            ), s[i], s[i + 1], epsabs=1e-12,
        )  # fmt: skip
        x = x + weight * past[k]
    return x


def ipndm_v(i, s, x, past):
    """Adams and Bashforth's weights of the steps themselves; the grid has three, before the program's fourth order."""
    return integrate_lines(i, s, x, past, 3, lambda level: level)


START, SLOPE = 0.1, 19.9  # of the beta of a path VP; the program takes the path whose levels are .002 and 80


def vp_time(level):
    return (math.sqrt(START**2 + 2 * SLOPE * math.log1p(level**2)) - START) / SLOPE


def deis(i, s, x, past):
    return integrate_lines(i, s, x, past, 3, vp_time)


def moments(way, rate):
    """The mass of an exponential kernel over a step of the log-SNR, and its first moment as a share of the step."""
    first, _ = scipy.integrate.quad(lambda u: rate * math.exp(rate * (u - way)) * u / way, 0, way)
    return -math.expm1(-rate * way), first


def res_multistep(i, s, x, past):
    way = math.log(s[i] / s[i + 1])
    mass, first = moments(way, 1)
    past.append((way, x0(x, s[i])))
    line = (past[-1][1] - past[-2][1]) * way / past[-2][0] if i else 0
    return s[i + 1] / s[i] * x + mass * past[-1][1] + first * line


def exp_heun(i, s, x, _, rate=1):
    way = math.log(s[i] / s[i + 1])
    mass, first = moments(way, rate)
    noise = s[i + 1] * math.sqrt(-math.expm1(-2 * (rate - 1) * way)) * draws(i, x)
    kept, start = math.exp(-rate * way) * x + noise, x0(x, s[i])
    return kept + (mass - first) * start + first * x0(kept + mass * start, s[i + 1])


def exp_heun_sde(i, s, x, past):
    return exp_heun(i, s, x, past, rate=2)


def seeds_2(i, s, x, _):
    """Without its noise: one stage in the middle, by the kernel of the reverse SDE."""
    way = math.log(s[i] / s[i + 1])
    middle = math.exp(-way) * x - math.expm1(-way) * x0(x, s[i])
    return math.exp(-2 * way) * x - math.expm1(-2 * way) * x0(middle, s[i] * math.exp(-way / 2))


def seeds_3(i, s, x, _):
    """Without its noise: stages at a third and at two thirds."""
    way, start = math.log(s[i] / s[i + 1]), x0(x, s[i])
    mass, _ = moments(way / 3, 2)
    one = x0((1 - mass) * x + mass * start, s[i] * math.exp(-way / 3))
    mass, first = moments(way * 2 / 3, 2)
    two = x0((1 - mass) * x + mass * start + 2 * first * (one - start), s[i] * math.exp(-way * 2 / 3))
    mass, first = moments(way, 2)
    return (1 - mass) * x + mass * start + 3 / 2 * first * (two - start)


def er_sde(i, s, x, past):
    """Without its noise (2309.06169): Taylor terms of x0, whose differences are over the levels."""

    def scale(level):
        return level * (math.exp(level**0.3) + 10)

    past.insert(0, x0(x, s[i]))
    kept, h = scale(s[i + 1]) / scale(s[i]), s[i + 1] - s[i]
    x = kept * x + (1 - kept) * past[0]
    if i:
        whole, _ = scipy.integrate.quad(lambda level: 1 / scale(level), s[i + 1], s[i])
        slope = (past[0] - past[1]) / (s[i] - s[i - 1])
        x = x + (h + whole * scale(s[i + 1])) * slope
    if i > 1:
        moment, _ = scipy.integrate.quad(lambda level: (level - s[i]) / scale(level), s[i + 1], s[i])
        before = (past[1] - past[2]) / (s[i - 1] - s[i - 2])
        x = x + (h**2 / 2 + moment * scale(s[i + 1])) * (slope - before) / ((s[i] - s[i - 2]) / 2)
    return x


STEPS = {
    "comfyui:ddim": ddim, "automatic1111:DDIM": ddim, "comfyui:ddpm": ddpm, "automatic1111:DDPM": ddpm,
    "comfyui:lcm": lcm, "comfyui:gradient_estimation": gradient_estimation, "comfyui:ipndm": ipndm,
    "automatic1111:IPNDM": ipndm, "comfyui:ipndm_v": ipndm_v, "automatic1111:IPNDM_V": ipndm_v, "comfyui:deis": deis,
    "automatic1111:DEIS": deis, "comfyui:res_multistep": res_multistep, "comfyui:exp_heun_2_x0": exp_heun,
    "comfyui:exp_heun_2_x0_sde": exp_heun_sde, "comfyui:seeds_2": seeds_2, "comfyui:seeds_3": seeds_3,
    "comfyui:er_sde": er_sde, "comfyui:heunpp2": heunpp2, "automatic1111:HeunPP2": heunpp2,
}  # fmt: skip
SILENT = (seeds_2, seeds_3, er_sde)


@pytest.mark.parametrize("text", STEPS)
def test_a_name_is_its_program_s_method_in_plain_numbers(text):
    step = STEPS[text]
    times = TIMES[:4] if step in (ipndm_v, er_sde) else TIMES
    if step is lcm:
        times = torch.cat([TIMES, torch.zeros(1).double()])
    noise = (lambda k, like: torch.zeros_like(like)) if step in SILENT else draws
    x = 20 * normal(3, 6)
    if step is deis:  # its polynomials are in the time of the path
        path = VP(START, START + SLOPE)
        own = path.time(-times.log())
        found = SAMPLERS[text](model(path), path.alpha(own[0]) * x, own, noise=noise) / path.alpha(own[-1])
    else:
        found = SAMPLERS[text](ORACLE if step is lcm else model(PATH), x, times, noise=noise)
    past = []
    for i in range(len(times) - 1):
        x = step(i, times.tolist(), x, past)
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
    if step in SILENT:
        assert not torch.allclose(SAMPLERS[text](model(PATH), 20 * normal(3, 6), times, noise=draws), found)


@pytest.mark.parametrize(
    ("text", "form"),
    [("comfyui:uni_pc", "bh1"), ("comfyui:uni_pc_bh2", "bh2"), ("automatic1111:UniPC", "bh1")],
)
def test_unipc_is_of_order_3_and_lower_at_its_end(text, form):
    """diffusers keeps the order to the end on our grids: a step is that of its order until three steps are left."""
    states, x = [], 20 * normal(3, 6)
    SAMPLERS[text](ORACLE, x, TIMES, callback=lambda i, t, state, prediction: states.append(state.clone()))
    theirs = SAMPLERS[f"diffusers_unipc_{form}"](ORACLE, x, TIMES[:4], order=3)
    near = [float((state - theirs).abs().max() / theirs.abs().max()) for state in states]
    assert min(near) < 1e-4
    assert SAMPLERS[text].theory({}) == 2


def test_sa_solver_has_its_paper_s_orders_and_its_program_s_range():
    """A predictor of three and a corrector of four values, with noise from 80 % to 20 % of the timesteps."""
    low, high = (math.exp(np.interp(share * 999, np.arange(1000), np.log(LEVELS))) for share in (0.2, 0.8))
    for text in ("comfyui:sa_solver", "comfyui:sa_solver_pece"):
        found = resolve_name("samplers", text)
        assert (found.options["order"], found.options["corrector_order"]) == (3, 4)
        assert found.options["interval"] == pytest.approx((low, high), rel=1e-3)
    calls = []
    for text in ("comfyui:sa_solver", "comfyui:sa_solver_pece"):
        counting = CountingDenoiser(ORACLE)
        SAMPLERS[text](counting, 20 * normal(3, 6), TIMES, noise=draws)
        calls.append(counting.calls)
    assert calls[0] in (6, 7)
    assert calls[1] in (11, 12, 13)  # it asks again for what it has corrected


def test_restart_goes_once_from_a_tenth_up_to_2_in_nine_steps():
    """As from 20 to 35 steps in AUTOMATIC1111: of 20, 9 are those of the restart, each of two evaluations."""
    times, calls = SCHEDULES["karras"](PATH, 11, sigma_min=0.03, sigma_max=14.6), []
    for name in ("a1111:Restart", "heun"):
        counting = CountingDenoiser(ORACLE)
        SAMPLERS[name](counting, 14.6 * normal(3, 6), times, noise=draws)
        calls.append(counting.calls)
    assert calls[0] - calls[1] == 2 * 9
    ((low, high, repeats, steps),) = resolve_name("samplers", "a1111:Restart").options["intervals"]
    assert (low, high, repeats, steps) == (0.1, 2.0, 1, 9)


@pytest.mark.parametrize("program", ["comfyui", "automatic1111"])
def test_variants_of_a_name_are_the_method_of_that_name(program):
    """With CFG++ in place of guidance, and with noise that is drawn on the device."""
    names = list_names("samplers", program)
    found = {
        name: next(names[base] for base in (name.removesuffix(end), name.removesuffix(f" {end}")) if base in names)
        for name in names for end in ("_cfg_pp", "_gpu", "CFG++") if name.endswith(end)
    }  # fmt: skip
    assert len(found) == {"comfyui": 11, "automatic1111": 1}[program]
    for name, base in found.items():
        assert (names[name].entry, names[name].options) == (base.entry, base.options)


def _of(timesteps):
    """The levels of timesteps, interpolated in their logarithm, and 0."""
    return [*np.exp(np.interp(timesteps, np.arange(1000), np.log(LEVELS))), 0.0]


def _quantiles(n, count):
    return scipy.stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=count), 0.6, 0.6)


LOW, HIGH = float(LEVELS[0]), float(LEVELS[-1])
NORMAL = lambda n: _of(np.linspace(999, 0, n))  # noqa: E731
SGM = lambda n: _of(np.linspace(999, 0, n + 1)[:-1])  # noqa: E731
SIMPLE = lambda n: [*(LEVELS[-(1 + int(i * 1000 / n))] for i in range(n)), 0.0]  # noqa: E731
WALK = lambda n: _of(list(range(1, 1000, 1000 // n))[::-1])  # noqa: E731
GRIDS = {
    "comfyui:normal": NORMAL, "a1111:Normal": NORMAL, "a1111:Uniform": NORMAL, "comfyui:sgm_uniform": SGM,
    "a1111:SGM Uniform": SGM, "comfyui:simple": SIMPLE, "a1111:Simple": SIMPLE, "comfyui:ddim_uniform": WALK,
    "a1111:DDIM": WALK,
    "a1111:Turbo": lambda n: _of(np.rint(np.arange(n, 0, -1) * 1000 / n - 1)),
}  # fmt: skip
BETWEEN = {
    **dict.fromkeys(("comfyui:karras", "a1111:Karras"), lambda n: sampling().get_sigmas_karras(n, LOW, HIGH)),
    **dict.fromkeys(
        ("comfyui:exponential", "a1111:Exponential"), lambda n: sampling().get_sigmas_exponential(n, LOW, HIGH)
    ),
    "a1111:Polyexponential": lambda n: sampling().get_sigmas_polyexponential(n, LOW, HIGH),
    "a1111:Beta": lambda n: [*(LOW + _quantiles(n, True) * (HIGH - LOW)), 0.0],
    "comfyui:kl_optimal": lambda n: [*np.tan(np.linspace(math.atan(HIGH), math.atan(LOW), n)), 0.0],
    "a1111:KL Optimal": lambda n: np.tan(np.linspace(math.atan(HIGH), math.atan(LOW), n + 1)),
}


@pytest.mark.parametrize("steps", [4, 10])
@pytest.mark.parametrize("text", [*GRIDS, *BETWEEN])
def test_a_schedule_s_name_gives_the_levels_of_its_program(text, steps):
    path = DiscreteVP(BETAS)
    ends = {"sigma_min": LOW, "sigma_max": HIGH} if text in BETWEEN else {}
    found = path.ratio(SCHEDULES[text](path, steps, **ends))
    expected = torch.as_tensor(np.asarray({**GRIDS, **BETWEEN}[text](steps), dtype=np.float64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps", [4, 10])
def test_beta_lies_a_timestep_around_that_of_its_program(steps):
    """There times are rounded, and quantiles are of the timesteps 0 to 999; here they go on to sigma = 0, at -1."""
    found = SCHEDULES["comfyui:beta"](DiscreteVP(BETAS), steps)
    assert np.abs(found[:-1].numpy() - np.rint(_quantiles(steps, False) * 999)).max() <= 1.5


def test_linear_quadratic_is_that_of_mochi():
    found = SCHEDULES["comfyui:linear_quadratic"](RectifiedFlow(), 20)
    expected = torch.tensor([*linear_quadratic_schedule(20, 0.025), 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_automatic_is_the_schedule_that_a_sampler_is_shipped_with():
    """Uniform unless the program says so of a sampler; those of the second order and SDEs are shipped with another."""
    own = {"Karras": ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"),
           "Exponential": ("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE")}  # fmt: skip
    shipped = {name: schedule for schedule, names in own.items() for name in names}
    for name in (*WEBUI, "DPM++ 2M SDE Heun", "Restart", "HeunPP2", "LCM"):
        automatic = resolve_name("samplers", f"a1111:{name} Automatic")
        assert str(automatic) == str(resolve_name("samplers", f"a1111:{name} {shipped.get(name, 'Uniform')}"))

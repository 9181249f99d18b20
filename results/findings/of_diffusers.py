"""Findings about diffusers' schedulers, each made by its own `step` on a problem whose answer is known.

    python results/findings/of_diffusers.py [NAME ...]

"On a grid" sets the scheduler's levels in float64 and gives it the exact network; "as shipped" is what `set_timesteps`
makes of Stable Diffusion's betas. Levels are compared by the logarithm of a ratio of sigma/alpha. The rows of
results/audit-findings.md say what each finding means and when it holds.
"""

import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import exact
import torch
from exact import (
    MEAN,
    SPREAD,
    STABLE_DIFFUSION,
    Figures,
    karras,
    noise,
    rms,
    slope,
    stable_diffusion_ratios,
    state,
    vp,
)
from torch import Tensor

diffusers.logging.set_verbosity_error()
warnings.simplefilter("ignore")
TABLE = stable_diffusion_ratios()
ROUNDED = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "SASolverScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)
THIRD = "multistep_dpm_solver_third_order_update"


# solvers on a grid


def on_grid(scheduler: Any, ratios: Tensor) -> Any:
    """The scheduler on levels sigma/alpha that the caller gives, at their full precision."""
    scheduler.set_timesteps(len(ratios) - 1)
    scheduler.sigmas = ratios
    scheduler.timesteps = torch.arange(len(ratios) - 1)
    scheduler.set_begin_index(0)
    return scheduler


def order(name: str, update: str, counts: tuple[int, ...], **config: Any) -> Figures:
    """Order on the exact Gaussian over Karras grids from 20 to .05, from as many exact states as the method looks back.

    The update is called directly, because ``step`` casts to float32, and a rounding of 1e-6 would be read as an order.
    """
    errors, looks_back = [], config["solver_order"]
    for steps in counts:
        ratios = karras(steps, 20.0, 0.05)
        scheduler = on_grid(getattr(diffusers, name)(**STABLE_DIFFUSION, **config), ratios)
        outputs: list[Tensor] = []
        for i in range(steps):
            level = vp(float(ratios[i]))
            if i < looks_back:
                x = state(level)
            scheduler._step_index = i
            outputs = [*outputs, scheduler.convert_model_output(noise(x, level), sample=x)][-looks_back:]
            if len(outputs) == looks_back:
                x = getattr(scheduler, update)(outputs, sample=x)
        errors.append(rms(x - state(vp(float(ratios[-1])))))
    return {"order": slope(counts, errors), "least error": errors[-1]}


def deis_3() -> Figures:
    """DEIS of order 3 is of order 3 (an earlier edition of this page said 2.38)."""
    return order("DEISMultistepScheduler", "multistep_deis_third_order_update", (80, 160, 320), solver_order=3)


def dpmpp_3m() -> Figures:
    """DPM-Solver++(3M) is of order 2: its second difference is half of f''."""
    return order("DPMSolverMultistepScheduler", THIRD, (80, 160, 320, 640), solver_order=3)


def dpm_solver_3() -> Figures:
    """So is the multistep DPM-Solver of order 3."""
    config = {"solver_order": 3, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
    return order("DPMSolverMultistepScheduler", THIRD, (80, 160, 320, 640), **config)


def dpmpp_2m() -> Figures:
    """DPM-Solver++(2M), for comparison: order 2 with a smaller error than its 3M."""
    second = "multistep_dpm_solver_second_order_update"
    return order("DPMSolverMultistepScheduler", second, (80, 160, 320, 640), solver_order=2)


def _weak_errors(solver_order: int, counts: tuple[int, ...], turned: bool = False) -> list[float]:
    """Error of the output's variance, relative, by the exact law: each noise is followed by its own unit impulse.

    The updates are called directly, because ``step`` casts to float32. ``turned`` adds to each third-order update what
    turns the sign of the 1/2 in the coefficient of its second difference.
    """
    errors = []
    for steps in counts:
        ratios = karras(steps, 20.0, 0.05)
        make = diffusers.DPMSolverMultistepScheduler(
            **STABLE_DIFFUSION, algorithm_type="sde-dpmsolver++", solver_order=solver_order, lower_order_final=False
        )
        scheduler = on_grid(make, ratios)
        x = torch.zeros(steps + 1, len(SPREAD), dtype=torch.float64)  # the start, and one noise per step
        x[0] = _deviation(ratios[0])
        outputs: list[Tensor] = []
        for i in range(steps):
            alpha, sigma = vp(float(ratios[i]))
            outputs = [*outputs, alpha * SPREAD**2 * x / (alpha**2 * SPREAD**2 + sigma**2)][-3:]
            impulse = torch.zeros_like(x)
            impulse[i + 1] = 1.0
            scheduler._step_index = i
            if min(i + 1, solver_order) == 1:
                x = scheduler.dpm_solver_first_order_update(outputs[-1], sample=x, noise=impulse)
            elif min(i + 1, solver_order) == 2:
                x = scheduler.multistep_dpm_solver_second_order_update(outputs, sample=x, noise=impulse)
            else:
                x = scheduler.multistep_dpm_solver_third_order_update(outputs, sample=x, noise=impulse)
                if turned:
                    h, back, far = (float((ratios[j] / ratios[j + 1]).log()) for j in (i, i - 1, i - 2))
                    near, before = (outputs[2] - outputs[1]) * h / back, (outputs[1] - outputs[0]) * h / far
                    x = x + vp(float(ratios[i + 1]))[0] * (near - before) * h / (back + far)
        errors.append(float((x.square().sum(0) / _deviation(ratios[-1]) ** 2 - 1).abs().max()))
    return errors


def _deviation(ratio: Tensor) -> Tensor:
    alpha, sigma = vp(float(ratio))
    return (alpha**2 * SPREAD**2 + sigma**2).sqrt()


def sde_dpmpp_3() -> Figures:
    """`sde-dpmsolver++` of order 3 is of weak order 1: the 1/2 beside its second difference has the other sign."""
    counts = (80, 160, 320)
    as_is, turned, second = _weak_errors(3, counts), _weak_errors(3, counts, turned=True), _weak_errors(2, counts)
    return {
        "weak order": math.log2(as_is[-2] / as_is[-1]),
        "with the sign turned": math.log2(turned[-2] / turned[-1]),
        "of order 2": math.log2(second[-2] / second[-1]),
        "error at 320 steps over that of order 2": as_is[-1] / second[-1],
    }


# schedulers as shipped


def level_of(timestep: float) -> float:
    """sigma/alpha at a timestep of Stable Diffusion's table, between two by the logarithm."""
    low = min(max(math.floor(timestep), 0), 998)
    a, b = TABLE[low].log(), TABLE[low + 1].log()
    return float((a + (timestep - low) * (b - a)).exp())


def levels(scheduler: Any, steps: int) -> tuple[list[float], list[float], Tensor, int]:
    """What level the network is asked at and what level its input has, as sigma/alpha, at each call; and the end.

    The state is a pair (share of data, share of noise), and the network answers noise (0, 1) whatever it is asked.
    The last figure counts the calls whose answer moves nothing.
    """
    scheduler.set_timesteps(steps)
    asked, found, idle = [], [], 0
    start, model = level_of(float(scheduler.timesteps[0])), getattr(scheduler, "init_noise_sigma", 1.0)
    x = torch.tensor([[1.0, start]], dtype=torch.float64) / (math.hypot(1, start) if float(model) == 1.0 else 1.0)
    for t in scheduler.timesteps:
        y = scheduler.scale_model_input(x, t)
        asked.append(level_of(float(t)))
        found.append(float(y[0, 1] / y[0, 0]))
        new = scheduler.step(torch.tensor([[0.0, 1.0]], dtype=torch.float64), t, x).prev_sample
        idle += bool(torch.allclose(new, x, rtol=0, atol=1e-6))
        x = new
    return asked, found, x[0], idle


def gap(asked: list[float], found: list[float]) -> float:
    """The largest logarithm of a ratio between the level asked and the input's."""
    return max(abs(math.log(a / b)) for a, b in zip(asked, found, strict=True))


def errors_as_shipped(make: Callable[[], Any], counts: tuple[int, ...]) -> list[float]:
    """RMS distance to the exact flow where the network is first asked below sigma/alpha = 1/2."""
    errors = []
    for steps in counts:
        scheduler = make()
        scheduler.set_timesteps(steps)
        first = level_of(float(scheduler.timesteps[0]))
        x = state(vp(first)) if float(getattr(scheduler, "init_noise_sigma", 1.0)) == 1.0 else state((1.0, first))
        for t in scheduler.timesteps:
            ratio = level_of(float(t))
            if ratio < 0.5:
                errors.append(rms(scheduler.scale_model_input(x, t) - state(vp(ratio))))
                break
            x = scheduler.step(noise(scheduler.scale_model_input(x, t), vp(ratio)), t, x).prev_sample
    return errors


def ddim(**config: Any) -> Any:
    """DDIM without clipping, on Stable Diffusion's betas."""
    return diffusers.DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, **config)


def plms(**config: Any) -> Any:
    """PNDM as Stable Diffusion's pipelines use it: without its Runge-Kutta start."""
    return diffusers.PNDMScheduler(**STABLE_DIFFUSION, **{"skip_prk_steps": True, **config})


def _spacing(make: Callable[..., Any], spacing: str, steps: int, counts: tuple[int, ...]) -> Figures:
    asked, found, _, _ = levels(make(timestep_spacing=spacing), steps)
    errors = errors_as_shipped(lambda: make(timestep_spacing=spacing), counts)
    right = errors_as_shipped(lambda: make(timestep_spacing="leading"), counts[-1:])
    return {
        f"level off by, {steps} steps": gap(asked, found),
        f"error at {counts[0]} steps": errors[0],
        f"error at {counts[-1]} steps": errors[-1],
        f"error of leading at {counts[-1]} steps": right[0],
    }


def ddim_linspace() -> Figures:
    """DDIM with `linspace` steps to timesteps that are not its own."""
    _, _, end, _ = levels(ddim(timestep_spacing="linspace"), 10)
    return {**_spacing(ddim, "linspace", 10, (60, 480)), "noise left, 10 steps": float(end[1])}


def ddim_trailing() -> Figures:
    """DDIM with `trailing` where the number of steps does not divide 1,000."""
    even, found, _, _ = levels(ddim(timestep_spacing="trailing"), 100)
    return {**_spacing(ddim, "trailing", 120, (60, 480)), "level off by, 100 steps": gap(even, found)}


def plms_linspace() -> Figures:
    """PNDM with `linspace`."""
    return _spacing(plms, "linspace", 10, (60, 480))


def plms_trailing() -> Figures:
    """PNDM with `trailing`."""
    return _spacing(plms, "trailing", 120, (60, 480))


def unipc_bh1() -> Figures:
    """UniPC with `solver_type="bh1"` ends at sigma = 0, its default end, with NaN."""
    out: Figures = {}
    for kind in ("bh1", "bh2"):
        _, _, end, _ = levels(diffusers.UniPCMultistepScheduler(**STABLE_DIFFUSION, solver_type=kind), 10)
        out[f"{kind} ends with"] = "finite" if bool(end.isfinite().all()) else "NaN"
    return out


def sigma_min() -> Figures:
    """`final_sigmas_type="sigma_min"` leaves the noise of the least level, as documented."""
    out: Figures = {}
    for name in (
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
    ):
        for end in ("sigma_min", "zero"):
            scheduler = getattr(diffusers, name)(**STABLE_DIFFUSION, final_sigmas_type=end)
            out[f"{name}, {end}"] = float(levels(scheduler, 10)[2][1])
    return out


def no_clean_end() -> Figures:
    """DEIS and SA-Solver end at the least level and have no option to end at 0; PNDM's default does so, too."""
    out: Figures = {}
    for name in ("DEISMultistepScheduler", "SASolverScheduler"):
        config = {"tau_func": lambda t: 0} if name == "SASolverScheduler" else {}
        out[name] = float(levels(getattr(diffusers, name)(**STABLE_DIFFUSION, **config), 10)[2][1])
    out["PNDM"] = float(levels(plms(), 10)[2][1])
    out["PNDM, set_alpha_to_one"] = float(levels(plms(set_alpha_to_one=True), 10)[2][1])
    out["DDIM, set_alpha_to_one=False"] = float(levels(ddim(set_alpha_to_one=False), 10)[2][1])
    return out


def idle_end() -> Figures:
    """The last evaluation moves nothing where the last level is repeated, which steps_offset = 1 undoes."""
    out: Figures = {}
    for offset in (0, 1):
        for name, make in (("DDIM, set_alpha_to_one=False", ddim), ("PNDM", plms)):
            scheduler = make(steps_offset=offset, **({"set_alpha_to_one": False} if make is ddim else {}))
            scheduler.set_timesteps(10)
            t = scheduler.timesteps[-1]
            x = torch.tensor([1.0, level_of(float(t))], dtype=torch.float64) / math.hypot(1, level_of(float(t)))
            scheduler.ets, scheduler.counter = [torch.tensor([0.0, 1.0]).double()] * 4, 9
            y = scheduler.step(torch.tensor([0.0, 1.0], dtype=torch.float64), t, x).prev_sample
            out[f"{name}: last step moves, offset {offset}"] = float((y - x).abs().max())
    config = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}
    out["DPM-Solver++(2M), Karras, sigma_min: idle evaluations"] = float(
        levels(diffusers.DPMSolverMultistepScheduler(**STABLE_DIFFUSION, **config), 20)[3]
    )
    return out


def sigma_min_3m() -> Figures:
    """With Karras's grid and `sigma_min` the third-order multisteps divide by the step that is repeated."""
    out: Figures = {}
    for algorithm in ("dpmsolver++", "sde-dpmsolver++"):
        config = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "algorithm_type": algorithm}
        for steps in (10, 25):
            make = diffusers.DPMSolverMultistepScheduler(**STABLE_DIFFUSION, solver_order=3, **config)
            end = levels(make, steps)[2]
            out[f"{algorithm}, {steps} steps"] = "finite" if bool(end.isfinite().all()) else "NaN"
    return out


def _asked_gap(name: str, steps: int, sigmas: str = "karras") -> float:
    """Largest gap between the levels of the timesteps that the network is told and the sigmas that are stepped from."""
    scheduler = getattr(diffusers, name)(**STABLE_DIFFUSION, **{f"use_{sigmas}_sigmas": True})
    scheduler.set_timesteps(steps)
    stages = 2 if name.startswith("KDPM2") else 1  # its stages in the middle of a step have levels of their own
    pairs = zip(scheduler.timesteps[::stages], scheduler.sigmas[::stages], strict=False)
    return max(abs(math.log(level_of(float(t)) / float(s))) for t, s in pairs if float(s) > 0)


def karras_timesteps() -> Figures:
    """With Karras, exponential or beta sigmas some schedulers round the timesteps that the network is told."""
    out: Figures = {f"{name}, {steps} steps": _asked_gap(name, steps) for name in ROUNDED for steps in (40, 60)}
    for sigmas in ("exponential", "beta"):
        out |= {f"{name}, {sigmas}, 40 steps": _asked_gap(name, 40, sigmas) for name in ROUNDED}
    return out


def karras_not_rounded() -> Figures:
    """Euler, Heun and LMS do not round them."""
    names = ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler")
    return {f"{name}, 60 steps": _asked_gap(name, 60) for name in names}


def beta_repeats() -> Figures:
    """Beta sigmas: two first timesteps that are rounded to one integer, and a run that begins at the second of them."""
    out: Figures = {}
    for name in ROUNDED[:5]:
        for begun in (False, True):
            counts, said = [], ""
            for steps in range(2, 61):
                scheduler = getattr(diffusers, name)(**STABLE_DIFFUSION, use_beta_sigmas=True)
                scheduler.set_timesteps(steps)
                if begun:
                    scheduler.set_begin_index(0)
                x = torch.zeros(1, 1)
                try:
                    for t in scheduler.timesteps:
                        x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
                except (IndexError, AssertionError) as error:
                    said = said or type(error).__name__
                    counts.append(steps)
            if begun:
                out[f"{name}: numbers of steps up to 60 that raise after set_begin_index(0)"] = float(len(counts))
            else:
                out |= {f"{name}: least number of steps that raises": float(min(counts)), f"{name} raises": said}
    scheduler = diffusers.DPMSolverMultistepScheduler(**STABLE_DIFFUSION, use_beta_sigmas=True)
    scheduler.set_timesteps(32)
    return out | {"first timesteps of 32": str(scheduler.timesteps[:3].tolist())}


def leading() -> Figures:
    """`leading` begins at a level that depends on the number of steps."""
    out: Figures = {"highest level of the table": float(TABLE[-1])}
    for offset in (0, 1):
        scheduler = ddim(steps_offset=offset)
        scheduler.set_timesteps(10)
        out[f"first level of 10 steps, offset {offset}"] = level_of(float(scheduler.timesteps[0]))
    for steps in (10, 15):
        scheduler = diffusers.UniPCMultistepScheduler(**STABLE_DIFFUSION, timestep_spacing="leading", steps_offset=1)
        scheduler.set_timesteps(steps)
        out[f"UniPC's first timestep, {steps} steps, offset 1"] = float(scheduler.timesteps[0])
    return out


def trailing_count() -> Figures:
    """`trailing` of 61 steps has 62 timesteps, the last -1."""
    out: Figures = {}
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler"):
        scheduler = getattr(diffusers, name)(**STABLE_DIFFUSION, timestep_spacing="trailing")
        scheduler.set_timesteps(61)
        out[f"{name}: timesteps"], out[f"{name}: last"] = (
            float(len(scheduler.timesteps)),
            float(scheduler.timesteps[-1]),
        )
    return out


def pndm_stages() -> Figures:
    """The stages of PNDM's Runge-Kutta start stand at timesteps that are rounded down."""
    scheduler = plms(skip_prk_steps=False)
    scheduler.set_timesteps(40)
    return {
        "timesteps asked first": str(scheduler.timesteps[:6].tolist()),
        "middle of the first step": 975 - 1000 / 40 / 2,
    }


def ipndm() -> Figures:
    """IPNDM starts at alpha = 0 and divides by max(alpha, 1e-8): the data's mean is lost in the first step."""
    errors, counts = [], (80, 160, 320)
    for mean in (MEAN, 0 * MEAN):
        for steps in counts:
            scheduler = diffusers.IPNDMScheduler()
            scheduler.set_timesteps(steps)
            scheduler.betas, scheduler.alphas = (
                torch.sin(torch.linspace(1, 0, steps + 1).double() * math.pi / 2),
                torch.cos(torch.linspace(1, 0, steps + 1).double() * math.pi / 2),
            )
            z = exact.START
            x = z.clone()  # alpha = 0: noise alone
            for i, t in enumerate(scheduler.timesteps):
                alpha, sigma = float(scheduler.alphas[i]), float(scheduler.betas[i])
                if sigma < 0.3:
                    break
                eps = sigma * (x - alpha * mean) / (alpha**2 * SPREAD**2 + sigma**2)
                data = mean + alpha * SPREAD**2 * (x - alpha * mean) / (alpha**2 * SPREAD**2 + sigma**2)
                x = scheduler.step(alpha * eps - sigma * data, t, x).prev_sample  # it takes the network's v
            errors.append(rms(x - alpha * mean - (alpha**2 * SPREAD**2 + sigma**2).sqrt() * z))
    return {"order": slope(counts, errors[:3]), "order, data of mean 0": slope(counts, errors[3:])}


def euler_churn() -> Figures:
    """Euler with `s_churn` adds its noise after the network was asked: the noise added is never removed."""
    scheduler = diffusers.EulerDiscreteScheduler(**STABLE_DIFFUSION)
    scheduler.set_timesteps(20)
    t, sigma = scheduler.timesteps[5], float(scheduler.sigmas[5])
    scheduler.set_begin_index(5)
    x = torch.tensor([1.0, sigma], dtype=torch.float64).expand(20000, 2).clone()
    answer = torch.tensor([0.0, 1.0], dtype=torch.float64).expand_as(x)
    generator = torch.Generator().manual_seed(0)
    y = scheduler.step(answer, t, x, s_churn=2.0, generator=generator).prev_sample
    return {"standard deviation left, in units of the next sigma": float(y[:, 0].std()) / float(scheduler.sigmas[6])}


FINDINGS = [
    deis_3, dpmpp_3m, dpm_solver_3, dpmpp_2m, sde_dpmpp_3, ddim_linspace, ddim_trailing, plms_linspace, plms_trailing,
    unipc_bh1, sigma_min, no_clean_end, idle_end, sigma_min_3m, karras_timesteps, karras_not_rounded, beta_repeats,
    leading, trailing_count, pndm_stages, ipndm, euler_churn,
]  # fmt: skip

if __name__ == "__main__":
    exact.command(FINDINGS, sys.argv[1:])

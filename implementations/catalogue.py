"""Every entry by name: literal tables that import no torch; an entry is resolved when it is used.

Adding a method is one function and one line in its table.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from implementations.entry import Catalogue, Entry, LossEntry, NmsEntry, SamplerEntry, ScheduleEntry

PATHS = Catalogue("paths", Entry, [
    Entry("vp", "implementations.diffusion.path:VP", "variance preserving, linear beta", "2011.13456 (eq. 11)"),
    Entry("cosine", "implementations.diffusion.path:Cosine", "variance preserving, squared-cosine alpha-bar", "2102.09672 (eq. 17)"),
    Entry("subvp", "implementations.diffusion.path:SubVP", "sub-variance preserving, linear beta", "2011.13456 (eq. 12)"),
    Entry("ve", "implementations.diffusion.path:VE", "variance exploding, geometric sigma", "2011.13456 (eq. 9)"),
    Entry("edm", "implementations.diffusion.path:EDM", "alpha = 1, sigma = t", "2206.00364 (table 1)"),
    Entry("rectified_flow", "implementations.diffusion.path:RectifiedFlow", "alpha = 1 - t, sigma = t", "2209.03003"),
    Entry("trigflow", "implementations.diffusion.path:TrigFlow", "alpha = cos t, sigma = sin t", "2410.11081"),
    Entry("discrete_vp", "implementations.diffusion.discrete:DiscreteVP", "a table of betas, interpolated", "2006.11239"),
])  # fmt: skip

_GRID = "implementations.diffusion.schedules."
SCHEDULES = Catalogue("schedules", ScheduleEntry, [
    # in t
    ScheduleEntry("uniform", _GRID + "times:uniform", "equal steps of t"),
    ScheduleEntry("quadratic", _GRID + "times:quadratic", "equal steps of the root of t", "2010.02502 (app. D.2)"),
    ScheduleEntry("beta", _GRID + "times:beta", "quantiles of a beta distribution in t", "2407.12173", others="ComfyUI: beta"),
    # in the noise level
    ScheduleEntry("karras", _GRID + "levels:karras", "equal steps of (sigma/alpha)^(1/rho)", "2206.00364 (eq. 5)"),
    ScheduleEntry("log_snr", _GRID + "levels:log_snr", "equal steps of log alpha/sigma", "2206.00927"),
    ScheduleEntry("exponential", _GRID + "levels:log_snr", "log_snr", others="k-diffusion: get_sigmas_exponential"),
    ScheduleEntry("polyexponential", _GRID + "levels:polyexponential", "equal steps of (log sigma/alpha)^(1/rho)",
                  others="k-diffusion: get_sigmas_polyexponential"),
    ScheduleEntry("cosine", _GRID + "levels:cosine", "equal steps of the cosine path's time", "2102.09672 (eq. 17)"),
    ScheduleEntry("zero_snr", _GRID + "zero_snr:zero_snr", "timesteps of a table of zero terminal SNR", "2305.08891",
                  others="diffusers: rescale_betas_zero_snr"),
    ScheduleEntry("ays", _GRID + "tables:ays", "Align Your Steps, published levels", "2404.14507", others="diffusers: AysSchedules"),
    # in the time of the flow
    ScheduleEntry("sd3_shift", _GRID + "flow:sd3_shift", "s u / (1 + (s - 1) u)", "2403.03206 (eq. 23)", others="diffusers: shift"),
    ScheduleEntry("dynamic_shift", _GRID + "flow:dynamic_shift", "a shift by the size of the image",
                  others="diffusers: use_dynamic_shifting"),
    ScheduleEntry("logit_normal", _GRID + "flow:logit_normal", "quantiles of the logit-normal training density", "2403.03206 (eq. 19)"),
    ScheduleEntry("linear_quadratic", _GRID + "flow:linear_quadratic", "linear, then quadratic", "2410.13720", others="ComfyUI: linear_quadratic"),
    # on the timesteps of training
    ScheduleEntry("leading", _GRID + "timesteps:leading", "multiples of floor(N/steps)", "2305.08891 (table 2)"),
    ScheduleEntry("trailing", _GRID + "timesteps:trailing", "from the last timestep down", "2305.08891 (table 2)"),
    ScheduleEntry("linspace", _GRID + "timesteps:linspace", "from the last timestep to the first", "2305.08891 (table 2)"),
    ScheduleEntry("simple", _GRID + "timesteps:simple", "trailing, rounded the other way", others="ComfyUI: simple"),
    ScheduleEntry("sgm_uniform", _GRID + "timesteps:sgm_uniform", "trailing, not rounded", others="ComfyUI: sgm_uniform"),
    # learnt
    ScheduleEntry("gits", _GRID + "gits:gits", "the cheapest way through a fine grid", "2405.14326",
                  prepare=_GRID + "gits:prepare"),
    ScheduleEntry("optimal", _GRID + "gits:gits", "gits", "2405.14326", prepare=_GRID + "gits:prepare"),
])  # fmt: skip

_RK = ("sigma", "lambda", "angle", "t")
_S = "implementations.samplers."
_D, _K = "implementations.peers.diffusers_schedulers:", "implementations.peers.k_diffusion_samplers:"
_diffusers = partial(SamplerEntry, family="peer", package="diffusers")
_k_diffusion = partial(SamplerEntry, family="peer", package="k-diffusion")
SAMPLERS = Catalogue("samplers", SamplerEntry, [
    # ancestral
    SamplerEntry("ddim", _S + "ancestral:ddim", "constant x0 over a step, eta of noise", "2010.02502 (eq. 12)",
                 family="ancestral", order=1, coordinate="lambda", noisy=("eta",)),
    SamplerEntry("ddpm", _S + "ancestral:ddpm", "ancestral sampling", "2006.11239 (alg. 2)",
                 family="ancestral", order=1, stochastic=True, coordinate="lambda",
                 others="diffusers: DDPMScheduler(variance_type='fixed_small', 'fixed_large' or 'learned_range')"),
    SamplerEntry("euler_ancestral", _S + "ancestral:ddim", "ddim, eta = 1", "2006.11239 (alg. 2)",
                 family="ancestral", order=1, coordinate="sigma", noisy=("eta",), preset={"eta": 1.0},
                 others="diffusers: EulerAncestralDiscreteScheduler; k-diffusion: sample_euler_ancestral"),
    SamplerEntry("dpm_2_ancestral", _S + "ancestral_steps:dpm_2_ancestral", "a midpoint step on eps, and noise", "2206.00927 (alg. 1)",
                 family="ancestral", order=2, coordinate="sigma", stages=2, noisy=("eta",),
                 others="diffusers: KDPM2AncestralDiscreteScheduler; k-diffusion: sample_dpm_2_ancestral"),
    SamplerEntry("dpmpp_2s_ancestral", _S + "ancestral_steps:dpmpp_2s_ancestral", "a step of dpmpp_2s, and noise", "2211.01095 (alg. 1)",
                 family="ancestral", order=2, coordinate="lambda", stages=2, noisy=("eta",),
                 others="k-diffusion: sample_dpmpp_2s_ancestral"),
    # Runge-Kutta
    SamplerEntry("euler", _S + "runge_kutta:euler", "explicit Euler", "2206.00364",
                 family="runge_kutta", order=1, coordinate="sigma", coordinates=_RK),
    SamplerEntry("heun", _S + "runge_kutta:heun", "explicit trapezoid", "2206.00364 (alg. 1)",
                 family="runge_kutta", order=2, coordinate="sigma", coordinates=_RK, stages=2),
    SamplerEntry("midpoint", _S + "runge_kutta:midpoint", "explicit midpoint, in log-SNR", "2206.00927 (alg. 1)",
                 family="runge_kutta", order=2, coordinate="sigma", coordinates=_RK, stages=2,
                 others="diffusers: KDPM2DiscreteScheduler; k-diffusion: sample_dpm_2"),
    SamplerEntry("bosh3", _S + "runge_kutta:bosh3", "Bogacki-Shampine, fixed steps", "10.1016/0893-9659(89)90079-7",
                 family="runge_kutta", order=3, coordinate="sigma", coordinates=_RK, stages=3),
    SamplerEntry("rk4", _S + "runge_kutta:rk4", "Kutta's fourth order", "Kutta (1901)",
                 family="runge_kutta", order=4, coordinate="sigma", coordinates=_RK, stages=4),
    SamplerEntry("edm_euler", _S + "edm:edm_euler", "Euler in sigma with churn", "2206.00364 (alg. 2)",
                 family="edm", order=1, stochastic=True, coordinate="sigma", noisy=("s_churn",), preset={"s_churn": 10.0},
                 others="diffusers: EulerDiscreteScheduler; k-diffusion: sample_euler"),
    SamplerEntry("edm_heun", _S + "edm:edm_heun", "Heun in sigma with churn", "2206.00364 (alg. 2)",
                 family="edm", order=2, stochastic=True, coordinate="sigma", stages=2, noisy=("s_churn",), preset={"s_churn": 10.0},
                 others="diffusers: HeunDiscreteScheduler; k-diffusion: sample_heun"),
    # multistep in sigma
    SamplerEntry("lms", _S + "adams:lms", "Adams-Bashforth in sigma, exact weights", "2204.13902 (rhoAB)",
                 family="multistep", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4},
                 others="diffusers: LMSDiscreteScheduler; k-diffusion: sample_lms"),
    SamplerEntry("deis_rhoab", _S + "adams:lms", "lms", "2204.13902",
                 family="multistep", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4}),
    SamplerEntry("ipndm_v", _S + "adams:lms", "lms", "2312.00094",
                 family="multistep", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4},
                 others="diff-sampler: ipndm_v_sampler, other weights at orders 3 and 4"),
    SamplerEntry("ipndm", _S + "adams:ipndm", "Adams-Bashforth in sigma, weights of equal steps", "2204.13902",
                 family="multistep", coordinate="sigma", orders={1: 1, 2: 2, 3: 2, 4: 2}, uniform={1: 1, 2: 2, 3: 3, 4: 4},
                 others="diff-sampler: ipndm_sampler"),
    SamplerEntry("pndm", _S + "pndm:pndm", "Runge-Kutta starts, then ipndm", "2202.09778 (alg. 2)",
                 family="multistep", order=2, coordinate="t", coordinates=("t", "sigma"),
                 others="diffusers: PNDMScheduler"),
    SamplerEntry("plms", _S + "pndm:plms", "a trapezoid, then ipndm", "2202.09778 (eq. 12)",
                 family="multistep", order=2, coordinate="sigma", others="diffusers: PNDMScheduler(skip_prk_steps=True)"),
    SamplerEntry("deis_tab", _S + "deis:deis_tab", "eps a polynomial in t, integrated exactly", "2204.13902 (eq. 14)",
                 family="multistep", coordinate="t", orders={1: 1, 2: 2, 3: 3, 4: 4}),
    SamplerEntry("deis_rhork", _S + "deis:deis_rhork", "Runge-Kutta in sigma, as many stages as its order", "2204.13902",
                 family="multistep", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4}),
    # exponential integrators
    SamplerEntry("dpm_solver_1", _S + "runge_kutta:euler", "DDIM, Euler in sigma", "2206.00927 (eq. 3.7)",
                 family="exponential", order=1, coordinate="sigma", preset={"coordinate": "sigma"},
                 others="diffusers: DPMSolverMultistepScheduler(algorithm_type='dpmsolver', solver_order=1)"),
    SamplerEntry("dpm_solver_2", _S + "dpm_solver:dpm_solver_2", "one stage, on eps", "2206.00927 (alg. 1)",
                 family="exponential", order=2, coordinate="lambda", stages=2,
                 others="diffusers: DPMSolverSinglestepScheduler(algorithm_type='dpmsolver', solver_order=2), two of its steps are one"),
    SamplerEntry("dpm_solver_3", _S + "dpm_solver:dpm_solver_3", "two stages, on eps", "2206.00927 (alg. 2)",
                 family="exponential", order=3, coordinate="lambda", stages=3,
                 others="diffusers: DPMSolverSinglestepScheduler(algorithm_type='dpmsolver', solver_order=3, solver_type='heun'), three of its steps are one"),
    SamplerEntry("dpm_solver_multistep", _S + "dpm_solver:dpm_solver_multistep", "exponential Adams-Bashforth on eps", "2211.01095 (sec. 4.2)",
                 family="exponential", coordinate="lambda", orders={1: 1, 2: 2, 3: 3},
                 others="diffusers: DPMSolverMultistepScheduler(algorithm_type='dpmsolver'), whose order 3 is half_curvature"),
    SamplerEntry("dpmpp_2s", _S + "dpm_solver:dpmpp_2s", "one stage, on x0", "2211.01095 (alg. 1)",
                 family="exponential", order=2, coordinate="lambda", stages=2,
                 others="diffusers: DPMSolverSinglestepScheduler(solver_order=2), two of its steps are one; "
                        "k-diffusion: sample_dpmpp_2s_ancestral(eta=0)"),
    SamplerEntry("dpmpp_3s", _S + "dpm_solver:dpmpp_3s", "two stages, on x0", "2211.01095",
                 family="exponential", order=3, coordinate="lambda", stages=3,
                 others="diffusers: DPMSolverSinglestepScheduler(solver_order=3, solver_type='heun'), three of its steps are one"),
    SamplerEntry("dpmpp_2m", _S + "dpm_solver:dpmpp_2m", "two-step exponential integrator on x0", "2211.01095 (alg. 2)",
                 family="exponential", order=2, coordinate="lambda",
                 others="diffusers: DPMSolverMultistepScheduler(solver_order=2); k-diffusion: sample_dpmpp_2m"),
    SamplerEntry("dpmpp_3m", _S + "dpm_solver:dpmpp_3m", "three-step exponential integrator on x0", "2211.01095",
                 family="exponential", order=3, coordinate="lambda",
                 others="diffusers: DPMSolverMultistepScheduler(solver_order=3) is half_curvature"),
    SamplerEntry("exp_heun", _S + "runge_kutta:heun", "exponential Heun on x0", "2308.02157 (alg. 1)",
                 family="exponential", order=2, coordinate="lambda", stages=2, preset={"coordinate": "lambda"},
                 others="ComfyUI: exp_heun_2_x0"),
    # stochastic differential equations
    SamplerEntry("euler_maruyama", _S + "sde:euler_maruyama", "the reverse SDE in t, eta of its noise", "2011.13456 (eq. 6)",
                 family="sde", order=1, noisy=("eta",), coordinate="t"),
    SamplerEntry("reverse_diffusion", _S + "sde:reverse_diffusion", "the reverse SDE in the forward one's steps", "2011.13456 (eq. 46)",
                 family="sde", order=1, stochastic=True, coordinate="t"),
    SamplerEntry("predictor_corrector", _S + "langevin:predictor_corrector", "an SDE's step, then Langevin", "2011.13456 (alg. 2-5)",
                 family="sde", stochastic=True, coordinate="t", stages=2, affine=False),
    SamplerEntry("annealed_langevin", _S + "langevin:annealed_langevin", "Langevin at one level after another", "1907.05600 (alg. 1)",
                 family="sde", stochastic=True, coordinate="sigma", stages=5),
    # stochastic exponential integrators
    SamplerEntry("dpmpp_sde", _S + "dpm_solver_sde:dpmpp_sde", "one stage on x0, two increments of noise", "2211.01095 (alg. 1)",
                 family="stochastic_exponential", order=2, coordinate="lambda", stages=2, noisy=("eta",),
                 others="diffusers: DPMSolverSDEScheduler; k-diffusion: sample_dpmpp_sde; their noise of the step holds the stage's"),
    SamplerEntry("dpmpp_2m_sde", _S + "dpm_solver_sde:dpmpp_2m_sde", "two-step on x0, with noise", "2211.01095 (app. B)",
                 family="stochastic_exponential", order=2, coordinate="lambda", noisy=("eta",),
                 others="diffusers: DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', solver_order=2); "
                        "k-diffusion: sample_dpmpp_2m_sde"),
    SamplerEntry("dpmpp_3m_sde", _S + "dpm_solver_sde:dpmpp_3m_sde", "three-step on x0, with noise", "2211.01095 (app. B)",
                 family="stochastic_exponential", order=2, coordinate="lambda", noisy=("eta",),
                 others="diffusers: DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', solver_order=3) and "
                        "k-diffusion: sample_dpmpp_3m_sde are half_curvature"),
    SamplerEntry("sa_solver", _S + "sa_solver:sa_solver", "stochastic Adams predictor and corrector", "2309.05019 (alg. 1)",
                 family="stochastic_exponential", coordinate="lambda", noisy=("tau",), orders={1: 1, 2: 2, 3: 2, 4: 2},
                 others="diffusers: SASolverScheduler is few_steps"),
    SamplerEntry("er_sde", _S + "er_sde:er_sde", "x0 a polynomial in sigma/alpha, noise by a scale", "2309.06169 (alg. 1 to 3)",
                 family="stochastic_exponential", coordinate="sigma", noisy=("scale",), orders={1: 1, 2: 2, 3: 2},
                 others="ComfyUI: er_sde is divided, its integrals are sums of 200 rectangles"),
    SamplerEntry("seeds", _S + "seeds:seeds", "exponential Runge-Kutta with noise in its stages", "2305.14267 (alg. 1 to 4)",
                 family="stochastic_exponential", coordinate="lambda", stages=3, noisy=("eta",), orders={1: 1, 2: 2, 3: 2},
                 others="ComfyUI: seeds_2, seeds_3 are prediction='data'"),
    SamplerEntry("gddim", _S + "gddim:gddim", "ddim with noise at a rate, or multistep in t without", "2206.05564 (alg. 1)",
                 family="stochastic_exponential", coordinate="t", noisy=("eta",), orders={1: 1, 2: 2, 3: 3, 4: 4}),
    # flow
    SamplerEntry("flow_euler", _S + "runge_kutta:euler", "Euler in t", "2209.03003",
                 family="flow", order=1, coordinate="t", preset={"coordinate": "t"},
                 others="diffusers: FlowMatchEulerDiscreteScheduler"),
    SamplerEntry("flow_heun", _S + "runge_kutta:heun", "Heun in t", "2209.03003",
                 family="flow", order=2, coordinate="t", stages=2, preset={"coordinate": "t"},
                 others="diffusers: FlowMatchHeunDiscreteScheduler"),
    SamplerEntry("flow_stochastic", _S + "flow:flow_stochastic", "the data predicted, noised again", "",
                 family="flow", stochastic=True, coordinate="lambda", noisy=("fraction",),
                 others="diffusers: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)"),
    SamplerEntry("sit_sde", _S + "flow:sit_sde", "reverse SDE of any diffusion, in t", "2401.08740",
                 family="flow", order=1, stochastic=True, coordinate="t"),
    # few steps
    # diffusers
    _diffusers("diffusers_ddim", _D + "ddim", "DDIMScheduler", order=1, coordinate="lambda", noisy=("eta",)),
    _diffusers("diffusers_ddim_inversion", _D + "ddim_inversion", "DDIMInverseScheduler", order=1, coordinate="lambda", ascending=True),
    _diffusers("diffusers_ddpm", _D + "ddpm", "DDPMScheduler", order=1, coordinate="lambda", stochastic=True),
    _diffusers("diffusers_plms", _D + "plms", "PNDMScheduler, skip_prk_steps", coordinate="sigma"),
    _diffusers("diffusers_ipndm", _D + "ipndm", "IPNDMScheduler", order=2, coordinate="sigma"),
    _diffusers("diffusers_euler", _D + "euler", "EulerDiscreteScheduler", order=1, coordinate="sigma", noisy=("s_churn",)),
    _diffusers("diffusers_heun", _D + "heun", "HeunDiscreteScheduler", order=2, coordinate="sigma", stages=2),
    _diffusers("diffusers_dpm_2", _D + "dpm_2", "KDPM2DiscreteScheduler", order=2, coordinate="sigma", stages=2),
    _diffusers("diffusers_lms", _D + "lms", "LMSDiscreteScheduler", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4}),
    _diffusers("diffusers_euler_ancestral", _D + "euler_ancestral", "EulerAncestralDiscreteScheduler", order=1, coordinate="sigma", stochastic=True),
    _diffusers("diffusers_dpm_2_ancestral", _D + "dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", order=1, coordinate="sigma", stages=2, stochastic=True),
    _diffusers("diffusers_deis", _D + "deis", "DEISMultistepScheduler", coordinate="sigma", orders={1: 1, 2: 2, 3: 3}),
    _diffusers("diffusers_dpm_solver_2", _D + "dpm_solver_2", "DPMSolverSinglestepScheduler, dpmsolver, solver_order 2", order=2, coordinate="lambda", stages=2),
    _diffusers("diffusers_dpm_solver_3", _D + "dpm_solver_3", "DPMSolverSinglestepScheduler, dpmsolver, solver_order 3", order=3, coordinate="lambda", stages=3),
    _diffusers("diffusers_dpm_solver_multistep_2", _D + "dpm_solver_multistep_2", "DPMSolverMultistepScheduler, dpmsolver, solver_order 2", order=2, coordinate="lambda"),
    _diffusers("diffusers_dpm_solver_multistep_3", _D + "dpm_solver_multistep_3", "DPMSolverMultistepScheduler, dpmsolver, solver_order 3", order=3, coordinate="lambda"),
    _diffusers("diffusers_dpmpp_2s", _D + "dpmpp_2s", "DPMSolverSinglestepScheduler, solver_order 2", order=2, coordinate="lambda", stages=2),
    _diffusers("diffusers_dpmpp_3s", _D + "dpmpp_3s", "DPMSolverSinglestepScheduler, solver_order 3", order=3, coordinate="lambda", stages=3),
    _diffusers("diffusers_dpmpp_2m", _D + "dpmpp_2m", "DPMSolverMultistepScheduler, solver_order 2", order=2, coordinate="lambda"),
    _diffusers("diffusers_dpmpp_3m", _D + "dpmpp_3m", "DPMSolverMultistepScheduler, solver_order 3", order=3, coordinate="lambda"),
    _diffusers("diffusers_dpmpp_sde", _D + "dpmpp_sde", "DPMSolverSDEScheduler", order=1, coordinate="lambda", stages=2, stochastic=True),
    _diffusers("diffusers_dpmpp_2m_sde", _D + "dpmpp_2m_sde", "DPMSolverMultistepScheduler, sde-dpmsolver++, solver_order 2", order=2, coordinate="lambda", stochastic=True),
    _diffusers("diffusers_dpmpp_3m_sde", _D + "dpmpp_3m_sde", "DPMSolverMultistepScheduler, sde-dpmsolver++, solver_order 3", order=2, coordinate="lambda", stochastic=True),
    _diffusers("diffusers_unipc_bh1", _D + "unipc_bh1", "UniPCMultistepScheduler, bh1", coordinate="lambda", orders={1: 2, 2: 3, 3: 4}),
    _diffusers("diffusers_unipc_bh2", _D + "unipc_bh2", "UniPCMultistepScheduler, bh2", coordinate="lambda", orders={1: 2, 2: 3, 3: 4}),
    _diffusers("diffusers_sa_solver", _D + "sa_solver", "SASolverScheduler", order=1, coordinate="lambda", noisy=("tau",)),
    _diffusers("diffusers_edm_euler", _D + "edm_euler", "EDMEulerScheduler", order=1, coordinate="sigma", noisy=("s_churn",)),
    _diffusers("diffusers_edm_dpmpp_2m", _D + "edm_dpmpp_2m", "EDMDPMSolverMultistepScheduler", order=2, coordinate="lambda"),
    _diffusers("diffusers_flow_euler", _D + "flow_euler", "FlowMatchEulerDiscreteScheduler", order=1, coordinate="sigma"),
    _diffusers("diffusers_flow_heun", _D + "flow_heun", "FlowMatchHeunDiscreteScheduler", order=2, coordinate="sigma", stages=2),
    _diffusers("diffusers_flow_stochastic", _D + "flow_stochastic", "FlowMatchEulerDiscreteScheduler, stochastic_sampling", stochastic=True),
    _diffusers("diffusers_consistency", _D + "consistency", "CMStochasticIterativeScheduler", stochastic=True),
    _diffusers("diffusers_lcm", _D + "lcm", "LCMScheduler", stochastic=True),
    # k-diffusion
    _k_diffusion("k_diffusion_euler", _K + "euler", "sample_euler", order=1, coordinate="sigma", noisy=("s_churn",)),
    _k_diffusion("k_diffusion_heun", _K + "heun", "sample_heun", order=2, coordinate="sigma", stages=2, noisy=("s_churn",)),
    _k_diffusion("k_diffusion_dpm_2", _K + "dpm_2", "sample_dpm_2", order=2, coordinate="sigma", stages=2, noisy=("s_churn",)),
    _k_diffusion("k_diffusion_lms", _K + "lms", "sample_lms", coordinate="sigma", orders={1: 1, 2: 2, 3: 3, 4: 4}),
    _k_diffusion("k_diffusion_dpm_adaptive", _K + "dpm_adaptive", "sample_dpm_adaptive", coordinate="lambda", adaptive=True, affine=False, noisy=("eta",)),
    _k_diffusion("k_diffusion_euler_ancestral", _K + "euler_ancestral", "sample_euler_ancestral", order=1, coordinate="sigma", noisy=("eta",)),
    _k_diffusion("k_diffusion_dpm_2_ancestral", _K + "dpm_2_ancestral", "sample_dpm_2_ancestral", order=1, coordinate="sigma", stages=2, noisy=("eta",)),
    _k_diffusion("k_diffusion_dpmpp_2s_ancestral", _K + "dpmpp_2s_ancestral", "sample_dpmpp_2s_ancestral", order=1, coordinate="lambda", stages=2, noisy=("eta",)),
    _k_diffusion("k_diffusion_dpmpp_sde", _K + "dpmpp_sde", "sample_dpmpp_sde", order=1, coordinate="lambda", stages=2, noisy=("eta",)),
    _k_diffusion("k_diffusion_dpmpp_2m", _K + "dpmpp_2m", "sample_dpmpp_2m", order=2, coordinate="lambda"),
    _k_diffusion("k_diffusion_dpmpp_2m_sde", _K + "dpmpp_2m_sde", "sample_dpmpp_2m_sde", order=2, coordinate="lambda", noisy=("eta",)),
    _k_diffusion("k_diffusion_dpmpp_3m_sde", _K + "dpmpp_3m_sde", "sample_dpmpp_3m_sde", order=2, coordinate="lambda", noisy=("eta",)),
])  # fmt: skip

_LOSSES = "implementations.boxes.losses."
LOSSES = Catalogue("losses", LossEntry, [
    LossEntry("l1", _LOSSES + "coordinates:l1", "sum of the coordinates' absolute differences", family="coordinates"),
    LossEntry("smooth_l1", _LOSSES + "coordinates:smooth_l1", "L1, quadratic near 0", "1504.08083 (eq. 3)", family="coordinates"),
    LossEntry("bounded_iou", _LOSSES + "coordinates:bounded_iou", "the IoU that each coordinate bounds", "1711.00164", family="coordinates"),
    LossEntry("iou", _LOSSES + "overlap:iou", "1 - IoU", "1902.09630 (sec. 1)", family="overlap"),
    LossEntry("iou_log", _LOSSES + "overlap:iou_log", "-log IoU", "1608.01471", family="overlap"),
    LossEntry("giou", _LOSSES + "overlap:giou", "IoU and the empty part of the enclosing box", "1902.09630", family="overlap"),
    LossEntry("diou", _LOSSES + "overlap:diou", "IoU and the centre distance", "1911.08287 (eq. 7)", family="overlap"),
    LossEntry("ciou", _LOSSES + "overlap:ciou", "DIoU and the aspect ratio", "1911.08287 (eq. 10)", family="overlap"),
    LossEntry("eiou", _LOSSES + "shape:eiou", "DIoU and the difference of both sides", "2101.08158", family="shape"),
    LossEntry("siou", _LOSSES + "shape:siou", "distance weighed by its angle, and shape", "2205.12740", family="shape"),
    LossEntry("shape_iou", _LOSSES + "shape:shape_iou", "distance and shape weighed by the target's shape", "2312.17663", family="shape"),
    LossEntry("mpdiou", _LOSSES + "shape:mpdiou", "distances of two corners", "2307.07662", family="shape"),
    LossEntry("piou", _LOSSES + "shape:piou", "distances of the edges in sides of the target", "10.1016/j.neunet.2023.11.041", family="shape"),
    LossEntry("alpha_iou", _LOSSES + "powers:alpha_iou", "1 - IoU^a", "2110.13675", family="power"),
    LossEntry("alpha_giou", _LOSSES + "powers:alpha_giou", "GIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_diou", _LOSSES + "powers:alpha_diou", "DIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("alpha_ciou", _LOSSES + "powers:alpha_ciou", "CIoU, each term to the power a", "2110.13675", family="power"),
    LossEntry("focal_eiou", _LOSSES + "focusing:focal_eiou", "EIoU weighed by overlap", "2101.08158", family="focusing"),
    LossEntry("wiou_v1", _LOSSES + "focusing:wiou_v1", "IoU times attention to distance", "2301.10051", family="focusing"),
    LossEntry("wiou_v2", _LOSSES + "focusing:wiou_v2", "WIoU v1, poor boxes weighed up", "2301.10051", family="focusing"),
    LossEntry("wiou_v3", _LOSSES + "focusing:wiou_v3", "WIoU v1, ordinary boxes weighed up", "2301.10051", family="focusing"),
    LossEntry("piou_v2", _LOSSES + "focusing:piou_v2", "PIoU, boxes of middling quality weighed up", "10.1016/j.neunet.2023.11.041", family="focusing"),
    LossEntry("inner_iou", _LOSSES + "remapped:inner_iou", "IoU of both boxes scaled about their centres", "2311.02877", family="remapped"),
    LossEntry("focaler_iou", _LOSSES + "remapped:focaler_iou", "IoU stretched from an interval to [0, 1]", "2401.10525", family="remapped"),
    LossEntry("nwd", _LOSSES + "gaussian:nwd", "Wasserstein distance of the boxes as Gaussians", "2110.13389", family="gaussian"),
    LossEntry("kld", _LOSSES + "gaussian:kld", "divergence of the boxes as Gaussians", "2106.01883", family="gaussian"),
    LossEntry("torchvision_giou", "implementations.peers.torchvision_losses:giou", "generalized_box_iou_loss", family="peer"),
    LossEntry("torchvision_diou", "implementations.peers.torchvision_losses:diou", "distance_box_iou_loss", family="peer"),
    LossEntry("torchvision_ciou", "implementations.peers.torchvision_losses:ciou", "complete_box_iou_loss", family="peer"),
], singular="loss")  # fmt: skip

_SCORES = "implementations.boxes.classification:"
CLASSIFICATION_LOSSES = Catalogue("classification_losses", Entry, [
    Entry("focal", _SCORES + "focal", "cross-entropy that fades on easy elements", "1708.02002 (eq. 5)"),
    Entry("quality_focal", _SCORES + "quality_focal", "focal loss on a quality in [0, 1]", "2006.04388 (eq. 2)"),
    Entry("distribution_focal", _SCORES + "distribution_focal", "a distance as a distribution over bins", "2006.04388 (eq. 6)"),
    Entry("generalised_focal", _SCORES + "generalised_focal", "focal loss between two labels", "2006.04388 (eq. 7)"),
    Entry("varifocal", _SCORES + "varifocal", "quality-weighted positives, focal negatives", "2008.13367 (eq. 2)"),
], singular="classification loss")  # fmt: skip

_NMS = "implementations.boxes.nms."
NMS = Catalogue("nms", NmsEntry, [
    NmsEntry("hard", _NMS + "greedy:hard", "the best box stays, what overlaps it goes", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("class_agnostic", _NMS + "greedy:class_agnostic", "hard over all classes", "1311.2524 (sec. 2.2)", family="greedy"),
    NmsEntry("diou", _NMS + "greedy:diou", "hard on overlap less distance of the centres", "1911.08287 (eq. 13)", family="greedy"),
    NmsEntry("iou_guided", _NMS + "greedy:iou_guided", "hard in the order of predicted IoUs", "1807.11590 (alg. 1)", family="greedy", columns=("ious",)),
    NmsEntry("soft_linear", _NMS + "soft:soft_linear", "scores decay by 1 - IoU", "1704.04503 (eq. 2)", family="soft"),
    NmsEntry("soft_gaussian", _NMS + "soft:soft_gaussian", "scores decay by exp(-IoU^2 / sigma)", "1704.04503 (eq. 3)", family="soft"),
    NmsEntry("matrix", _NMS + "matrix:matrix", "scores decay by the better box that matters most", "2003.10152", family="matrix"),
    NmsEntry("fast", _NMS + "cluster:fast", "what any better box overlaps goes", "1904.02689", family="cluster"),
    NmsEntry("cluster", _NMS + "cluster:cluster", "an iteration whose fixpoint is hard", "2005.03572 (alg. 1)", family="cluster"),
    NmsEntry("spm_cluster", _NMS + "cluster:spm_cluster", "scores decay by every box that stands", "2005.03572", family="cluster"),
    NmsEntry("weighted_cluster", _NMS + "cluster:weighted_cluster", "boxes averaged with what they overlap", "2005.03572", family="cluster"),
    NmsEntry("nmw", _NMS + "fusion:nmw", "boxes averaged with what they remove", "CAD, ICCV workshops 2017", family="fusion"),
    NmsEntry("weighted_boxes_fusion", _NMS + "fusion:weighted_boxes_fusion", "several models' boxes averaged by score", "1910.13302", family="fusion"),
    NmsEntry("torchvision_nms", "implementations.peers.torchvision_nms:nms", "nms on each class", family="peer"),
    NmsEntry("torchvision_batched_nms", "implementations.peers.torchvision_nms:batched_nms", "batched_nms", family="peer"),
], singular="NMS")  # fmt: skip

CATALOGUES: dict[str, Catalogue[Any]] = {
    c.kind: c for c in (PATHS, SCHEDULES, SAMPLERS, LOSSES, CLASSIFICATION_LOSSES, NMS)
}

"""diffusers' schedulers: a class, with the arguments of its constructor that choose the method or the grid.

``SAMPLERS`` holds rows per class, (arguments that choose the row, what it stands for): the first row that fits counts.
``DEFAULTS`` are the arguments of the method, with their defaults; ``eta`` and the churn are arguments of ``step``.
``SCHEDULES`` are the arguments that choose a grid; ``GRIDS`` says which of these, and which of their settings, a class
takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from implementations.catalogue.names.meaning import Argument, Resolved

Rows = list[tuple[Mapping[str, Any], Resolved]]

_TYPE, _ORDER = Argument("solver_type"), Argument("solver_order")
_HALF = "its second difference stands for the second derivative, which is twice that"
_MIDPOINT_3S = "by solver_type=midpoint its second stage is another"
_DISCRETE = "it samples tokens and not a diffusion on a path"
_DPM_DEFAULTS = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "lower_order_final": True,
}
_FINAL = "below 15 steps its last steps are of lower order"
_MULTISTEP: Rows = [
    ({"algorithm_type": "dpmsolver++", "solver_order": 1}, Resolved("dpm_solver_1")),
    ({"algorithm_type": "dpmsolver++", "solver_order": 2}, Resolved("dpmpp_2m", {"solver_type": _TYPE}, note=_FINAL)),
    ({"algorithm_type": "dpmsolver++", "solver_order": 3},
     Resolved("dpmpp_3m", {"solver_type": _TYPE, "half_curvature": True}, note=f"{_HALF}; {_FINAL}")),
    ({"algorithm_type": "dpmsolver", "solver_order": 1}, Resolved("dpm_solver_1")),
    ({"algorithm_type": "dpmsolver", "solver_order": 2},
     Resolved("dpm_solver_multistep", {"order": 2, "solver_type": _TYPE}, note=_FINAL)),
    ({"algorithm_type": "dpmsolver", "solver_order": 3},
     Resolved("dpm_solver_multistep", {"order": 3, "solver_type": _TYPE, "half_curvature": True}, note=f"{_HALF}; {_FINAL}")),
    ({"algorithm_type": "sde-dpmsolver++", "solver_order": 1}, Resolved("seeds", {"order": 1, "prediction": "data"})),
    ({"algorithm_type": "sde-dpmsolver++", "solver_order": 2}, Resolved("dpmpp_2m_sde", {"solver_type": _TYPE}, note=_FINAL)),
    ({"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
     Resolved("dpmpp_3m_sde", {"solver_type": _TYPE, "half_curvature": True}, note="its last term has a sign wrong, which makes it of order 1")),
    ({"algorithm_type": "sde-dpmsolver", "solver_order": 1}, Resolved("seeds", {"order": 1})),
    ({"algorithm_type": "sde-dpmsolver", "solver_order": 2, "solver_type": "heun"},
     Resolved("sa_solver", {"order": 2, "corrector_order": 0, "prediction": "noise"}, note=_FINAL)),
    ({"algorithm_type": "sde-dpmsolver"},
     Resolved("sa_solver", {"order": 2, "corrector_order": 0, "prediction": "noise"},
              refused="fidmap has it with solver_type=heun and solver_order=2 alone")),
]  # fmt: skip

SAMPLERS: dict[str, Rows] = {
    "DDIMScheduler": [({}, Resolved("ddim", {"eta": Argument("eta")}))],
    "DDIMInverseScheduler": [({}, Resolved("ddim_inversion"))],
    "DDIMParallelScheduler": [({}, Resolved("picard"))],
    "CogVideoXDDIMScheduler": [({}, Resolved("ddim"))],
    "DDPMScheduler": [
        ({"variance_type": ("fixed_small", "fixed_small_log")}, Resolved("ddpm", {"variance": "small"})),
        ({"variance_type": ("fixed_large", "fixed_large_log")}, Resolved("ddpm", {"variance": "large"})),
        ({"variance_type": "learned_range"}, Resolved("ddpm", {"variance": "learned_range"})),
        ({}, Resolved("ddpm", refused="variance_type=learned, of networks that give the variance itself, is not in fidmap")),
    ],
    "DDPMParallelScheduler": [({}, Resolved("ddpm", note="picard runs DDIM's steps in parallel, and not these"))],
    "DDPMWuerstchenScheduler": [({}, Resolved("ddpm", note="on the path cosine"))],
    "UnCLIPScheduler": [
        ({"variance_type": "fixed_small_log"}, Resolved("ddpm", {"variance": "small"})),
        ({"variance_type": "learned_range"}, Resolved("ddpm", {"variance": "learned_range"})),
    ],
    "PNDMScheduler": [({"skip_prk_steps": True}, Resolved("plms")), ({}, Resolved("pndm"))],
    "IPNDMScheduler": [({}, Resolved("ipndm"))],
    "EulerDiscreteScheduler": [({}, Resolved("euler"))],
    "EulerAncestralDiscreteScheduler": [({}, Resolved("euler_ancestral"))],
    "HeunDiscreteScheduler": [({}, Resolved("heun"))],
    "KDPM2DiscreteScheduler": [({}, Resolved("midpoint"))],
    "KDPM2AncestralDiscreteScheduler": [({}, Resolved("dpm_2_ancestral"))],
    "LMSDiscreteScheduler": [({}, Resolved("lms"))],
    "DEISMultistepScheduler": [
        ({"solver_order": 1}, Resolved("dpm_solver_1")),
        ({"solver_order": (2, 3)}, Resolved("dpm_solver_multistep", {"order": _ORDER, "solver_type": "heun"}, note=f"DEIS in log sigma/alpha; {_FINAL}")),
    ],
    "DPMSolverMultistepScheduler": _MULTISTEP,
    "DPMSolverMultistepInverseScheduler": [
        (where, Resolved(row.entry, row.options, note="on ascending times", refused=row.refused))
        for where, row in _MULTISTEP if not str(where["algorithm_type"]).startswith("sde")
    ],
    "CogVideoXDPMScheduler": [({}, Resolved("dpmpp_2m_sde"))],
    "CosineDPMSolverMultistepScheduler": [({"solver_order": 2}, Resolved("dpmpp_2m_sde", {"solver_type": _TYPE}))],
    "DPMSolverSinglestepScheduler": [
        ({"algorithm_type": ("dpmsolver++", "dpmsolver"), "solver_order": 1}, Resolved("dpm_solver_1")),
        ({"algorithm_type": "dpmsolver++", "solver_order": 2}, Resolved("dpmpp_2s", {"solver_type": _TYPE}, note="two of its steps are one")),
        ({"algorithm_type": "dpmsolver++", "solver_order": 3}, Resolved("dpmpp_3s", {"solver_type": _TYPE}, note=f"three of its steps are one; {_MIDPOINT_3S}")),
        ({"algorithm_type": "dpmsolver", "solver_order": 2}, Resolved("dpm_solver_2", {"solver_type": _TYPE}, note="two of its steps are one")),
        ({"algorithm_type": "dpmsolver", "solver_order": 3}, Resolved("dpm_solver_3", {"solver_type": _TYPE}, note=f"three of its steps are one; {_MIDPOINT_3S}")),
        ({"algorithm_type": "sde-dpmsolver++"},
         Resolved("seeds", refused="its single-step SDE methods are not in fidmap; the nearest is seeds(prediction=data)")),
    ],
    "DPMSolverSDEScheduler": [({}, Resolved("dpmpp_sde"))],
    "UniPCMultistepScheduler": [
        ({"solver_type": kind, "predict_x0": x0},
         Resolved(f"unipc_{kind}", {"order": _ORDER, "prediction": "data" if x0 else "noise", "lower_order_final": Argument("lower_order_final")}))
        for kind in ("bh1", "bh2") for x0 in (True, False)
    ],
    "SASolverScheduler": [
        ({"algorithm_type": name},
         Resolved("sa_solver", {"order": Argument("predictor_order"), "corrector_order": Argument("corrector_order"),
                                "prediction": prediction, "few_steps": True, "interval": (0.724, 25.74)},
                  note="tau is 1 from timestep 200 to 800, by the levels of DDPM's table of betas"))
        for name, prediction in (("data_prediction", "data"), ("noise_prediction", "noise"))
    ],
    "EDMEulerScheduler": [({}, Resolved("euler", note="with s_churn it is edm_euler"))],
    "EDMDPMSolverMultistepScheduler": [
        (where, row) for where, row in _MULTISTEP if where["algorithm_type"] in ("dpmsolver++", "sde-dpmsolver++")
    ],
    "FlowMatchEulerDiscreteScheduler": [
        ({"stochastic_sampling": True}, Resolved("flow_stochastic")), ({}, Resolved("flow_euler")),
    ],
    "FlowMatchHeunDiscreteScheduler": [({}, Resolved("flow_heun"))],
    "FlowMatchLCMScheduler": [({}, Resolved("flow_stochastic"))],
    "LTXEulerAncestralRFScheduler": [({}, Resolved("flow_ancestral", {"eta": Argument("eta"), "s_noise": Argument("s_noise")}))],
    "FlowMapEulerDiscreteScheduler": [({}, Resolved("flow_map"))],
    "MiniMaxH3Scheduler": [({}, Resolved("flow_euler", note="its velocity has the other sign"))],
    "CMStochasticIterativeScheduler": [({}, Resolved("consistency"))],
    "ConsistencyDecoderScheduler": [({}, Resolved("consistency"))],
    "SCMScheduler": [({}, Resolved("consistency", note="on the path trigflow"))],
    "LCMScheduler": [({}, Resolved("lcm", {"timestep_scaling": Argument("timestep_scaling")}))],
    "TCDScheduler": [({}, Resolved("tcd", {"gamma": Argument("eta")}))],
    "KarrasVeScheduler": [({}, Resolved("edm_heun", {"s_churn": Argument("s_churn"), "s_noise": Argument("s_noise"),
                                                     "s_tmin": Argument("s_min"), "s_tmax": Argument("s_max")}))],
    "ScoreSdeVeScheduler": [({}, Resolved("predictor_corrector", note="on the path ve"))],
    "ScoreSdeVpScheduler": [({}, Resolved("euler_maruyama", note="on the path vp"))],
    "RePaintScheduler": [({}, Resolved("ddim", refused="it inpaints: its steps need a mask and an image"))],
    "HeliosScheduler": [({}, Resolved("unipc_bh2", refused="its stages belong to one video model"))],
    "HeliosDMDScheduler": [({}, Resolved("consistency", refused="its stages belong to one video model"))],
    "PiflowScheduler": [({}, Resolved("flow_map", refused="its steps are those of a policy that one model predicts"))],
    "RFD4ProteinaScheduler": [({}, Resolved("euler_maruyama", refused="its noise and time belong to one protein model"))],
    **{name: [({}, Resolved("ddpm", refused=_DISCRETE))] for name in (
        "AmusedScheduler", "BlockRefinementScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler", "VQDiffusionScheduler")},
}  # fmt: skip

_SA = {"predictor_order": 2, "corrector_order": 2, "algorithm_type": "data_prediction"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"eta": 0.0},
    "DDPMScheduler": {"variance_type": "fixed_small"},
    "UnCLIPScheduler": {"variance_type": "fixed_small_log"},
    "PNDMScheduler": {"skip_prk_steps": False},
    "DEISMultistepScheduler": {"solver_order": 2, "algorithm_type": "deis", "solver_type": "logrho"},
    "DPMSolverMultistepScheduler": _DPM_DEFAULTS,
    "DPMSolverMultistepInverseScheduler": _DPM_DEFAULTS,
    "CosineDPMSolverMultistepScheduler": {"solver_order": 2, "solver_type": "midpoint"},
    "DPMSolverSinglestepScheduler": {**_DPM_DEFAULTS, "lower_order_final": False},
    "UniPCMultistepScheduler": {"solver_order": 2, "solver_type": "bh2", "predict_x0": True, "lower_order_final": True},
    "SASolverScheduler": _SA,
    "EDMDPMSolverMultistepScheduler": _DPM_DEFAULTS,
    "FlowMatchEulerDiscreteScheduler": {"stochastic_sampling": False},
    "LTXEulerAncestralRFScheduler": {"eta": 1.0, "s_noise": 1.0},
    "LCMScheduler": {"timestep_scaling": 10.0},
    "TCDScheduler": {"eta": 0.3},
    "KarrasVeScheduler": {"s_noise": 1.007, "s_churn": 80.0, "s_min": 0.05, "s_max": 50.0},
}  # fmt: skip

SCHEDULES = {
    "use_karras_sigmas": Resolved("karras"),
    "use_exponential_sigmas": Resolved("exponential"),
    "use_beta_sigmas": Resolved("beta_levels"),
    "use_lu_lambdas": Resolved("log_snr"),
    "use_flow_sigmas": Resolved("sd3_shift", {"shift": Argument("flow_shift")}),
    "use_dynamic_shifting": Resolved(
        "dynamic_shift", {"base_shift": Argument("base_shift"), "max_shift": Argument("max_shift")}
    ),
    "shift": Resolved("sd3_shift", {"shift": Argument("shift")}, note="the last level above 0 is shifted twice there"),
    "rescale_betas_zero_snr": Resolved("zero_snr"),
    "timestep_spacing=leading": Resolved("leading", {"offset": Argument("steps_offset")}),
    "timestep_spacing=trailing": Resolved("trailing"),
    "timestep_spacing=linspace": Resolved("linspace"),
    "sigma_schedule=karras": Resolved("karras"),
    "sigma_schedule=exponential": Resolved("exponential"),
    "AysSchedules": Resolved("ays", note="its levels have three decimals"),
}
SETTINGS: dict[str, Any] = {"flow_shift": 1.0, "shift": 1.0, "base_shift": 0.5, "max_shift": 1.15, "steps_offset": 0}

_LEVELS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_SPACED = ("timestep_spacing", "steps_offset")
_FLOW = ("use_flow_sigmas", "flow_shift")
_EDM = ("sigma_schedule", "final_sigmas_type")
_SHIFTED = ("shift", "use_dynamic_shifting", "base_shift", "max_shift")
_ZERO = (*_SPACED, "rescale_betas_zero_snr")
GRIDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("DDIMScheduler", "DDIMInverseScheduler", "DDIMParallelScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler",
                     "DDPMScheduler", "DDPMParallelScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler"), _ZERO),
    "PNDMScheduler": _SPACED,
    "EulerDiscreteScheduler": (*_LEVELS, *_ZERO, "final_sigmas_type"),
    **dict.fromkeys(("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler",
                     "DPMSolverSDEScheduler"), (*_LEVELS, *_SPACED)),
    "DEISMultistepScheduler": (*_LEVELS, *_FLOW, *_SPACED),
    "DPMSolverMultistepScheduler": (*_LEVELS, *_FLOW, *_ZERO, "use_lu_lambdas", "final_sigmas_type"),
    "DPMSolverMultistepInverseScheduler": (*_LEVELS, *_FLOW, *_SPACED),
    "DPMSolverSinglestepScheduler": (*_LEVELS, *_FLOW, "final_sigmas_type"),
    "UniPCMultistepScheduler": (*_LEVELS, *_FLOW, *_ZERO, "final_sigmas_type"),
    "SASolverScheduler": (*_LEVELS, *_FLOW, *_SPACED),
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "CosineDPMSolverMultistepScheduler": _EDM,
    "FlowMatchEulerDiscreteScheduler": (*_LEVELS, *_SHIFTED),
    "FlowMatchLCMScheduler": (*_LEVELS, *_SHIFTED),
    **dict.fromkeys(("FlowMatchHeunDiscreteScheduler", "FlowMapEulerDiscreteScheduler", "MiniMaxH3Scheduler"), ("shift",)),
}  # fmt: skip

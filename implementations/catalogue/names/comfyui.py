"""ComfyUI's names of samplers and schedulers (``comfy/samplers.py``)."""

from __future__ import annotations

from implementations.catalogue.names.meaning import Resolved

CFG_PP = "cfg_plus_plus"
GPU = "the noise is drawn on the device, of another stream than the CPU's"
FLOW = "on flow models its noise is that of flow_ancestral"
_MIXED = "its second-order term takes the guided x0 less the last unconditional one; here both are guided"
_EARLIER = "from its second step on it combines unconditional x0; here all are guided"
_OTHER_FLOW = "on flow models its noise level is chosen in t"
_TAU = {"interval": (0.571, 5.092)}  # levels of Stable Diffusion at 80 % and 20 % of its timesteps
_SA = {"order": 3, "corrector_order": 4, **_TAU}
_SA_NOTE = "tau is read at the end of a step, and orders fall with the steps left; its levels are Stable Diffusion's"
_UNIPC = {"order": 3, "lower_order_final": True}
_UNIPC_END = "its last step does not go to sigma = 0"
DEIS = "t is that of a VP path from sigma/alpha = .002 to 80"
DPM_FAST = "n steps are n evaluations on a grid of its own, and remainder is n modulo 3"
IPNDM_V = "of order 4 its weights are not those of Adams-Bashforth: order 2, and 0 where steps alternate"

SAMPLERS = {
    "euler": Resolved("euler"),
    "euler_cfg_pp": Resolved("euler", guidance=CFG_PP),
    "euler_ancestral": Resolved("euler_ancestral", note=FLOW),
    "euler_ancestral_cfg_pp": Resolved("euler_ancestral", guidance=CFG_PP, note=FLOW),
    "heun": Resolved("heun", note="on flow models it averages velocities: flow_heun"),
    "heunpp2": Resolved("heunpp2"),
    "exp_heun_2_x0": Resolved("exp_heun"),
    "exp_heun_2_x0_sde": Resolved("exp_heun_2_x0_sde"),
    "dpm_2": Resolved("midpoint"),
    "dpm_2_ancestral": Resolved("dpm_2_ancestral", note=_OTHER_FLOW),
    "lms": Resolved("lms"),
    "dpm_fast": Resolved("dpm_fast", schedule="log_snr", schedule_options={"clean": False},
                         note=DPM_FAST),
    "dpm_adaptive": Resolved("dpm_adaptive", note="one step for the whole batch"),
    "dpmpp_2s_ancestral": Resolved("dpmpp_2s_ancestral", note=_OTHER_FLOW),
    "dpmpp_2s_ancestral_cfg_pp": Resolved("dpmpp_2s_ancestral", guidance=CFG_PP, note=_OTHER_FLOW),
    "dpmpp_sde": Resolved("dpmpp_sde"),
    "dpmpp_sde_gpu": Resolved("dpmpp_sde", note=GPU),
    "dpmpp_2m": Resolved("dpmpp_2m"),
    "dpmpp_2m_cfg_pp": Resolved("dpmpp_2m", guidance=CFG_PP, note=_MIXED),
    "dpmpp_2m_sde": Resolved("dpmpp_2m_sde"),
    "dpmpp_2m_sde_gpu": Resolved("dpmpp_2m_sde", note=GPU),
    "dpmpp_2m_sde_heun": Resolved("dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_2m_sde_heun_gpu": Resolved("dpmpp_2m_sde", {"solver_type": "heun"}, note=GPU),
    "dpmpp_3m_sde": Resolved("dpmpp_3m_sde", {"half_curvature": True}),
    "dpmpp_3m_sde_gpu": Resolved("dpmpp_3m_sde", {"half_curvature": True}, note=GPU),
    "ddpm": Resolved("ddpm"),
    "lcm": Resolved("consistency", note="LCM's boundary weights belong to the model there; with them it is lcm"),
    "ipndm": Resolved("ipndm"),
    "ipndm_v": Resolved("ipndm_v", note=IPNDM_V),
    "deis": Resolved("deis_tab", {"order": 3}, note=DEIS),
    "res_multistep": Resolved("res_multistep", {"order": 2}),
    "res_multistep_cfg_pp": Resolved("res_multistep", {"order": 2}, guidance=CFG_PP, note=_EARLIER),
    "res_multistep_ancestral": Resolved("res_multistep_ancestral"),
    "res_multistep_ancestral_cfg_pp": Resolved("res_multistep_ancestral", guidance=CFG_PP, note=_EARLIER),
    "gradient_estimation": Resolved("gradient_estimation", {"gamma": 2.0}),
    "gradient_estimation_cfg_pp": Resolved("gradient_estimation", {"gamma": 2.0}, guidance=CFG_PP),
    "er_sde": Resolved("er_sde", {"divided": True}, note="its integrals are sums of 200 rectangles"),
    "seeds_2": Resolved("seeds", {"order": 2, "prediction": "data"}),
    "seeds_3": Resolved("seeds", {"order": 3, "prediction": "data"}),
    "sa_solver": Resolved("sa_solver", _SA, note=_SA_NOTE),
    "sa_solver_pece": Resolved("sa_solver_pece", _SA, note=_SA_NOTE),
    "ddim": Resolved("ddim"),
    "uni_pc": Resolved("unipc_bh1", _UNIPC, note=_UNIPC_END),
    "uni_pc_bh2": Resolved("unipc_bh2", _UNIPC, note=_UNIPC_END),
}  # fmt: skip

SCHEDULES = {
    "normal": Resolved("normal"),
    "karras": Resolved("karras"),
    "exponential": Resolved("exponential"),
    "sgm_uniform": Resolved("sgm_uniform"),
    "simple": Resolved("simple"),
    "ddim_uniform": Resolved("ddim_uniform", note="it may make more steps than asked for: 31 for 30"),
    "beta": Resolved(
        "beta", note="times are rounded to timesteps, of 0 to 999; from 139 steps on some coincide, and are one"
    ),
    "linear_quadratic": Resolved(
        "linear_quadratic", note="linear and quadratic in sigma/alpha where the model is no flow"
    ),
    "kl_optimal": Resolved("kl_optimal"),
}

"""Names of AUTOMATIC1111's stable-diffusion-webui and of Forge: a sampler's, or a sampler's and a schedule type's.

``AUTOMATIC`` is the schedule type that ``Automatic`` stands for; for the other samplers it is Uniform. ``ALIASES`` are
names that the programs take, too.
"""

from __future__ import annotations

from implementations.catalogue.names.comfyui import CFG_PP, DEIS, DPM_FAST, IPNDM_V
from implementations.catalogue.names.meaning import Resolved

_TIMESTEPS = "n steps are n - 1 on ddim_uniform, whatever the schedule type, and end at timestep 1"
_PENULTIMATE = "the last level above 0 is left out of its grid"

SAMPLERS = {
    "DPM++ 2M": Resolved("dpmpp_2m"),
    "DPM++ SDE": Resolved("dpmpp_sde"),
    "DPM++ 2M SDE": Resolved("dpmpp_2m_sde"),
    "DPM++ 2M SDE Heun": Resolved("dpmpp_2m_sde", {"solver_type": "heun"}),
    "DPM++ 2S a": Resolved("dpmpp_2s_ancestral"),
    "DPM++ 3M SDE": Resolved("dpmpp_3m_sde", {"half_curvature": True}, note=_PENULTIMATE),
    "Euler a": Resolved("euler_ancestral"),
    "Euler": Resolved("euler"),
    "LMS": Resolved("lms"),
    "Heun": Resolved("heun"),
    "DPM2": Resolved("midpoint", note=_PENULTIMATE),
    "DPM2 a": Resolved("dpm_2_ancestral", note=_PENULTIMATE),
    "DPM fast": Resolved("dpm_fast", {"eta": 1.0}, schedule="log_snr", schedule_options={"clean": False}, note=DPM_FAST),
    "DPM adaptive": Resolved("dpm_adaptive", {"eta": 1.0}, note="one step for the whole batch"),
    "Restart": Resolved("restart", {"intervals": ((0.1, 2.0, 1, 9),)},
                        note="so from 20 to 35 steps, which count those of the restart; below 20 there is none, above there are two"),
    "DDIM": Resolved("ddim", note=_TIMESTEPS),
    "DDIM CFG++": Resolved("ddim", guidance=CFG_PP, note=_TIMESTEPS),
    "PLMS": Resolved("plms", note=_TIMESTEPS),
    "UniPC": Resolved("unipc_bh1", {"order": 3, "lower_order_final": True},
                      note="its grid is uniform in the timestep, whatever the schedule type, and ends at timestep 0"),
    "LCM": Resolved("lcm"),
    "HeunPP2": Resolved("heunpp2"),
    "IPNDM": Resolved("ipndm"),
    "IPNDM_V": Resolved("ipndm_v", note=IPNDM_V),
    "DEIS": Resolved("deis_tab", {"order": 3}, note=DEIS),
    "DDPM": Resolved("ddpm"),
}  # fmt: skip

SCHEDULES = {
    "Automatic": Resolved("normal", note="Uniform, or what the sampler is shipped with"),
    "Uniform": Resolved("normal"),
    "Karras": Resolved("karras"),
    "Exponential": Resolved("exponential"),
    "Polyexponential": Resolved("polyexponential"),
    "SGM Uniform": Resolved("sgm_uniform"),
    "KL Optimal": Resolved("kl_optimal", {"clean": False}, note="it ends at its least level, above 0"),
    "Align Your Steps": Resolved("ays", {"keep_last": True}),
    "Simple": Resolved("simple"),
    "Normal": Resolved("normal"),
    "DDIM": Resolved("ddim_uniform", note="it may make more steps than asked for: 31 for 30"),
    "Beta": Resolved("beta_levels"),
    "Turbo": Resolved("turbo"),
    "Align Your Steps GITS": Resolved("align_your_steps_gits"),
    "Align Your Steps 11": Resolved("ays", {"keep_last": True}),
    "Align Your Steps 32": Resolved("ays", {"keep_last": True}, refused="its table of 32 levels has no published source; Align Your Steps has one"),
}  # fmt: skip

AUTOMATIC = {
    "DPM++ 2M": "Karras", "DPM++ SDE": "Karras", "DPM++ 2M SDE": "Exponential", "DPM++ 2M SDE Heun": "Exponential",
    "DPM++ 2S a": "Karras", "DPM++ 3M SDE": "Exponential", "DPM2": "Karras", "DPM2 a": "Karras", "Restart": "Karras",
}  # fmt: skip

ALIASES = {
    "k_dpmpp_2m": "DPM++ 2M", "k_dpmpp_sde": "DPM++ SDE", "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun", "k_dpmpp_2s_a": "DPM++ 2S a", "k_dpmpp_3m_sde": "DPM++ 3M SDE",
    "k_euler_a": "Euler a", "k_euler_ancestral": "Euler a", "k_euler": "Euler", "k_lms": "LMS", "k_heun": "Heun",
    "k_dpm_2": "DPM2", "k_dpm_2_a": "DPM2 a", "k_dpm_fast": "DPM fast", "k_dpm_ad": "DPM adaptive", "k_lcm": "LCM",
    "ddim_cfgpp": "DDIM CFG++", "SGMUniform": "SGM Uniform",
}  # fmt: skip

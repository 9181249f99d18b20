"""k-diffusion's samplers and schedules (``k_diffusion/sampling.py``)."""

from __future__ import annotations

from implementations.catalogue.names.comfyui import DPM_FAST
from implementations.catalogue.names.meaning import Resolved

SAMPLERS = {
    "sample_euler": Resolved("euler", note="with s_churn it is edm_euler"),
    "sample_euler_ancestral": Resolved("euler_ancestral"),
    "sample_heun": Resolved("heun", note="with s_churn it is edm_heun"),
    "sample_dpm_2": Resolved("midpoint"),
    "sample_dpm_2_ancestral": Resolved("dpm_2_ancestral"),
    "sample_lms": Resolved("lms"),
    "sample_dpm_fast": Resolved("dpm_fast", schedule="log_snr", schedule_options={"clean": False},
                                note=DPM_FAST),
    "sample_dpm_adaptive": Resolved("dpm_adaptive", note="one step for the whole batch"),
    "sample_dpmpp_2s_ancestral": Resolved("dpmpp_2s_ancestral"),
    "sample_dpmpp_sde": Resolved("dpmpp_sde"),
    "sample_dpmpp_2m": Resolved("dpmpp_2m"),
    "sample_dpmpp_2m_sde": Resolved("dpmpp_2m_sde"),
    "sample_dpmpp_3m_sde": Resolved("dpmpp_3m_sde", {"half_curvature": True}),
}  # fmt: skip

SCHEDULES = {
    "get_sigmas_karras": Resolved("karras"),
    "get_sigmas_exponential": Resolved("exponential"),
    "get_sigmas_polyexponential": Resolved("polyexponential"),
    "get_sigmas_vp": Resolved(
        "uniform", {"end": 0.001}, note="on the path vp; the last of its n times is followed by sigma = 0"
    ),
}

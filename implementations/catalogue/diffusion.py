"""Forward processes and time grids by name."""

from __future__ import annotations

from implementations.catalogue.entry import Catalogue, Entry, ScheduleEntry

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

_GRID = "implementations.schedules."
SCHEDULES = Catalogue("schedules", ScheduleEntry, named="implementations.catalogue.names:find_entry", entries=[
    # in t
    ScheduleEntry("uniform", _GRID + "times:uniform", "equal steps of t"),
    ScheduleEntry("quadratic", _GRID + "times:quadratic", "equal steps of the square root of t", "2010.02502 (app. D.2)"),
    ScheduleEntry("beta", _GRID + "times:beta", "quantiles of a beta distribution in t", "2407.12173", others="ComfyUI: beta"),
    # in the noise level
    ScheduleEntry("karras", _GRID + "levels:karras", "equal steps of (sigma/alpha)^(1/rho)", "2206.00364 (eq. 5)"),
    ScheduleEntry("log_snr", _GRID + "levels:log_snr", "equal steps of log alpha/sigma", "2206.00927"),
    ScheduleEntry("exponential", _GRID + "levels:log_snr", "log_snr", others="k-diffusion: get_sigmas_exponential"),
    ScheduleEntry("polyexponential", _GRID + "levels:polyexponential", "equal steps of (log sigma/alpha)^(1/rho)",
                  others="k-diffusion: get_sigmas_polyexponential"),
    ScheduleEntry("cosine", _GRID + "levels:cosine", "equal steps of the cosine path's time", "2102.09672 (eq. 17)"),
    ScheduleEntry("zero_snr", _GRID + "zero_snr:zero_snr", "timesteps of a table rescaled to zero terminal SNR", "2305.08891",
                  others="diffusers: rescale_betas_zero_snr"),
    ScheduleEntry("kl_optimal", _GRID + "levels:kl_optimal", "equal steps of arctan(sigma/alpha)", "2404.14507", others="ComfyUI: kl_optimal"),
    ScheduleEntry("beta_levels", _GRID + "levels:beta_levels", "quantiles of a beta distribution in sigma/alpha", "",
                  others="AUTOMATIC1111: Beta; diffusers: use_beta_sigmas"),
    ScheduleEntry("ays", _GRID + "tables:ays", "Align Your Steps: published noise levels", "2404.14507", others="diffusers: AysSchedules"),
    ScheduleEntry("align_your_steps_gits", _GRID + "tables:align_your_steps_gits", "Align Your Steps GITS: noise levels found by GITS",
                  "2405.14326", others="AUTOMATIC1111: Align Your Steps GITS"),
    # in the time of the flow
    ScheduleEntry("sd3_shift", _GRID + "flow:sd3_shift", "s u / (1 + (s - 1) u)", "2403.03206 (eq. 23)", others="diffusers: shift"),
    ScheduleEntry("dynamic_shift", _GRID + "flow:dynamic_shift", "sd3_shift by the size of the image",
                  others="diffusers: use_dynamic_shifting"),
    ScheduleEntry("logit_normal", _GRID + "flow:logit_normal", "quantiles of the logit-normal training density", "2403.03206 (eq. 19)"),
    ScheduleEntry("linear_quadratic", _GRID + "flow:linear_quadratic", "linear, then quadratic", "2410.13720", others="ComfyUI: linear_quadratic"),
    # on the timesteps of training
    ScheduleEntry("leading", _GRID + "timesteps:leading", "multiples of floor(N/steps)", "2305.08891 (table 2)"),
    ScheduleEntry("trailing", _GRID + "timesteps:trailing", "from the last timestep down", "2305.08891 (table 2)"),
    ScheduleEntry("linspace", _GRID + "timesteps:linspace", "from the last timestep to the first", "2305.08891 (table 2)"),
    ScheduleEntry("simple", _GRID + "timesteps:simple", "trailing, rounded the other way", others="ComfyUI: simple"),
    ScheduleEntry("sgm_uniform", _GRID + "timesteps:sgm_uniform", "trailing, not rounded", others="ComfyUI: sgm_uniform"),
    ScheduleEntry("normal", _GRID + "timesteps:normal", "linspace, not rounded", others="ComfyUI: normal; AUTOMATIC1111: Uniform, Normal"),
    ScheduleEntry("ddim_uniform", _GRID + "timesteps:ddim_uniform", "leading, from timestep 1", others="ComfyUI: ddim_uniform; AUTOMATIC1111: DDIM"),
    ScheduleEntry("turbo", _GRID + "timesteps:trailing", "trailing", others="Forge: Turbo"),
    # learnt
    ScheduleEntry("gits", _GRID + "gits:gits", "the steps of least cost on a fine grid, by dynamic programming", "2405.14326",
                  prepare=_GRID + "gits:prepare"),
    ScheduleEntry("optimal", _GRID + "gits:gits", "gits", "2405.14326", prepare=_GRID + "gits:prepare"),
])  # fmt: skip

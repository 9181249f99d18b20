"""Every entry by name: literal tables that import no torch; an entry is resolved when it is used.

Adding a method is one function and one line in its table.
"""

from __future__ import annotations

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
SAMPLERS = Catalogue("samplers", SamplerEntry, [
    # ancestral
    SamplerEntry("ddim", _S + "ancestral:ddim", "constant x0 over a step, eta of noise", "2010.02502 (eq. 12)",
                 family="ancestral", order=1, coordinate="lambda", noisy=("eta",)),
    SamplerEntry("ddpm", _S + "ancestral:ddpm", "ancestral sampling", "2006.11239 (alg. 2)",
                 family="ancestral", order=1, stochastic=True, coordinate="lambda"),
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
    # stochastic exponential integrators
    # flow
    # few steps
    # diffusers
    # k-diffusion
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

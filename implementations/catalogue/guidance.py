"""The table of guidance schemes."""

from __future__ import annotations

from implementations.catalogue.entry import Catalogue, GuidanceEntry

_G = "implementations.guidance."
GUIDANCE = Catalogue("guidance", GuidanceEntry, [
    # of a class or a text
    GuidanceEntry("classifier_free", _G + "classifier_free:ClassifierFree", "u + w (c - u)", "2207.12598 (eq. 6)",
                  family="condition", neutral="scale=1: conditional; scale=0: unconditional", space="every",
                  others="diffusers: ClassifierFreeGuidance; ComfyUI: cfg; AUTOMATIC1111: CFG Scale"),
    GuidanceEntry("classifier", _G + "classifier:Classifier", "the gradient of a classifier of noised samples", "2105.05233 (alg. 2)",
                  family="condition", neutral="scale=0: unconditional; with conditional=True scale=1", space="every", evaluations=1,
                  needs=("classifier",)),
    GuidanceEntry("cfg_plus_plus", _G + "cfg_plus_plus:CfgPlusPlus", "guided data, unconditional noise", "2406.08070 (alg. 2)",
                  family="condition", space="x0", others="ComfyUI: *_cfg_pp; AUTOMATIC1111: DDIM CFG++"),
    GuidanceEntry("apg", _G + "projected:Apg", "momentum, a bound of the norm, and less of the part along c", "2410.02416 (sec. 4)",
                  family="condition", neutral="scale=1", space="x0", stateful=True, others="diffusers: AdaptiveProjectedGuidance"),
    GuidanceEntry("cfg_zero_star", _G + "projected:CfgZeroStar", "u scaled by its projection, and a still start", "2503.18886",
                  family="condition", neutral="scale=1, zero_above=inf", space="velocity", others="diffusers: ClassifierFreeZeroStarGuidance"),
    GuidanceEntry("tangential", _G + "projected:Tangential", "u along the first singular vector of c and u", "2503.18137",
                  family="condition", neutral="scale=1", space="eps", others="diffusers: TangentialClassifierFreeGuidance"),
    GuidanceEntry("magnitude_aware", _G + "projected:MagnitudeAware", "less where the update is large beside u", "2508.03442",
                  family="condition", neutral="scale=1", space="velocity", others="diffusers: MagnitudeAwareGuidance (MAMBO-G)"),
    GuidanceEntry("frequency_decoupled", _G + "frequency:FrequencyDecoupled", "a scale for each band of frequencies", "2506.19713",
                  family="condition", neutral="scale=(1, 1)", space="x0", needs=("images",), others="diffusers: FrequencyDecoupledGuidance"),
    # of a worse prediction
    GuidanceEntry("autoguidance", _G + "classifier_free:Autoguidance", "away from a weaker model", "2406.02507",
                  family="worse", neutral="scale=1", space="every", needs=("weak",), others="diffusers: AutoGuidance; edm2: --gnet"),
    GuidanceEntry("perturbed_attention", _G + "attention:PerturbedAttention", "away from identity attention maps", "2403.17377",
                  family="worse", neutral="scale=0", space="every", needs=("attention",), others="diffusers: PerturbedAttentionGuidance (PAG)"),
    GuidanceEntry("self_attention", _G + "self_attention:SelfAttention", "away from what is seen where attended regions are blurred",
                  "2210.00939 (alg. 1)", family="worse", neutral="scale=0", space="eps", needs=("attention", "images"),
                  others="diffusers: StableDiffusionSAGPipeline (SAG)"),
    GuidanceEntry("smoothed_energy", _G + "attention:SmoothedEnergy", "away from blurred queries", "2408.00760",
                  family="worse", neutral="scale=0", space="every", needs=("attention", "images"), others="diffusers: SmoothedEnergyGuidance (SEG)"),
    GuidanceEntry("skip_layer", _G + "attention:SkipLayer", "away from the network without some layers", "Stable Diffusion 3.5",
                  family="worse", neutral="scale=0", space="every", needs=("attention",), others="diffusers: SkipLayerGuidance (SLG)"),
    # of the data
    GuidanceEntry("posterior", _G + "posterior:Posterior", "DPS: a measurement, through the denoiser", "2209.14687 (alg. 1)",
                  family="data", neutral="scale=0: the prior", space="every", evaluations=1, needs=("measurement",)),
    GuidanceEntry("universal", _G + "posterior:Universal", "any differentiable loss, through the denoiser", "2302.07121",
                  family="data", neutral="scale=0, backward_steps=0", space="every", evaluations=1, needs=("loss",), others="FreeDoM"),
    # corrections of a guided prediction
    GuidanceEntry("rescale", _G + "corrections:Rescale", "the standard deviation of the conditional prediction", "2305.08891 (sec. 3.4)",
                  family="correction", neutral="phi=0", space="v", wraps="guided", others="diffusers: guidance_rescale; ComfyUI: RescaleCFG"),
    GuidanceEntry("dynamic_threshold", _G + "corrections:DynamicThreshold", "x0 clipped to a quantile", "2205.11487 (sec. 2.3)",
                  family="correction", neutral="limit=inf", space="x0", evaluations=1, wraps="guided"),
    GuidanceEntry("interval", _G + "corrections:Interval", "guided in an interval of sigma/alpha alone", "2404.07724",
                  family="correction", neutral="low=0, high=inf", space="every", wraps="guided", others="diffusers: start, stop"),
], singular="guidance scheme")  # fmt: skip

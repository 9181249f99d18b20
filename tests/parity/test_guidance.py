"""diffusers' guiders, and the formulas of other programs, beside the schemes that the conventions say they are."""

import math

import pytest
import torch

from implementations.catalogue import GUIDANCE
from implementations.diffusion import VP, Network, RectifiedFlow
from implementations.guidance import CONVENTIONS, convert
from implementations.guidance.conventions import guide
from tests.exact import normal
from tests.given import Given, tiny

guiders = pytest.importorskip("diffusers.guiders")
SHAPE = (3, 2, 16, 16)  # sides that are powers of 2: diffusers pads others, and does not cut them again
C, U, X = (normal(*SHAPE, seed=k).float() for k in (1, 2, 3))
U = 0.4 * U + C  # predictions of one network are alike

GUIDERS = [  # name of the guider, its arguments, and what its network predicts
    ("ClassifierFreeGuidance", {}, "eps"),
    ("ClassifierFreeGuidance", {"guidance_scale": 3.0, "use_original_formulation": True}, "eps"),
    ("ClassifierFreeGuidance", {"guidance_scale": 0.0}, "eps"),
    ("ClassifierFreeGuidance", {"guidance_scale": 1.0}, "eps"),
    ("ClassifierFreeGuidance", {"guidance_rescale": 0.7}, "eps"),
    ("ClassifierFreeGuidance", {"guidance_rescale": 1.0, "guidance_scale": 12.0}, "velocity"),
    ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0}, "velocity"),
    ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0, "guidance_scale": 2.0, "use_original_formulation": True}, "eps"),
    ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0, "guidance_rescale": 0.5}, "velocity"),
    ("AdaptiveProjectedGuidance", {"use_original_formulation": True, "eta": 0.0, "guidance_scale": 5.0}, "x0"),
    ("AdaptiveProjectedGuidance", {"use_original_formulation": True, "eta": 0.3, "adaptive_projected_guidance_rescale": 4.0}, "eps"),
    ("AdaptiveProjectedGuidance", {"eta": 1.0, "adaptive_projected_guidance_rescale": 0.0}, "eps"),
    ("TangentialClassifierFreeGuidance", {}, "eps"),
    ("TangentialClassifierFreeGuidance", {"guidance_scale": 2.0, "use_original_formulation": True}, "velocity"),
    ("MagnitudeAwareGuidance", {}, "velocity"),
    ("MagnitudeAwareGuidance", {"alpha": 1.0, "guidance_scale": 4.0, "use_original_formulation": True}, "eps"),
    ("FrequencyDecoupledGuidance", {}, "x0"),
    ("FrequencyDecoupledGuidance", {"guidance_scales": (6.0, 3.0, 1.5)}, "eps"),
    ("FrequencyDecoupledGuidance", {"guidance_scales": (6.0, 3.0), "guidance_rescale": 0.6}, "x0"),
]  # fmt: skip


def test_every_guider_of_diffusers_has_a_convention():
    """All but the mix of APG with two momenta, and LTX-2's, which is of one model."""
    theirs = (
        {name for name in guiders.__all__ if name.endswith("Guidance")}
        if hasattr(guiders, "__all__")
        else set(dir(guiders))
    )
    theirs = {name for name in theirs if name.endswith("Guidance") and name != "BaseGuidance"}
    ours = {
        name.partition(":")[2] for name in CONVENTIONS if name.startswith("diffusers:") and name.endswith("Guidance")
    }
    assert theirs - ours <= {"AdaptiveProjectedMixGuidance", "LTX2Guidance"}


@pytest.mark.parametrize(("name", "arguments", "space"), GUIDERS)
def test_a_guider_of_diffusers_is_the_scheme_of_its_convention(name, arguments, space):
    guider = getattr(guiders, name)(**arguments)
    guider.set_state(step=0, num_inference_steps=None, timestep=None)
    c, u, x = (each.flatten(2) if "Magnitude" in name else each for each in (C, U, X))  # its norm takes tokens alone
    wanted = guider.forward(c, u).pred
    schemes = convert(f"diffusers:{name}", **arguments, space=space)
    found = getattr(guide(Given(RectifiedFlow(), c, u, head=space), schemes)(x, 0.5, 0), space)
    assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max())


def test_apg_s_momentum_is_diffusers_over_steps():
    arguments = {"use_original_formulation": True, "adaptive_projected_guidance_momentum": -0.5, "eta": 0.2}
    guider = guiders.AdaptiveProjectedGuidance(**arguments)
    given = Given(RectifiedFlow(), C, U, head="x0")
    guided = guide(given, convert("diffusers:AdaptiveProjectedGuidance", **arguments, space="x0"))
    for step, t in enumerate((0.9, 0.6, 0.3)):
        given.c, given.u = (normal(*SHAPE, seed=10 * step + k).float() for k in (1, 2))
        guider.set_state(step=step, num_inference_steps=3, timestep=None)
        guider.prepare_inputs({"latents": X})
        wanted = guider.forward(given.c, given.u).pred
        assert (guided(X, t, 0).x0 - wanted).abs().max() < 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("original", [False, True])
def test_autoguidance_of_diffusers_combines_as_ours_does(scale, original):
    guider = guiders.AutoGuidance(
        guidance_scale=scale, auto_guidance_layers=[1], dropout=1.0, use_original_formulation=original
    )
    guider.set_state(step=0, num_inference_steps=None, timestep=None)
    wanted = guider.forward(C, U).pred
    schemes = convert(
        "diffusers:AutoGuidance", guidance_scale=scale, use_original_formulation=original, weak=Given(VP(), U, U)
    )
    found = guide(Given(VP(), C, C), schemes)(X, 0.5, 0).eps
    assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max())


PERTURBING = {
    "PerturbedAttentionGuidance": ("perturbed_guidance_scale", "perturbed_guidance", "perturbed_attention"),
    "SkipLayerGuidance": ("skip_layer_guidance_scale", "skip_layer_guidance", "skip_layer"),
    "SmoothedEnergyGuidance": ("seg_guidance_scale", "seg_guidance", "smoothed_energy"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("name", PERTURBING)
@pytest.mark.parametrize(
    "arguments",
    [
        {"guidance_scale": 4.0, "guidance_rescale": 0.4}, {"guidance_scale": 1.0},
        {"guidance_scale": 0.0, "use_original_formulation": True}, {"guidance_scale": 3.0, "use_original_formulation": True},
    ],
    ids=["both", "off at 1", "off at 0", "original"],
)  # fmt: skip
def test_perturbing_guiders_combine_three_predictions_as_ours_do(name, arguments):
    scale, prefix, entry = PERTURBING[name]
    arguments = arguments | {scale: 2.2, f"{prefix}_layers": [1]}
    guider = getattr(guiders, name)(**arguments)
    guider.set_state(step=5, num_inference_steps=None, timestep=None)
    denoiser, x, labels = Network(VP(), tiny().float(), head="eps"), normal(3, 1, 8, 8).float(), torch.tensor([0, 1, 2])
    c, u = denoiser(x, 0.4, labels).eps, denoiser(x, 0.4).eps
    worse = 2 * c - GUIDANCE[entry](denoiser, scale=1.0, layers=[1])(x, 0.4, labels).eps
    cfg_is_on = guider._is_cfg_enabled()
    wanted = guider.forward(c, u if cfg_is_on else None, worse).pred
    schemes = convert(f"diffusers:{name}", **arguments, space="eps")
    found = guide(denoiser, schemes)(x, 0.4, labels).eps
    assert (found - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.25, 0.75), (0.1, 1.0), (0.0, 0.5), (0.3, 0.3)])
def test_shares_of_the_steps_are_an_interval_of_their_levels(start, stop):
    levels = [40.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1]
    guided = guide(
        Given(RectifiedFlow(), C, U), convert("diffusers:ClassifierFreeGuidance", start=start, stop=stop, levels=levels)
    )
    guider = guiders.ClassifierFreeGuidance(start=start, stop=stop)
    for step, level in enumerate(levels):
        guider.set_state(step=step, num_inference_steps=len(levels), timestep=None)
        wanted = guider.forward(C, U).pred
        found = guided(X, RectifiedFlow().time(-math.log(level)), 0).eps
        assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max()), level


def test_zero_init_steps_are_a_level():
    levels = [40.0, 20.0, 10.0, 5.0]
    (scheme,) = convert("diffusers:ClassifierFreeZeroStarGuidance", zero_init_steps=2, levels=levels)
    assert 10.0 < scheme.options["zero_above"] < 20.0
    guided = guide(Given(RectifiedFlow(), C, U, head="velocity"), (scheme,))
    still = [bool(guided(X, RectifiedFlow().time(-math.log(one)), 0).velocity.abs().max() < 1e-5) for one in levels]
    assert still == [True, True, False, False]


# programs with formulas of their own, each written as the program has it

PROGRAMS = {
    "paper:2207.12598": ("w", 3.0, lambda c, u, w: (1 + w) * c - w * u),
    "paper:2205.11487": ("w", 3.0, lambda c, u, w: w * c + (1 - w) * u),
    "k-diffusion": ("cond_scale", 5.0, lambda c, u, w: u + (c - u) * w),
    "comfyui:KSampler": ("cfg", 6.0, lambda c, u, w: u + (c - u) * w),
    "automatic1111": ("cfg_scale", 6.0, lambda c, u, w: u + (c - u) * w),
    "glide": ("guidance_scale", 3.0, lambda c, u, w: u + w * (c - u)),
    "latent-diffusion": ("unconditional_guidance_scale", 5.0, lambda c, u, w: u + w * (c - u)),
    "dit": ("cfg_scale", 4.0, lambda c, u, w: u + w * (c - u)),
    "sit": ("cfg_scale", 4.0, lambda c, u, w: u + w * (c - u)),
    "edm2": ("guidance", 2.0, lambda c, u, w: u + (c - u) * w),
    "diffusers:StableDiffusionPipeline": ("guidance_scale", 5.0, lambda c, u, w: u + w * (c - u)),
    "diffusers:FluxPipeline": ("true_cfg_scale", 5.0, lambda c, u, w: u + w * (c - u)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_s_scale_is_converted(name):
    argument, value, formula = PROGRAMS[name]
    wanted = formula(C, U, value)
    found = guide(Given(VP(), C, U), convert(name, **{argument: value}))(X, 0.5, 0).eps
    assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max())


def test_scales_of_schemes_that_add_are_their_own():
    for name, argument in (
        ("diffusers:StableDiffusionPAGPipeline", "pag_scale"), ("diffusers:StableDiffusionSAGPipeline", "sag_scale"),
        ("diffusers:StableDiffusion3Pipeline", "skip_layer_guidance_scale"), ("comfyui:PerturbedAttentionGuidance", "scale"),
        ("comfyui:SelfAttentionGuidance", "scale"), ("comfyui:SkipLayerGuidanceDiT", "scale"),
    ):  # fmt: skip
        free, added = convert(name, guidance_scale=6.0, **{argument: 1.3})
        assert (free.entry, free.options, added.options) == ("classifier_free", {"scale": 6.0}, {"scale": 1.3})


def test_comfyui_s_rescale_is_that_of_v():
    schemes = convert("comfyui:RescaleCFG", cfg=7.0, multiplier=0.6)
    found = guide(Given(VP(), C, U, head="v"), schemes)(X, 0.5, 0).v
    guided = U + 7.0 * (C - U)
    ratio = C.flatten(1).std(1) / guided.flatten(1).std(1)
    wanted = guided * (0.6 * ratio + 0.4)[:, None, None, None]
    assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max())


def test_the_papers_of_the_others():
    assert convert("paper:2105.05233", s=2.0, conditional=True)[0].options["scale"] == 3.0
    assert convert("paper:2105.05233", s=2.0)[0].options["scale"] == 2.0
    assert convert("paper:2404.07724", w=1.7, sigma_lo=0.2, sigma_hi=1.6)[1].options == {"low": 0.2, "high": 1.6}
    assert convert("paper:2410.02416", w=4.0, r=2.5)[0].options["threshold"] == 2.5
    assert [convert(name)[0].entry for name in ("paper:2406.08070", "comfyui:cfg_pp")] == ["cfg_plus_plus"] * 2


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_names_entries_with_options_that_they_take(name):
    import inspect

    arguments = {"zero_init_steps": 0} if "ZeroStar" in name else {}
    arguments |= {"use_original_formulation": True} if "AdaptiveProjected" in name else {}
    for entry, options in convert(name, **arguments):
        assert set(options) <= set(inspect.signature(GUIDANCE[entry].resolve()).parameters)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: convert("diffusers:Nope"), "no convention 'diffusers:Nope'; there are paper:2207.12598"),
        (lambda: convert("k-diffusion", cfg=2.0), "k-diffusion has no argument 'cfg'; it has cond_scale"),
        (lambda: convert("diffusers:ClassifierFreeGuidance", start=0.2), "start and stop count steps: give the level"),
        (lambda: convert("diffusers:ClassifierFreeZeroStarGuidance"), "zero_init_steps count steps"),
        (lambda: convert("diffusers:AdaptiveProjectedGuidance", eta=0.0), "not APG's c"),
    ],
)
def test_what_cannot_be_converted_is_one_line(call, says):
    with pytest.raises(ValueError, match=says) as raised:
        call()
    assert "\n" not in str(raised.value)

"""What other programs and papers call the strength of guidance, as schemes of fidmap with their options.

Two conventions of a scale are in use: 1 is off, ``u + g (c - u)``, which is fidmap's w; and 0 is off, ``c + g (c -
u)``, where w = 1 + g. What adds to a guided prediction, such as PAG, is off at 0 here and in most programs. Programs
switch guidance on and off by fractions of the steps; ``levels`` are the levels sigma/alpha of those steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from implementations.catalogue import GUIDANCE
from implementations.diffusion.denoiser import Denoiser


class Scheme(NamedTuple):
    """An entry of ``GUIDANCE`` with its options."""

    entry: str
    options: dict[str, Any]


Schemes: TypeAlias = tuple[Scheme, ...]  # from the innermost to the outermost
Arguments: TypeAlias = dict[str, Any]


class Convention(NamedTuple):
    """A program's arguments with their defaults, what they stand for, and what is to be known of them."""

    arguments: Mapping[str, Any]
    schemes: Callable[[Arguments], Schemes]
    note: str = ""


def convert(name: str, *, levels: Sequence[float] | None = None, **arguments: Any) -> Schemes:
    """Give the schemes that a program's guidance with these arguments stands for, from the innermost to the outermost.

    ``name`` is a key of ``CONVENTIONS``, such as ``diffusers:ClassifierFreeGuidance``. Arguments that count steps or
    shares of them (start, stop, zero_init_steps) need ``levels``, the level sigma/alpha of each step. Raises ValueError
    on an unknown name or argument, and on values for which fidmap has no scheme.
    """
    if name not in CONVENTIONS:
        raise ValueError(f"no convention {name!r}; there are {', '.join(CONVENTIONS)}")
    known = CONVENTIONS[name].arguments
    if unknown := [one for one in arguments if one not in known]:
        raise ValueError(f"{name} has no argument {unknown[0]!r}; it has {', '.join(known)}")
    return CONVENTIONS[name].schemes({**known, **arguments, "levels": levels})


def guide(denoiser: Denoiser, schemes: Schemes) -> Denoiser:
    """Wrap a denoiser in schemes, the first innermost."""
    for entry, options in schemes:
        denoiser = GUIDANCE[entry](denoiser, **options)
    return denoiser


def _w(given: Arguments, name: str = "guidance_scale") -> float:
    """The scale w: the program's own, and 1 more in the formulation of Ho and Salimans."""
    return float(given[name]) + (1 if given.get("use_original_formulation") else 0)


def _one(entry: str, argument: str, default: float, more: float = 0.0, note: str = "", **fixed: Any) -> Convention:
    """A program with one scale, of which w is ``more`` more."""
    return Convention(
        {argument: default}, lambda given: (Scheme(entry, {"scale": given[argument] + more, **fixed}),), note
    )


def _guider(make: Callable[[Arguments], Scheme], note: str = "", **arguments: Any) -> Convention:
    """A guider of diffusers: one scheme, in an interval of the steps, then perhaps rescaled."""

    def schemes(given: Arguments) -> Schemes:
        return (make(given), *_interval(given, "start", "stop"), *_rescale(given))

    return Convention({**_SHARED, **arguments}, schemes, note)


def _perturbing(entry: str, prefix: str, scale: str, default: float, **own: str) -> Convention:
    """A guider of diffusers that adds a perturbed prediction to classifier-free guidance."""

    def schemes(given: Arguments) -> Schemes:
        w, s = _w(given), float(given[scale])
        options = {"scale": s, **{option: given[argument] for option, argument in own.items()}}
        if w == 1 and not given["use_original_formulation"]:  # classifier-free guidance is off there
            options["scale"] = s - 1 if s else 0.0
        window = _interval(given, f"{prefix}_start", f"{prefix}_stop", strictly=True)
        free = (Scheme("classifier_free", {"scale": w}), *_interval(given, "start", "stop"))
        return (*free, Scheme(entry, options), *window, *_rescale(given))

    arguments = {scale: default, f"{prefix}_start": 0.0, f"{prefix}_stop": 1.0, **dict.fromkeys(own.values())}
    note = "where guidance_scale is 1, its scale has 1 for off, unless use_original_formulation"
    return Convention({**_SHARED, **arguments}, schemes, note)


def _rescale(given: Arguments) -> Schemes:
    phi = given["guidance_rescale"]
    return (Scheme("rescale", {"phi": phi, "space": given.get("space") or "v"}),) if phi else ()


def _interval(given: Arguments, start: str, stop: str, strictly: bool = False) -> Schemes:
    """An interval of noise levels for shares of the steps; ``strictly`` leaves the first of them out."""
    if given[start] == 0 and given[stop] == 1 and not strictly:
        return ()
    if given[start] == 0 and given[stop] == 1 and given["levels"] is None:
        return ()
    levels = _levels(given, f"{start} and {stop}")
    first, last = (int(given[one] * len(levels)) for one in (start, stop))
    first += strictly
    if first >= last:
        return (Scheme("interval", {"low": math.inf, "high": math.inf}),)
    return (Scheme("interval", {"low": _above(levels, last), "high": _above(levels, first)}),)


def _above(levels: Sequence[float], step: int) -> float:
    """A level between that of a step and the one before; 0 after the last, infinite before the first."""
    if step == 0:
        return math.inf
    return math.sqrt(levels[step - 1] * levels[step]) if step < len(levels) else 0.0


def _levels(given: Arguments, names: str) -> list[float]:
    if given["levels"] is None:
        raise ValueError(f"{names} count steps: give the level sigma/alpha of each step as levels")
    return [float(level) for level in given["levels"]]


def _apg(given: Arguments) -> Scheme:
    momentum, threshold = given["adaptive_projected_guidance_momentum"], given["adaptive_projected_guidance_rescale"]
    plain = given["eta"] == 1 and not momentum and not threshold
    if not given["use_original_formulation"] and not plain:
        raise ValueError(
            "use_original_formulation=False adds g times the projected update to the unconditional prediction, which "
            "is not APG's c + (w - 1) d; use_original_formulation=True with g = w - 1 is"
        )
    options = {"eta": given["eta"], "momentum": momentum or 0.0, "threshold": threshold or math.inf}
    return Scheme("apg", {"scale": _w(given), **options, **_space(given)})


def _zero_star(given: Arguments) -> Scheme:
    steps, above = given["zero_init_steps"], math.inf
    if steps:
        above = _above(_levels(given, "zero_init_steps"), steps)
    return Scheme("cfg_zero_star", {"scale": _w(given), "zero_above": above, **_space(given)})


def _space(given: Arguments) -> dict[str, str]:
    """What the network predicts, in which the program compares predictions."""
    return {"space": given["space"]} if given["space"] else {}


def _pipeline(entry: str, scale: str, default: float, guidance_scale: float = 7.5) -> Convention:
    """A pipeline with classifier-free guidance and a scheme that adds to it, off at 0."""

    def schemes(given: Arguments) -> Schemes:
        return Scheme("classifier_free", {"scale": _w(given)}), Scheme(entry, {"scale": given[scale]})

    return Convention({"guidance_scale": guidance_scale, scale: default}, schemes)


_SHARED = {
    "guidance_scale": 7.5, "guidance_rescale": 0.0, "use_original_formulation": False, "start": 0.0, "stop": 1.0,
    "space": None,
}  # fmt: skip
_LAYERS = "of the same network with some layers skipped: give it as weak"

CONVENTIONS: Mapping[str, Convention] = MappingProxyType({
    # papers: their own letter for the scale
    "paper:2207.12598": _one("classifier_free", "w", 1.0, more=1.0),
    "paper:2205.11487": _one("classifier_free", "w", 8.0, note="Imagen"),
    "paper:2105.05233": Convention(
        {"s": 1.0, "conditional": False, "classifier": None},
        lambda given: (Scheme("classifier", {
            "scale": given["s"] + (1 if given["conditional"] else 0), "conditional": given["conditional"],
            "classifier": given["classifier"],
        }),),
        "ADM-G is conditional, and its s is in addition to the condition",
    ),
    "paper:2404.07724": Convention(
        {"w": 1.4, "sigma_lo": 0.0, "sigma_hi": math.inf},
        lambda given: (
            Scheme("classifier_free", {"scale": given["w"]}),
            Scheme("interval", {"low": given["sigma_lo"], "high": given["sigma_hi"]}),
        ),
    ),
    "paper:2406.02507": Convention(
        {"w": 2.0, "weak": None}, lambda given: (Scheme("autoguidance", {"scale": given["w"], "weak": given["weak"]}),)
    ),
    "paper:2406.08070": _one("cfg_plus_plus", "lambda", 0.6),
    "paper:2410.02416": Convention(
        {"w": 4.0, "eta": 0.0, "beta": -0.5, "r": math.inf},
        lambda given: (Scheme("apg", {
            "scale": given["w"], "eta": given["eta"], "momentum": given["beta"], "threshold": given["r"],
        }),),
    ),
    "paper:2403.17377": _one("perturbed_attention", "s", 3.0),
    "paper:2408.00760": _one("smoothed_energy", "s", 3.0),
    "paper:2210.00939": _one("self_attention", "s", 0.75),
    # programs with one scale
    "k-diffusion": _one("classifier_free", "cond_scale", 1.0, note="CFGDenoiser of its sampling scripts"),
    "comfyui:KSampler": _one("classifier_free", "cfg", 8.0, note="with a *_cfg_pp sampler it is lambda of cfg_plus_plus"),
    "comfyui:cfg_pp": _one("cfg_plus_plus", "cfg", 1.0),
    "comfyui:RescaleCFG": Convention(
        {"cfg": 8.0, "multiplier": 0.7},
        lambda given: (
            Scheme("classifier_free", {"scale": given["cfg"]}),
            Scheme("rescale", {"phi": given["multiplier"], "space": "v"}),
        ),
    ),
    "comfyui:PerturbedAttentionGuidance": _pipeline("perturbed_attention", "scale", 3.0),
    "comfyui:SelfAttentionGuidance": _pipeline("self_attention", "scale", 0.5),
    "comfyui:SkipLayerGuidanceDiT": _pipeline("skip_layer", "scale", 3.0),
    "automatic1111": _one("classifier_free", "cfg_scale", 7.0, note="CFG Scale"),
    "glide": _one("classifier_free", "guidance_scale", 3.0),
    "latent-diffusion": _one("classifier_free", "unconditional_guidance_scale", 5.0),
    "dit": _one("classifier_free", "cfg_scale", 4.0, note="it guides the first three of four channels, unless told otherwise"),
    "sit": _one("classifier_free", "cfg_scale", 1.0),
    "edm2": Convention(
        {"guidance": 1.0, "weak": None},
        lambda given: (Scheme("autoguidance", {"scale": given["guidance"], "weak": given["weak"]}),)
        if given["weak"] is not None else (Scheme("classifier_free", {"scale": given["guidance"]}),),
        "its guiding network, --gnet, is an unconditional or a weaker one",
    ),
    # diffusers' pipelines
    "diffusers:StableDiffusionPipeline": Convention(
        {"guidance_scale": 7.5, "guidance_rescale": 0.0, "space": None},
        lambda given: (Scheme("classifier_free", {"scale": _w(given)}), *_rescale(given)),
        "at 1 and below it is the conditional prediction",
    ),
    "diffusers:StableDiffusionPAGPipeline": _pipeline("perturbed_attention", "pag_scale", 3.0),
    "diffusers:StableDiffusionSAGPipeline": Convention(
        {"guidance_scale": 7.5, "sag_scale": 0.75},
        lambda given: (Scheme("classifier_free", {"scale": _w(given)}), Scheme("self_attention", {"scale": given["sag_scale"]})),
        "with classifier-free guidance its maps and differences are those of the unconditional prediction",
    ),
    "diffusers:StableDiffusion3Pipeline": _pipeline("skip_layer", "skip_layer_guidance_scale", 2.8, 7.0),
    "diffusers:FluxPipeline": _one("classifier_free", "true_cfg_scale", 1.0, note="its guidance_scale is an input of the network"),
    # diffusers' guiders; `space` is what the network predicts
    "diffusers:ClassifierFreeGuidance": _guider(lambda given: Scheme("classifier_free", {"scale": _w(given)})),
    "diffusers:ClassifierFreeZeroStarGuidance": _guider(_zero_star, zero_init_steps=1),
    "diffusers:AdaptiveProjectedGuidance": _guider(
        _apg, adaptive_projected_guidance_momentum=None, adaptive_projected_guidance_rescale=15.0, eta=1.0,
        note="the paper's is use_original_formulation=True, with a scale 1 less",
    ),
    "diffusers:AutoGuidance": _guider(
        lambda given: Scheme("autoguidance", {"scale": _w(given), "weak": given["weak"]}), weak=None, note=_LAYERS
    ),
    "diffusers:TangentialClassifierFreeGuidance": _guider(
        lambda given: Scheme("tangential", {"scale": _w(given), **_space(given)})
    ),
    "diffusers:MagnitudeAwareGuidance": _guider(
        lambda given: Scheme("magnitude_aware", {"scale": _w(given), "alpha": given["alpha"], **_space(given)}),
        guidance_scale=10.0, alpha=8.0, note="its norm takes predictions (n, tokens, width) alone",
    ),
    "diffusers:FrequencyDecoupledGuidance": _guider(
        lambda given: Scheme("frequency_decoupled", {
            "scale": tuple(_w({**given, "guidance_scale": one}) for one in given["guidance_scales"]), **_space(given),
        }),
        guidance_scales=(10.0, 5.0), note="images whose sides are no powers of 2 come back padded there",
    ),
    "diffusers:PerturbedAttentionGuidance": _perturbing(
        "perturbed_attention", "perturbed_guidance", "perturbed_guidance_scale", 2.8, layers="perturbed_guidance_layers"
    ),
    "diffusers:SmoothedEnergyGuidance": _perturbing(
        "smoothed_energy", "seg_guidance", "seg_guidance_scale", 3.0, layers="seg_guidance_layers"
    ),
    "diffusers:SkipLayerGuidance": _perturbing(
        "skip_layer", "skip_layer_guidance", "skip_layer_guidance_scale", 2.8, layers="skip_layer_guidance_layers"
    ),
})  # fmt: skip

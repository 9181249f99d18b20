"""Findings about diffusers' guiders and their hooks, each on a problem whose answer is known.

    python results/findings/of_diffusers_guiders.py [NAME ...]

Predictions are random numbers of a fixed seed; the guiders combine them by their own ``forward``. The rows of
results/audit-findings.md say what each finding means and when it holds.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import exact
import torch
from diffusers import guiders
from diffusers.hooks import smoothed_energy_guidance_utils as energy
from exact import Figures
from torch import Tensor

diffusers.logging.set_verbosity_error()
warnings.simplefilter("ignore")


def predictions(*shape: int) -> tuple[Tensor, Tensor]:
    """A conditional and an unconditional prediction."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def raised(call: Callable[[], Any]) -> str:
    """The name of what a call raises, or "nothing"."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "nothing"


def smoothed(sigma: float) -> Tensor:
    """The queries of 8 x 8 tokens, one of which was 1 and all others 0, after the hook of smoothed energy guidance."""
    queries = torch.zeros(1, 64, 1)
    queries[0, 27] = 1.0
    return energy.SmoothedEnergyGuidanceHook(sigma).post_forward(torch.nn.Identity(), queries).reshape(8, 8)


def energy_blur() -> Figures:
    """The two cases of the blur have changed places: a finite deviation gives the mean, an infinite one a blur."""
    line = torch.exp(-0.5 * torch.arange(-3.0, 4.0) ** 2)
    as_shipped = smoothed(guiders.SmoothedEnergyGuidance(seg_guidance_layers=[0]).seg_blur_sigma)
    return {
        "largest query at deviation 1": float(smoothed(1.0).max()),
        "a Gaussian's": float((line / line.sum()).max()) ** 2,
        "difference between deviations 1 and 9999": float((smoothed(1.0) - smoothed(9999.0)).abs().max()),
        "difference between queries at the default": float(as_shipped.max() - as_shipped.min()),
    }


def frequency_padding() -> Figures:
    """Sides that are no powers of 2 are padded for the pyramid, and the result is not cut again."""
    guider = guiders.FrequencyDecoupledGuidance(guidance_scales=[3.0, 2.0])
    return {f"side of {n}": float(guider.forward(*predictions(1, 1, n, n)).pred.shape[-1]) for n in (28, 64, 96)}


def frequency_neutral() -> Figures:
    """Where the scale of a level is neutral, what is read in its place is the level before, or nothing."""

    def guide(*scales: float) -> Tensor:
        return guiders.FrequencyDecoupledGuidance(guidance_scales=list(scales)).forward(*predictions(1, 1, 64, 64)).pred

    return {
        "the first level": raised(lambda: guide(1.0, 2.0)),
        "the last level": raised(lambda: guide(2.0, 1.0)),
        "nearly neutral": raised(lambda: guide(2.0, 1.00001)),
    }


def magnitude_norm() -> Figures:
    """The norm is asked for over three dimensions, which torch takes for a matrix norm and refuses."""
    guider = guiders.MagnitudeAwareGuidance(guidance_scale=4.0)
    return {
        "images": raised(lambda: guider.forward(*predictions(1, 4, 8, 8))),
        "tokens": raised(lambda: guider.forward(*predictions(1, 64, 4))),
    }


def tangential_condition() -> Figures:
    """The property that says which prediction is being made reads a name that no guider has."""
    guider = guiders.TangentialClassifierFreeGuidance()
    return {"is_conditional": raised(lambda: guider.is_conditional)}


FINDINGS = [energy_blur, frequency_padding, frequency_neutral, magnitude_norm, tangential_condition]

if __name__ == "__main__":
    exact.command(FINDINGS, sys.argv[1:])

"""The exact effect of a sampler on each eigenmode of a Gaussian: bias, W2 and KL at a budget of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from bench.task import Context, Measurements, Value
from bench.tasks.samplers.grids import make_path
from bench.tasks.samplers.images import spectral_gaussian
from bench.tasks.samplers.problems import check_budget, cost_measures, gaussian, sampler_of, set_up
from implementations.diffusion.denoiser import CountingDenoiser
from implementations.diffusion.law import (
    marginal_law,
    mean_errors,
    output_law,
    relative_entropy,
    squared_w2,
    variance_errors,
)
from implementations.diffusion.oracle import GaussianOracle
from implementations.diffusion.path import Path

if TYPE_CHECKING:
    from bench.tasks.samplers.declarations import SpectrumParameters

Spectrum = Literal["toy", "fmnist"]
SPECTRA: dict[Spectrum, Callable[[Path, str], GaussianOracle]] = {"toy": gaussian, "fmnist": spectral_gaussian}


def sampler_spectrum(parameters: SpectrumParameters, context: Context) -> Measurements:
    """The exact law of the output against the truth at the last time of the grid, from the exact law at its first.

    The data are Gaussian, so that bias, W2 and KL are exact for each eigenmode.
    """
    oracle = SPECTRA[parameters.spectrum](make_path(parameters.path), context.device)
    setup = set_up(parameters, oracle, context.seed)
    counted = CountingDenoiser(oracle)
    sampler_of(parameters)(counted, oracle.sample(1), setup.times, **setup.options)
    evaluations = check_budget(parameters, counted)
    law = output_law(sampler_of(parameters), oracle, setup.times, setup.options)
    truth = marginal_law(oracle, setup.times[-1])
    distance, entropy = squared_w2(law, truth), relative_entropy(law, truth)
    context.keep("eigenvalue", oracle.spectra[0].expand_as(truth.mean))
    context.keep("mean_error", mean_errors(law, truth).abs())
    context.keep("variance_error", variance_errors(law, truth))
    context.keep("w2", distance.sqrt())
    context.keep("kl", entropy)
    return {
        "w2": Value(float(distance.sum().sqrt()), n=len(distance)),
        "kl": Value(float(entropy.sum()), n=len(distance)),
        "mean_error": float(mean_errors(law, truth).norm()),
        "variance_error": float(variance_errors(law, truth).square().mean().sqrt()),
        **cost_measures(evaluations, setup.artifacts),
    }

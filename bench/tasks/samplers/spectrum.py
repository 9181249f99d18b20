"""The exact effect of a sampler on each eigenmode of a Gaussian: bias, W2 and KL at a budget of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bench.task import Context, Measure, Measurements, Value, task
from bench.tasks.samplers.images import spectral_gaussian
from bench.tasks.samplers.problems import COSTS, Budgeted, check_budget, cost_measures, gaussian, make_path, set_up
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

Spectrum = Literal["toy", "fmnist"]
SPECTRA: dict[Spectrum, Callable[[Path, str], GaussianOracle]] = {"toy": gaussian, "fmnist": spectral_gaussian}


class Parameters(Budgeted):
    """A sampler with a budget, on a Gaussian of 16 modes or of the 784 of the Fashion-MNIST test images."""

    spectrum: Spectrum = "fmnist"


@task(
    entry="sampler",
    catalogue="samplers",
    measures=[
        Measure("w2", "2-Wasserstein distance to the exact law"),
        Measure("kl", "relative entropy KL(output || exact law)", unit="nats"),
        Measure("mean_error", "distance of the means, which is part of w2"),
        Measure("variance_error", "RMS over the modes of the relative error of the variance"),
        *COSTS,
    ],
)
def sampler_spectrum(parameters: Parameters, context: Context) -> Measurements:
    """The exact law of the output against the truth at the last time of the grid, from the exact law at its first.

    The data are Gaussian, so that bias, W2 and KL are exact for each eigenmode.
    """
    oracle = SPECTRA[parameters.spectrum](make_path(parameters.path), context.device)
    setup = set_up(parameters, oracle, context.seed)
    counted = CountingDenoiser(oracle)
    parameters.entry(counted, oracle.sample(1), setup.times, **setup.options)
    evaluations = check_budget(parameters, counted)
    law = output_law(parameters.entry, oracle, setup.times, setup.options)
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

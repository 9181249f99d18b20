"""Diffusion: forward processes, predictions, closed-form denoisers and time grids."""

from implementations.catalogue import SCHEDULES
from implementations.diffusion.denoiser import AverageVelocity, CountingDenoiser, Denoiser, Network, Prediction
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.empirical import EmpiricalOracle
from implementations.diffusion.oracle import GaussianOracle, MixtureOracle
from implementations.diffusion.path import EDM, VE, VP, Cosine, Path, RectifiedFlow, SubVP, TrigFlow

__all__ = [
    "EDM",
    "SCHEDULES",
    "VE",
    "VP",
    "AverageVelocity",
    "Cosine",
    "CountingDenoiser",
    "Denoiser",
    "DiscreteVP",
    "EmpiricalOracle",
    "GaussianOracle",
    "MixtureOracle",
    "Network",
    "Path",
    "Prediction",
    "RectifiedFlow",
    "SubVP",
    "TrigFlow",
]

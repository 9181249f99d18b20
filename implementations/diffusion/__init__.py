"""Diffusion: forward processes, predictions, closed-form denoisers and time grids."""

import lazy_loader

from implementations.catalogue import SCHEDULES

_EXPORTS = {
    "denoiser": ["AverageVelocity", "CountingDenoiser", "Denoiser", "Network", "Prediction"],
    "discrete": ["DiscreteVP"],
    "empirical": ["EmpiricalOracle"],
    "oracle": ["GaussianOracle", "MixtureOracle"],
    "path": ["Cosine", "EDM", "Path", "RectifiedFlow", "SubVP", "TrigFlow", "VE", "VP"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
__all__ = [*__all__, "SCHEDULES"]

"""Training losses as pure functions: regression on noised data, score matching, consistency; one loss per sample.

Whoever calls one draws times and noise, so that a loss is repeated by the same draws, whatever the batch.
"""

import lazy_loader

from implementations.catalogue.objectives import OBJECTIVES, TIMESTEPS

_EXPORTS = {
    "consistency": ["consistency_distillation", "consistency_training"],
    "regression": ["noised", "regression"],
    "score_matching": ["denoising", "implicit", "sliced"],
    "weighting": ["WEIGHTINGS"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
__all__ = [*__all__, "OBJECTIVES", "TIMESTEPS"]

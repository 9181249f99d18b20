"""Guidance: wrappers ``Guidance(denoiser, ...) -> Denoiser`` that compose with one another and with every sampler.

``scale`` is w of ``p(x) p(c|x)^w``: 0 is unconditional and 1 conditional, in every scheme that has such a w. A scheme
adds to what it wraps, so ``GUIDANCE["perturbed_attention"](GUIDANCE["classifier_free"](denoiser, scale=4.0))`` is both.
The condition is the sampler's: ``SAMPLERS["heun"](guided, x, times, condition=labels)``. ``contract.py`` says how a
scheme is written, and ``conventions.py`` converts the scales of other programs.
"""

import lazy_loader

from implementations.catalogue import GUIDANCE

_EXPORTS = {
    "contract": ["Guidance"],
    "conventions": ["CONVENTIONS", "convert"],
    "operators": ["blurring", "inpainting", "super_resolution"],
    "sampler": ["guided"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
__all__ = [*__all__, "GUIDANCE"]

"""Samplers: ``sampler(denoiser, x, times, *, condition=None, noise=None, generator=None, callback=None, ...) -> x``.

``x`` is the state at ``times[0]``, such as ``path.prior(z, times[0])`` or a draw of the marginal there; the result is
the state at ``times[-1]``. A sampler that adds noise takes it from ``noise`` or from ``generator``, else from torch's
global generator (``diffusion.noise.noise_of``). ``callback(i, t, x, prediction)`` sees the time and the state after
step i and the prediction before it. Call a sampler under ``torch.no_grad()`` unless gradients are wanted, since
autograd keeps the graph of every step. Entries state whether they are ``differentiable`` in ``x`` and in the
denoiser's parameters. ``contract.py`` says how a sampler is written.
"""

import lazy_loader

from implementations.catalogue import SAMPLERS

_EXPORTS = {
    "contract": ["PerSampleNoise", "sampler"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
__all__ = [*__all__, "SAMPLERS"]

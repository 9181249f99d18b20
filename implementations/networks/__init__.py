"""Networks: torch modules ``network(x, time, condition=None) -> Tensor``, built by name from a configuration.

``NETWORKS["unet"](**configuration)`` gives a module whose output has the shape of ``x``, with twice the channels where
it learns a variance too. ``time`` is a scalar or one value per sample. ``condition`` is one class label per sample,
int64 (n,), of which the label equal to ``classes`` is the dropped one and None drops all; or, for cross-attention,
tokens of shape (n, tokens, width). ``network.configuration`` is what built it, as JSON has it. What the output means
is up to the denoiser: ``implementations.diffusion.Network(path, network, head)`` reads it as eps, x0, v or velocity,
and ``Preconditioned(network)`` is EDM's preconditioning of it, with the head x0.
"""

import lazy_loader

from implementations.catalogue import NETWORKS

_EXPORTS = {
    "hooks": ["attention_layers", "bypass_layers", "layers", "replace_attention"],
    "precondition": ["Preconditioned"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)
__all__ = [*__all__, "NETWORKS"]

"""Shipped checkpoints, small networks that were trained here: ``load("fmnist-edm")`` gives a denoiser.

    denoiser = load("fmnist-edm")
    denoiser(x, t, labels).x0       # x (n, 1, 28, 28) in [-1, 1] with noise, t on denoiser.path, labels (n,) or None

Each is a file of numbers alone (safetensors, bfloat16), whose metadata say how the network is built and asked, beside
its card: how it was trained, and what was measured. ``fidmap train NAME`` makes both again.
"""

import lazy_loader

_EXPORTS = {"files": ["hash_weights", "load", "read", "shipped"], "learned": ["Learned", "build"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)

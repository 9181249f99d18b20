"""Small networks for tests, with every kind of part and of condition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from implementations.networks import NETWORKS

_UNET = {"channels": 2, "widths": [16, 32], "depth": 1, "attention": [False, True], "heads": 2, "groups": 8}
_DIT = {"channels": 2, "size": 8, "patch": 2, "width": 32, "depth": 3, "heads": 4, "classes": 5}
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", _UNET),
    "unet-classes": ("unet", {**_UNET, "classes": 5, "scale_shift": True, "unshuffle": 2, "time_scale": 1000.0}),
    "unet-context": ("unet", {**_UNET, "context": 12, "transformer_depth": [1, 2], "attention": True}),
    "unet-fourier": ("unet", {**_UNET, "embedding": "fourier", "pad_end": True, "middle_attention": False}),
    "dit": ("dit", _DIT),
    "dit-variance": ("dit", {**_DIT, "classes": None, "learned_variance": True}),
}


def build(name: str, **changes: Any) -> nn.Module:
    """A network of one of these configurations, always with the same weights, none of which is zero."""
    kind, configuration = CONFIGURATIONS[name]
    torch.manual_seed(0)
    return stir(NETWORKS[kind](**{**configuration, **changes})).eval()


def stir(network: nn.Module) -> nn.Module:
    """Draw every weight anew, since a network begins with branches that add next to nothing."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2 if parameter.ndim == 1 else min(0.2, parameter[0].numel() ** -0.5))
    return network


def inputs(name: str, n: int = 3, size: int = 8, seed: int = 1) -> tuple[Tensor, Tensor, Tensor | None]:
    """A state, times and a condition for a network of this name."""
    generator = torch.Generator().manual_seed(seed)
    x, time = torch.randn(n, 2, size, size, generator=generator), torch.rand(n, generator=generator)
    if name in ("unet-classes", "dit"):
        return x, time, torch.arange(n) % 5
    return x, time, torch.randn(n, 4, 12, generator=generator) if name == "unet-context" else None

"""diffusers' networks, of its own options, by this package's call: ``network(x, time, condition=None) -> Tensor``."""

from __future__ import annotations

from typing import Any

import diffusers
from torch import Tensor, nn


class Called(nn.Module):
    """A network of diffusers, held as ``network``, called as this package's are; ``condition`` is class labels."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        known = {} if condition is None else {"class_labels": condition}
        return self.network(x, timestep=time, return_dict=False, **known)[0]  # type: ignore[no-any-return]


def unet(**configuration: Any) -> Called:
    """diffusers' ``UNet2DModel`` of its own configuration, with weights from torch's global generator."""
    return Called(diffusers.UNet2DModel(**configuration))


def dit(**configuration: Any) -> Called:
    """diffusers' ``DiTTransformer2DModel`` of its own configuration, with weights from torch's global generator."""
    return Called(diffusers.DiTTransformer2DModel(**configuration))

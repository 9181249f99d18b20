"""EDM's preconditioning: a network as a part of a denoiser whose inputs and targets have unit variance."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from implementations.networks import hooks


class Preconditioned(nn.Module):
    """A network F with EDM's preconditioning, ``x0 = c_skip x + c_out F(c_in x, c_noise)`` (2206.00364, table 1).

    With s the standard deviation of the data: ``c_skip = s^2 / (sigma^2 + s^2)``,
    ``c_out = sigma s / sqrt(sigma^2 + s^2)``, ``c_in = 1 / sqrt(sigma^2 + s^2)``, ``c_noise = log(sigma) / 4``. Called
    as ``module(x, sigma, condition=None) -> x0``, of the shape of x, which is the head ``x0`` on the path ``EDM``,
    whose time is sigma. The sum is in float32 at least, whatever the network's dtype; so give ``Network`` the dtype
    float32 where that of the network is lower. Raises ValueError where the network learns a variance.
    """

    def __init__(self, network: nn.Module, deviation: float = 0.5):
        super().__init__()
        if not deviation > 0:
            raise ValueError(f"deviation must be positive, got {deviation}")
        self.network, self.deviation = network, float(deviation)

    def forward(
        self, x: Float[Tensor, " n *shape"], sigma: float | Tensor, condition: Any = None
    ) -> Float[Tensor, " n *shape"]:
        exact = torch.promote_types(x.dtype, torch.float32)
        sigma = torch.as_tensor(sigma, dtype=exact, device=x.device)
        noise = sigma.clamp(min=1e-8).log() / 4
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = (sigma**2 + self.deviation**2).sqrt()
        dtype = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), x.dtype)
        inner = self.network((x / total).to(dtype), noise, condition)
        if inner.shape != x.shape:
            raise ValueError(f"the network gives {tuple(inner.shape)} for {tuple(x.shape)}: x0 has no learned variance")
        return (self.deviation / total) ** 2 * x + sigma * self.deviation / total * inner.to(exact)

    def attention_layers(self) -> dict[str, nn.Module]:
        """The network's own."""
        return hooks.attention_layers(self.network)

    def layers(self) -> dict[str, nn.Module]:
        """The network's own."""
        return hooks.layers(self.network)

"""A classifier of noised images, for classifier guidance: the gradient of log p(class | x_t) at every noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from implementations.catalogue import PATHS
from implementations.networks.half import GroupNorm


class NoisyClassifier(nn.Module):
    """A small residual network ``classifier(x, t) -> logits`` of noised images x at times t of its path (2105.05233).

    x is scaled by ``1 / sqrt(alpha^2 d^2 + sigma^2)``, d the standard deviation of the data, and each block is
    modulated by Fourier features of log sigma/alpha, held in [-5, 5]. ``t`` is a scalar or has one value per sample.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        widths: Sequence[int] = (32, 64, 96),
        path: str = "edm",
        sigma_data: float = 0.7,
        features: int = 64,
    ):
        super().__init__()
        self.configuration: dict[str, Any] = {
            "channels": channels, "classes": classes, "widths": list(widths), "path": path, "sigma_data": sigma_data,
            "features": features,
        }  # fmt: skip
        self.path, self.classes, self.sigma_data = PATHS[path](), classes, sigma_data
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(-2, 3, features // 2)), persistent=False)
        self.level = nn.Sequential(nn.Linear(features, features), nn.SiLU())
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList(
            _Block(here, there, features, stride)
            for here, there, stride in zip(
                (widths[0], *widths[:-1]), widths, (1, *(2,) * (len(widths) - 1)), strict=True
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Float[Tensor, "n c h w"], t: Any) -> Float[Tensor, "n k"]:
        """Logits of the classes (n, k) of noised images at times t, a scalar or (n,)."""
        t = self.path.inside(torch.as_tensor(t)).to(x.device).expand(len(x))
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        level = self.path.log_snr(t).clamp(-5, 5).to(x)
        angles = level[:, None] * self.frequencies / math.pi
        level = self.level(torch.cat([angles.sin(), angles.cos()], 1))
        scale = (alpha**2 * self.sigma_data**2 + sigma**2).rsqrt().to(x)
        h = self.enter(x * scale[:, None, None, None])
        for block in self.blocks:
            h = block(h, level)
        return self.head(h.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, features: int, stride: int):
        super().__init__()
        self.norms = nn.ModuleList([GroupNorm(8, channels), GroupNorm(8, out)])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(channels, out, 3, stride, padding=1), nn.Conv2d(out, out, 3, padding=1)]
        )
        self.modulation = nn.Linear(features, 2 * out)
        self.skip = nn.Conv2d(channels, out, 1, stride) if stride > 1 or channels != out else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.convolutions[0](nn.functional.silu(self.norms[0](x)))
        scale, shift = self.modulation(level)[:, :, None, None].chunk(2, 1)
        h = self.norms[1](h) * (1 + scale) + shift
        return self.skip(x) + self.convolutions[1](nn.functional.silu(h))

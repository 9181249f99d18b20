"""Denoisers for the tests of guidance: one that predicts what it is given, and a small network with hooks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from implementations.diffusion import Denoiser, MixtureOracle, Prediction
from implementations.diffusion.path import Path


class Given(Denoiser):
    """Predicts ``c`` with a condition and ``u`` without one, in the view ``head``, whatever x and t are."""

    unconditional = -1

    def __init__(self, path: Path, c: Tensor, u: Tensor, head: str = "eps"):
        self.path, self.c, self.u, self.head = path, c, u, head

    def __call__(self, x: Tensor, t: Any, condition: Any = None) -> Prediction:
        times = len(x) // len(self.c)
        labels = torch.full((len(x),), -1) if condition is None else torch.as_tensor(condition).expand(len(x))
        without = (labels == -1).reshape(-1, *[1] * (x.ndim - 1))
        found = torch.where(without, *(each.repeat(times, *[1] * (x.ndim - 1)) for each in (self.u, self.c)))
        return Prediction(self.path, x, t, **{self.head: found})


class Attention(nn.Module):
    """Self-attention of tokens (n, tokens, width) with ``heads`` heads, as the hooks of networks need it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(n, tokens, width))


class Tiny(nn.Module):
    """A network of images (n, 1, h, w): a token per 2 x 2 pixels, blocks of attention, a table of classes."""

    def __init__(self, classes: int = 3, width: int = 8, blocks: int = 3, heads: int = 2):
        super().__init__()
        self.configuration = {"classes": classes}
        self.enter, self.leave = nn.Conv2d(1, width, 2, 2), nn.ConvTranspose2d(width, 1, 2, 2)
        self.labels, self.time = nn.Embedding(classes + 1, width), nn.Linear(2, width)
        self.blocks = nn.ModuleList(Attention(width, heads) for _ in range(blocks))

    def attention_layers(self) -> dict[str, nn.Module]:
        return {f"blocks.{i}": block for i, block in enumerate(self.blocks)}

    layers = attention_layers

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        time = time.expand(len(x)).to(x.dtype)
        dropped = torch.full((len(x),), self.labels.num_embeddings - 1)
        labels = dropped if condition is None else torch.as_tensor(condition).expand(len(x))
        image = self.enter(x)
        tokens = image.flatten(2).mT
        waves = torch.stack([time.sin(), (3 * time).cos()], 1)
        tokens = tokens + (self.time(waves) + self.labels(labels))[:, None]
        for block in self.blocks:
            tokens = block(tokens)
        return self.leave(tokens.mT.reshape(image.shape))


def tiny(seed: int = 0, **options: Any) -> Tiny:
    """A small network with fixed weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Tiny(**options).double().requires_grad_(False)


def classes(path: Path) -> MixtureOracle:
    """Three classes in the plane: two Gaussians of full covariance, and a class of two isotropic ones that overlap."""
    means = torch.tensor([[0.8, 0.0], [-0.6, 0.5], [0.0, -0.7], [0.3, 0.9]], dtype=torch.float64)
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]], dtype=torch.float64)
    first = turn @ torch.diag(torch.tensor([0.3, 0.05], dtype=torch.float64)) @ turn.T
    covariances = torch.stack([first, first.T.flip(0, 1), *(0.1 * torch.eye(2, dtype=torch.float64),) * 2])
    covariances = (covariances + covariances.mT) / 2
    return MixtureOracle(path, means, covariances, [0.3, 0.3, 0.2, 0.2], labels=torch.tensor([0, 1, 2, 2]))

"""Attention, on tokens of shape (n, tokens, width) and on images, whose pixels are the tokens."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from implementations.networks.half import GroupNorm, attend

Tokens: TypeAlias = Float[Tensor, "n tokens width"]


class SelfAttention(nn.Module):
    """Attention of tokens to one another (1706.03762, sec. 3.2); q, k and v are one product.

    ``attend(q, k, v)`` is softmax(q k^T / sqrt(d)) v, on (n, heads, tokens, d); guidance replaces it.
    """

    attend = staticmethod(attend)

    def __init__(self, width: int, heads: int, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens) -> Tokens:
        q, k, v = split(self.qkv(x), 3, self.heads)
        return self.out(merge(self.attend(q, k, v)))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Attention of tokens to those of a condition, whose keys and values are one product."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens, context: Float[Tensor, "n others k"]) -> Tokens:
        (q,), (k, v) = split(self.query(x), 1, self.heads), split(self.key_value(context), 2, self.heads)
        return self.out(merge(attend(q, k, v)))  # type: ignore[no-any-return]


class AttentionBlock(nn.Module):
    """Group norm and self-attention of an image's pixels, added to the image."""

    def __init__(self, width: int, heads: int, groups: int, eps: float):
        super().__init__()
        self.norm = GroupNorm(groups, width, eps)
        self.attention = SelfAttention(width, heads)

    def forward(self, x: Float[Tensor, "n c h w"], context: None = None) -> Float[Tensor, "n c h w"]:
        return as_image(self.attention(as_tokens(self.norm(x))).add_(as_tokens(x)), x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to a condition and a gated layer, each after layer norm (2112.10752)."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, bias=False)
        self.cross = CrossAttention(width, context, heads)
        self.gate = nn.Linear(width, 8 * width)
        self.leave = nn.Linear(4 * width, width)

    def forward(self, x: Tokens, context: Float[Tensor, "n others k"]) -> Tokens:
        x = self.attention(self.norm1(x)).add_(x)
        x = self.cross(self.norm2(x), context).add_(x)
        value, gate = self.gate(self.norm3(x)).chunk(2, 2)
        return self.leave(value * F.gelu(gate)).add_(x)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Transformer blocks on an image's pixels between two linear layers, added to the image (2112.10752, E.2.1)."""

    def __init__(self, width: int, context: int, heads: int, groups: int, depth: int = 1):
        super().__init__()
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, context, heads) for _ in range(depth))
        self.leave = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n c h w"], context: Float[Tensor, "n others k"]) -> Float[Tensor, "n c h w"]:
        h = self.enter(as_tokens(self.norm(x)))
        for block in self.blocks:
            h = block(h, context)
        return as_image(self.leave(h).add_(as_tokens(x)), x)


def split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split a product into its parts, each by head: (n, tokens, parts heads d) => parts of (n, heads, tokens, d)."""
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def merge(x: Float[Tensor, "n heads tokens d"]) -> Tokens:
    """Put heads beside one another: (n, heads, tokens, d) => (n, tokens, heads d)."""
    return x.transpose(1, 2).flatten(2)


def as_tokens(x: Float[Tensor, "n c h w"]) -> Tokens:
    """The pixels as tokens, NCHW => N (HW) C: no copy where the channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_image(tokens: Tokens, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Tokens as the pixels of an image, with the channels last in memory."""
    return tokens.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def modulate(x: Tokens, shift: Tensor, scale: Tensor) -> Tokens:
    """``x (1 + scale) + shift``."""
    return torch.addcmul(shift, x, 1 + scale)

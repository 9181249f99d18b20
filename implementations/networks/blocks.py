"""What networks share: the embedding of a time, what they are asked at, and the residual blocks of U-Nets."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from implementations.networks.half import GroupNorm

Embedding = Literal["sinusoidal", "fourier"]
PERIOD = 10_000.0  # of the slowest frequency, in units of 2 pi


class TimeEmbedding(nn.Module):
    """A time as a vector: k cosines and k sines of it at several frequencies, then two layers with SiLU between.

    ``sinusoidal``: ``w_i = 10000^(-i / (k - shift))``, i < k (1706.03762, sec. 3.5), of the time times ``scale``.
    ``fourier``: ``w_i = 2 pi z_i``, z drawn once from N(0, 16^2) and kept (2006.10739; NCSN++, 2011.13456).
    """

    def __init__(
        self,
        features: int,
        width: int,
        kind: Embedding = "sinusoidal",
        *,
        scale: float = 1.0,
        shift: float = 0.0,
        cosine_first: bool = True,
    ):
        super().__init__()
        if kind not in ("sinusoidal", "fourier"):
            raise ValueError(f"embedding must be sinusoidal or fourier, got {kind!r}")
        if features % 2:
            raise ValueError(f"a time is embedded in an even number of features, got {features}")
        self.half, self.scale, self.shift, self.cosine_first = features // 2, scale, shift, cosine_first
        self.register_buffer("frequencies", 16 * torch.randn(features // 2) if kind == "fourier" else None)
        self.enter = nn.Linear(features, width)
        self.leave = nn.Linear(width, width)

    def forward(self, time: Float[Tensor, " n"]) -> Float[Tensor, "n width"]:
        waves = time.float()[:, None] * self.scale * self._frequencies(time.device)
        first, second = (waves.cos(), waves.sin()) if self.cosine_first else (waves.sin(), waves.cos())
        found = torch.cat([first, second], 1).to(self.enter.weight.dtype)
        return self.leave(F.silu(self.enter(found), inplace=not torch.is_grad_enabled()))  # type: ignore[no-any-return]

    def _frequencies(self, device: torch.device) -> Tensor:
        """In float32 whatever the network's dtype: bfloat16 would not tell 998 from 999."""
        if self.frequencies is not None:
            return 2 * math.pi * self.frequencies.float()  # type: ignore[no-any-return]
        steps = torch.arange(self.half, dtype=torch.float32, device=device)
        return torch.exp(-math.log(PERIOD) * steps / (self.half - self.shift))


def as_times(time: float | Tensor, x: Tensor) -> Float[Tensor, " n"]:
    """Give the times of a batch as a vector, of length 1 where all are the same number.

    Raises ValueError unless ``time`` is a scalar or has one value per sample.
    """
    found = torch.as_tensor(time, device=x.device)
    if found.ndim > 1 or (found.ndim == 1 and len(found) not in (1, len(x))):
        raise ValueError(f"time must be a scalar or of shape ({len(x)},), got {tuple(found.shape)}")
    return found.reshape(-1)


class LabelEmbedding(nn.Embedding):
    """A vector per class, and where labels may be dropped one more for the label ``classes``, which stands for none."""

    def __init__(self, classes: int, width: int, droppable: bool = True):
        super().__init__(classes + droppable, width)
        self.classes, self.droppable = classes, droppable

    def forward(self, labels: Int64[Tensor, " n"] | None, x: Tensor) -> Float[Tensor, "n width"]:  # type: ignore[override]
        """The vectors of the labels of a batch ``x``; None drops all labels.

        Raises ValueError on labels of another type, number or range. The range of labels on a GPU is not looked at,
        which would wait for it, nor that in a compiled network, which it would break in two.
        """
        if labels is None:
            if not self.droppable:
                raise ValueError("this network knows no dropped label: it needs a condition, one class per sample")
            labels = torch.full((1,), self.classes, device=x.device)
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape not in ((len(x),), (1,)):
            given = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise ValueError(f"the condition is class labels, int64 of shape ({len(x)},), got {given}")
        if labels.device.type == "cpu" and len(labels) and not torch.compiler.is_compiling():
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_embeddings:
                dropped = f", of which {self.classes} is the dropped one" if self.droppable else ""
                wrong = low if low < 0 else high
                raise ValueError(f"class {wrong} is none: labels go from 0 to {self.num_embeddings - 1}{dropped}")
        return super().forward(labels.to(x.device))


class ResidualBlock(nn.Module):
    """Two convolutions, each after group norm and SiLU, on a shortcut; the time comes in between (2006.11239).

    Its modulation is added to the state before the second norm; with ``scale_shift`` it is a scale and a shift after
    that norm (2105.05233, eq. 4). With ``dropout``, some of what the second convolution sees is dropped in training.
    """

    def __init__(
        self, enter: int, leave: int, *, groups: int, eps: float, scale_shift: bool = False, dropout: float = 0.0
    ):
        super().__init__()
        self.scale_shift, self.dropout = scale_shift, dropout
        self.modulated = leave * (2 if scale_shift else 1)  # numbers that it takes of a time
        self.norm1 = GroupNorm(groups, enter, eps)
        self.conv1 = nn.Conv2d(enter, leave, 3, padding=1)
        self.norm2 = GroupNorm(groups, leave, eps)
        self.conv2 = nn.Conv2d(leave, leave, 3, padding=1)
        self.shortcut = nn.Conv2d(enter, leave, 1) if enter != leave else None

    def forward(self, x: Float[Tensor, "n c h w"], modulation: Float[Tensor, "m k"]) -> Float[Tensor, "n d h w"]:
        h = self.conv1(silu(self.norm1(x)))
        modulation = modulation[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h.add_(modulation))
        h = silu(h)
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        return self.conv2(h).add_(x if self.shortcut is None else self.shortcut(x))  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Halve height and width by a convolution of stride 2; ``pad_end`` pads only below and on the right, as DDPM."""

    def __init__(self, width: int, pad_end: bool = False):
        super().__init__()
        self.pad_end = pad_end
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=0 if pad_end else 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.pad_end else x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Repeat the nearest element up to a size, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"], size: torch.Size) -> Float[Tensor, "n c i j"]:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]


def silu(x: Tensor) -> Tensor:
    """SiLU of what nobody else holds: in place, unless autograd needs ``x`` itself."""
    return F.silu(x, inplace=not x.requires_grad)


def shrink(*modules: nn.Conv2d | nn.Linear) -> None:
    """Begin with branches that add next to nothing, which trains better than zero does (2206.00364, app. F.6)."""
    for module in modules:
        with torch.no_grad():
            module.weight.mul_(1e-5)
            if module.bias is not None:
                module.bias.zero_()

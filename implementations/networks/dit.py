"""DiT, a transformer on patches whose blocks time and class modulate, and which begins as the identity (adaLN-zero)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from implementations.networks.attention import SelfAttention, Tokens, modulate
from implementations.networks.blocks import PERIOD, LabelEmbedding, TimeEmbedding, as_times

FREQUENCIES = 256  # features of a time (2212.09748)


class DiT(nn.Module):
    """A diffusion transformer ``dit(x, time, condition=None)`` (2212.09748).

    x has the shape (n, channels, h, w), h and w multiples of ``patch``; positions are those of images of ``size``
    pixels, between which other sizes are interpolated. With ``learned_variance`` the output has twice the channels.

    - ``width``, ``depth`` and ``heads`` of the transformer; its MLP is four times as wide.
    - ``classes``: class labels as the condition, of which ``classes`` is the dropped one (None drops all), unless not
      ``droppable``; None: it takes no condition.
    - ``time_scale`` times the time are embedded, with ``frequency_shift`` as ``TimeEmbedding`` has.
    - ``mlp_eps``: of the layer norm before each MLP; that of the others is 1e-6.

    Raises ValueError on a configuration that does not fit together, and on a condition of another kind.
    """

    def __init__(
        self,
        channels: int = 4,
        *,
        size: int = 32,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        classes: int | None = 1000,
        droppable: bool = True,
        learned_variance: bool = False,
        time_scale: float = 1.0,
        frequency_shift: float = 0.0,
        mlp_eps: float = 1e-6,
    ):
        given = dict(locals())
        super().__init__()
        self.configuration: dict[str, Any] = {name: v for name, v in given.items() if name not in ("self", "__class__")}
        if width % heads or width % 4:
            raise ValueError(f"width must be a multiple of heads ({heads}) and of 4, got {width}")
        if size % patch:
            raise ValueError(f"size must be a multiple of patch ({patch}), got {size}")
        self.patch, self.base = patch, size // patch
        self.stem = nn.Linear(channels * patch**2, width)
        self.register_buffer("positions", positions(self.base, self.base, width, self.base), persistent=False)
        self.time = TimeEmbedding(FREQUENCIES, width, scale=time_scale, shift=frequency_shift)
        self.label = LabelEmbedding(classes, width, droppable) if classes is not None else None
        self.blocks = nn.ModuleList(Block(width, heads, mlp_eps) for _ in range(depth))
        self.modulation = nn.Linear(width, (6 * depth + 2) * width)  # of all blocks and of the head, in one product
        self.head = nn.Linear(width, channels * patch**2 * (2 if learned_variance else 1))
        self._initialise()

    def forward(
        self, x: Float[Tensor, "n c h w"], time: float | Tensor, condition: Tensor | None = None
    ) -> Float[Tensor, "n d h w"]:
        embedded = self.time(as_times(time, x))
        if self.label is not None:
            embedded = embedded + self.label(condition, x)
        elif condition is not None:
            raise ValueError("this network takes no condition: it has no classes")
        modulations = self.modulation(F.silu(embedded)).unflatten(1, (6 * len(self.blocks) + 2, 1, -1))
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        h = self.stem(self._cut(x, rows, columns)) + self._positions(rows, columns)
        for i, block in enumerate(self.blocks):
            h = block(h, modulations[:, 6 * i : 6 * i + 6])
        shift, scale = modulations[:, -2:].unbind(1)
        h = self.head(modulate(F.layer_norm(h, h.shape[-1:], eps=1e-6), shift, scale))
        return self._join(h, rows, columns)

    def attention_layers(self) -> dict[str, nn.Module]:
        """The self-attention layers by name, in the order of the forward pass."""
        return {f"{name}.attention": block.attention for name, block in self.layers().items()}  # type: ignore[misc]

    def layers(self) -> dict[str, nn.Module]:
        """The transformer blocks by name, in the order of the forward pass."""
        return {f"blocks.{i}": block for i, block in enumerate(self.blocks)}

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 tokens width"]:
        if rows == columns == self.base:
            return self.positions  # type: ignore[return-value]
        return positions(rows, columns, self.head.in_features, self.base).to(self.positions)

    def _cut(self, x: Float[Tensor, "n c h w"], rows: int, columns: int) -> Float[Tensor, "n tokens k"]:
        """Patches as tokens, with the channels first within each."""
        if x.shape[2:] != (rows * self.patch, columns * self.patch):
            raise ValueError(f"height and width must be multiples of patch ({self.patch}), got {tuple(x.shape[2:])}")
        x = x.unflatten(3, (columns, self.patch)).unflatten(2, (rows, self.patch))  # n c rows p columns q
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def _join(self, tokens: Float[Tensor, "n tokens k"], rows: int, columns: int) -> Float[Tensor, "n d h w"]:
        """Tokens as patches, with the channels last within each."""
        x = tokens.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (rows, columns))  # n rows columns p q d
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3).contiguous()

    def _initialise(self) -> None:
        """As 2212.09748: modulations and head begin at zero, so that each block is the identity and the output is 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for module in (self.modulation, self.head):
            nn.init.zeros_(module.weight)


class Block(nn.Module):
    """Attention and an MLP, each scaled and shifted after its layer norm and gated before it is added (adaLN-zero)."""

    def __init__(self, width: int, heads: int, mlp_eps: float):
        super().__init__()
        self.mlp_eps = mlp_eps
        self.attention = SelfAttention(width, heads)
        self.enter = nn.Linear(width, 4 * width)
        self.leave = nn.Linear(4 * width, width)

    def forward(self, x: Tokens, modulation: Float[Tensor, "m 6 1 width"]) -> Tokens:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(1)
        h = self.attention(modulate(F.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale))
        x = torch.addcmul(x, gate, h)
        h = self.enter(modulate(F.layer_norm(x, x.shape[-1:], eps=self.mlp_eps), mlp_shift, mlp_scale))
        return torch.addcmul(x, mlp_gate, self.leave(gelu(h)))


def gelu(x: Tensor) -> Tensor:
    """GELU by tanh, of what nobody else holds: in place, unless autograd needs ``x`` itself."""
    return F.gelu(x, approximate="tanh") if x.requires_grad else torch.ops.aten.gelu_(x, approximate="tanh")  # type: ignore[no-any-return]


def positions(rows: int, columns: int, width: int, base: int) -> Float[Tensor, "1 tokens width"]:
    """Sines and cosines of each token's column, then of its row, a quarter of the width each (2111.06377; 2212.09748).

    Rows and columns go from 0 to ``base``, however many there are.
    """
    frequencies = PERIOD ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row = (torch.arange(rows, dtype=torch.float64) * base / rows)[:, None].expand(rows, columns)
    column = (torch.arange(columns, dtype=torch.float64) * base / columns).expand(rows, columns)
    waves = [place.reshape(-1, 1) * frequencies for place in (column, row)]
    return torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)], 1)[None].float()

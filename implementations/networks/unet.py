"""The U-Net of DDPM and NCSN++: levels of halved size with residual blocks and attention, joined across by skips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from implementations.networks.attention import AttentionBlock, SelfAttention, Transformer
from implementations.networks.blocks import (
    Downsample,
    Embedding,
    LabelEmbedding,
    ResidualBlock,
    TimeEmbedding,
    Upsample,
    as_times,
    shrink,
    silu,
)
from implementations.networks.half import GroupNorm


class UNet(nn.Module):
    """A U-Net ``unet(x, time, condition=None)`` (2006.11239, app. B; with cross-attention 2112.10752).

    x has the shape (n, channels, h, w), h and w multiples of ``unshuffle``; the output has ``out_channels`` (default:
    as many). Lists have a value per level, a number is the same on all.

    - ``widths``: channels of each level; ``depth``: residual blocks per level on the way down, one more on the way up.
    - ``attention``: whether a level has attention after each block, ``middle_attention`` whether the middle does;
      ``heads`` of it.
    - ``classes``: class labels as the condition, of which ``classes`` is the dropped one (None drops all), unless not
      ``droppable``; ``context``: the width of tokens as the condition, for cross-attention by ``transformer_depth``
      transformer blocks. Without both it takes no condition.
    - ``unshuffle``: work on blocks of so many pixels squared as channels, and back at the end.
    - ``embedding`` of ``time_scale`` times the time, sinusoidal or fourier, in ``time_width`` numbers (default: four
      times the first width); ``frequency_shift`` and ``cosine_first`` as ``TimeEmbedding`` has.
    - ``scale_shift``: time modulates by scale and shift after the norm, not by a shift before it.
    - ``groups`` and ``eps`` of all group norms; ``dropout`` in the residual blocks; ``pad_end`` as ``Downsample`` has.

    Raises ValueError on a configuration that does not fit together, and on a condition of another kind.
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        out_channels: int | None = None,
        widths: Sequence[int] = (128, 256, 256, 256),
        depth: int | Sequence[int] = 2,
        attention: bool | Sequence[bool] = (False, True, False, False),
        middle_attention: bool = True,
        heads: int | Sequence[int] = 1,
        classes: int | None = None,
        droppable: bool = True,
        context: int | None = None,
        transformer_depth: int | Sequence[int] = 1,
        unshuffle: int = 1,
        embedding: Embedding = "sinusoidal",
        time_width: int | None = None,
        time_scale: float = 1.0,
        frequency_shift: float = 0.0,
        cosine_first: bool = True,
        scale_shift: bool = False,
        groups: int = 32,
        eps: float = 1e-5,
        dropout: float = 0.0,
        pad_end: bool = False,
    ):
        given = {name: list(v) if isinstance(v, list | tuple) else v for name, v in locals().items() if name != "self"}
        super().__init__()
        self.configuration: dict[str, Any] = {name: v for name, v in given.items() if name != "__class__"}
        depths, attentive, heads, deep = (
            _per_level(name, self.configuration[name], len(widths))
            for name in ("depth", "attention", "heads", "transformer_depth")
        )
        _check(widths, heads, groups, classes, context)
        time_width = time_width or 4 * widths[0]
        pixels = unshuffle**2
        self.unshuffle = unshuffle

        def block(enter: int, leave: int) -> ResidualBlock:
            return ResidualBlock(enter, leave, groups=groups, eps=eps, scale_shift=scale_shift, dropout=dropout)

        def attend(level: int) -> nn.Module:
            width = widths[level]
            if context is None:
                return AttentionBlock(width, heads[level], groups, eps)
            return Transformer(width, context, heads[level], groups, deep[level])

        self.stem = nn.Conv2d(channels * pixels, widths[0], 3, padding=1)
        self.time = TimeEmbedding(
            widths[0], time_width, embedding, scale=time_scale, shift=frequency_shift, cosine_first=cosine_first
        )
        self.label = LabelEmbedding(classes, time_width, droppable) if classes is not None else None
        last = len(widths) - 1
        kept, width = [widths[0]], widths[0]  # channels of the skips
        self.down = nn.ModuleList()
        for level, own in enumerate(widths):
            blocks = [block(width if j == 0 else own, own) for j in range(depths[level])]
            kept += [own] * (depths[level] + (level < last))
            width = own
            self.down.append(
                Stage(
                    blocks,
                    [attend(level) for _ in blocks] if attentive[level] else [],
                    Downsample(own, pad_end) if level < last else None,
                )
            )
        self.middle = Stage([block(width, width) for _ in range(2)], [attend(last)] if middle_attention else [], None)
        self.up = nn.ModuleList()
        for level, own in reversed(list(enumerate(widths))):
            blocks = [block((width if j == 0 else own) + kept.pop(), own) for j in range(depths[level] + 1)]
            width = own
            self.up.append(
                Stage(
                    blocks,
                    [attend(level) for _ in blocks] if attentive[level] else [],
                    Upsample(own) if level else None,
                )
            )
        self.norm = GroupNorm(groups, width, eps)
        self.head = nn.Conv2d(width, (out_channels or channels) * pixels, 3, padding=1)
        self.sizes = [block.modulated for block in self.residual_blocks().values()]
        self.modulation = nn.Linear(time_width, sum(self.sizes))  # of all blocks, in one product
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                shrink(module.conv2)
            elif isinstance(module, AttentionBlock):
                shrink(module.attention.out)
            elif isinstance(module, Transformer):
                shrink(module.leave)
        shrink(self.head)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, x: Float[Tensor, "n c h w"], time: float | Tensor, condition: Tensor | None = None
    ) -> Float[Tensor, "n d h w"]:
        embedded = self.time(as_times(time, x))
        if self.label is not None:
            embedded = embedded + self.label(condition, x)
        context = self._context(condition, x)
        modulations = iter(self.modulation(F.silu(embedded)).split(self.sizes, 1))

        h = F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        h = self.stem(h.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for stage in self.down:
            for j, block in enumerate(stage.blocks):
                h = stage.attend(j, block(h, next(modulations)), context)
                skips.append(h)
            if stage.resample is not None:
                h = stage.resample(h)
                skips.append(h)
        first, second = self.middle.blocks
        h = self.middle.attend(0, first(h, next(modulations)), context)
        h = second(h, next(modulations))
        for stage in self.up:
            for j, block in enumerate(stage.blocks):
                h = stage.attend(j, block(torch.cat([h, skips.pop()], 1), next(modulations)), context)
            if stage.resample is not None:
                h = stage.resample(h, skips[-1].shape[2:])
        h = self.head(silu(self.norm(h)))
        return (F.pixel_shuffle(h, self.unshuffle) if self.unshuffle > 1 else h).contiguous()

    def residual_blocks(self) -> dict[str, ResidualBlock]:
        """The residual blocks by name, in the order of the forward pass, which is that of their modulations."""
        return {name: part for name, part in self._parts() if isinstance(part, ResidualBlock)}

    def attention_layers(self) -> dict[str, nn.Module]:
        """The self-attention layers by name, in the order of the forward pass."""
        return {
            f"{name}.{inner}": module
            for name, part in self._parts()
            for inner, module in part.named_modules()
            if isinstance(module, SelfAttention)
        }

    def layers(self) -> dict[str, nn.Module]:
        """The blocks that keep the number of channels, residual or of attention, in the order of the forward pass."""
        return {name: part for name, part in self._parts() if getattr(part, "shortcut", None) is None}

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        """All blocks by name, in the order of the forward pass."""
        stages = [*self.down.named_children(), ("", self.middle), *self.up.named_children()]
        places = ["down"] * len(self.down) + ["middle"] + ["up"] * len(self.up)
        for place, (number, stage) in zip(places, stages, strict=True):
            name = f"{place}.{number}" if number else place
            for j, block in enumerate(stage.blocks):
                yield f"{name}.blocks.{j}", block
                if j < len(stage.attentions):
                    yield f"{name}.attentions.{j}", stage.attentions[j]

    def _context(self, condition: Tensor | None, x: Tensor) -> Tensor | None:
        width = self.configuration["context"]
        if width is None:
            if condition is not None and self.label is None:
                raise ValueError("this network takes no condition: it has neither classes nor context")
            return None
        if not isinstance(condition, Tensor) or condition.ndim != 3 or condition.shape[::2] != (len(x), width):
            given = tuple(condition.shape) if isinstance(condition, Tensor) else type(condition).__name__
            raise ValueError(f"the condition is tokens of shape ({len(x)}, tokens, {width}), got {given}")
        return condition.to(x.device, self.stem.weight.dtype)


class Stage(nn.Module):
    """The residual blocks of a level, their attention, and the step to the next level."""

    def __init__(self, blocks: list[ResidualBlock], attentions: list[nn.Module], resample: nn.Module | None):
        super().__init__()
        self.blocks, self.attentions, self.resample = nn.ModuleList(blocks), nn.ModuleList(attentions), resample

    def attend(self, j: int, h: Tensor, context: Tensor | None) -> Tensor:
        """The attention after block j, where there is one."""
        return self.attentions[j](h, context) if j < len(self.attentions) else h  # type: ignore[no-any-return]


def _per_level(name: str, value: Any, levels: int) -> list[Any]:
    found = list(value) if isinstance(value, list | tuple) else [value] * levels
    if len(found) != levels:
        raise ValueError(f"{name} has {len(found)} values for {levels} widths; one each, or one number, is accepted")
    return found


def _check(widths: Sequence[int], heads: list[int], groups: int, classes: int | None, context: int | None) -> None:
    if classes is not None and context is not None:
        raise ValueError("classes and context exclude each other: a network takes labels or tokens as its condition")
    for width, number in zip(widths, heads, strict=True):
        if width % groups or width % number:
            raise ValueError(
                f"a width must be a multiple of groups ({groups}) and of its heads ({number}), got {width}"
            )

"""Three stated sizes of the U-Net and of DiT, as diffusers spells their configurations: both packages build them.

| size            | what it is                                                         | input      |
|-----------------|--------------------------------------------------------------------|------------|
| unet, fmnist    | the shipped checkpoints' network, whose unshuffled images these are | 4 x 14 x 14 |
| unet, small     | 32x32 colour images, 5 M parameters                                | 3 x 32 x 32 |
| unet, cifar     | DDPM's for CIFAR-10 (2006.11239, app. B), 36 M parameters          | 3 x 32 x 32 |
| dit, fmnist     | 28x28 grey images, 128 wide and 6 deep, patches of 4               | 1 x 28 x 28 |
| dit, small      | DiT-S/2 (2212.09748, table 1) on 16x16 latents                     | 4 x 16 x 16 |
| dit, base       | DiT-B/2 on 16x16 latents                                           | 4 x 16 x 16 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """A configuration of diffusers' class ``kind``, on squares of ``side`` pixels."""

    kind: str
    configuration: dict[str, Any]
    side: int

    @property
    def classes(self) -> int:
        """The number of labels that it takes; 0 where it takes none."""
        return self.configuration.get("num_class_embeds") or self.configuration.get("num_embeds_ada_norm") or 0


def _unet(widths: tuple[int, ...], attention: tuple[bool, ...], channels: int, side: int, **options: Any) -> Size:
    kinds = ["Attn" if own else "" for own in attention]
    return Size("UNet2DModel", {
        "block_out_channels": widths, "in_channels": channels, "out_channels": channels,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)), **options,
    }, side)  # fmt: skip


def _dit(heads: int, width: int, layers: int, side: int, **options: Any) -> Size:
    return Size("DiTTransformer2DModel", {
        "num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": layers, "sample_size": side,
        "num_embeds_ada_norm": 1000, **options,
    }, side)  # fmt: skip


_LATENTS = {"in_channels": 4, "out_channels": 8}
SIZES: dict[str, dict[str, Size]] = {
    "unet": {
        "fmnist": _unet((48, 72), (False, True), 4, 14, layers_per_block=1, norm_num_groups=8, num_class_embeds=11,
                        time_embedding_dim=96, attention_head_dim=None),
        "small": _unet((64, 128, 128), (False, True, True), 3, 32, layers_per_block=1, attention_head_dim=32),
        "cifar": _unet((128, 256, 256, 256), (False, True, False, False), 3, 32, attention_head_dim=None),
    },
    "dit": {
        "fmnist": _dit(4, 128, 6, 28, in_channels=1, patch_size=4, num_embeds_ada_norm=10),
        "small": _dit(6, 384, 12, 16, **_LATENTS),
        "base": _dit(12, 768, 12, 16, **_LATENTS),
    },
}  # fmt: skip

"""Resize modes: how images reach the size of an extractor. Records state the mode by its name.

- ``bilinear-antialias-S``, ``bicubic-antialias-S``: the filter widens with the reduction as Pillow's does, but without
  rounding to 8 bits (2104.11222).
- ``bilinear-tf-S``: that of TensorFlow 1, which aligns the first pixels and does not average; ``fid`` uses it.
- ``none``: images keep their size, which must be the same for all.

S is the size in pixels. ``-grey`` at the end turns colour into grey by the luma of ITU-R 601; without it, grey images
get three equal channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

_MODE = re.compile(r"(?:(bilinear-antialias|bicubic-antialias|bilinear-tf)-([1-9]\d{0,3})|none)(-grey)?")
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Resize:
    """How images are resized for an extractor: a method, a size in pixels, and whether colour becomes grey.

    ``Resize.parse(name)`` reads its name, such as ``bicubic-antialias-224-grey``, and ``str`` gives the name back.
    """

    method: str
    size: int | None
    grey: bool

    @classmethod
    def parse(cls, name: str) -> Resize:
        """Read the name of a resize mode, such as ``bicubic-antialias-224-grey``.

        Raises ValueError on a name that is none.
        """
        if not (found := _MODE.fullmatch(name)):
            raise ValueError(
                f"no resize mode {name!r}; there are bilinear-antialias-S, bicubic-antialias-S and bilinear-tf-S with "
                "a size S in pixels, and none, each with -grey or without"
            )
        return cls(found[1] or "none", int(found[2]) if found[2] else None, bool(found[3]))

    def __str__(self) -> str:
        return self.method + (f"-{self.size}" if self.size else "") + ("-grey" if self.grey else "")

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n k s t"]:
        """Resize images of 1 or 3 channels into [0, 1]; bicubic overshoots are clamped, nothing is rounded."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
            given = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"images are {given}; uint8 (n, c, h, w) with 1 or 3 channels, none empty, is accepted")
        x = images.float() / 255
        if self.grey and x.shape[1] == 3:
            x = torch.einsum("nchw,c->nhw", x, x.new_tensor(LUMA))[:, None]
        if self.size is not None and x.shape[2:] != (self.size, self.size):
            x = self._scaled(x, self.size)
        return x if self.grey else x.expand(-1, 3, -1, -1)

    def _scaled(self, x: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s s"]:
        if self.method == "bilinear-tf":
            return _tensorflow(_tensorflow(x.mT.contiguous(), size).mT.contiguous(), size)
        kind = self.method.removesuffix("-antialias")
        scaled = torch.nn.functional.interpolate(x, (size, size), mode=kind, antialias=True, align_corners=False)
        return scaled.clamp(0, 1)


def _tensorflow(x: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s w"]:
    """Resize the rows: row i is read at ``i h / size``, where other modes read ``(i + 1/2) h / size - 1/2``.

    Whole rows are several times as fast to pick as columns, even with the sides exchanged first.
    """
    height = x.shape[-2]
    position = torch.arange(size, device=x.device) * (height / size)
    above = position.floor().long()
    below = (above + 1).clamp(max=height - 1)
    weight = (position - above).to(x.dtype)[:, None]
    return torch.lerp(x.index_select(-2, above), x.index_select(-2, below), weight)

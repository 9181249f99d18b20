"""Draws of torch's generators, replaced by the caller's while code runs that takes no noise as an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from implementations.diffusion.path import Images


class LentDraws(TorchFunctionMode):
    """A context in which standard normals of the shape of ``like`` are ``draw(like)``, and not torch's own.

    These are ``torch.randn``, ``torch.randn_like`` and ``Tensor.normal_``, by whatever function they are called; a
    draw of another shape is torch's own.
    """

    def __init__(self, draw: Callable[[Images], Images], like: Images):
        super().__init__()
        self.draw, self.like = draw, like

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.randn, torch.randn_like, Tensor.normal_) or _shape(func, args, kwargs) != self.like.shape:
            return func(*args, **kwargs)
        if func is Tensor.normal_:
            given = {"mean": 0.0, "std": 1.0} | dict(zip(("mean", "std"), args[1:], strict=False)) | dict(kwargs)
            return args[0].copy_(self.draw(self.like) * given["std"] + given["mean"])
        return self.draw(self.like).to(kwargs.get("dtype") or self.like.dtype)


def _shape(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    if func is not torch.randn:
        return tuple((args[0] if args else kwargs["input"]).shape)
    size = kwargs.get("size", args)
    return tuple(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)

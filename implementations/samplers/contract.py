"""What makes a function a sampler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from implementations.diffusion.noise import PerSampleNoise, handed
from implementations.diffusion.path import Path

__all__ = ["PerSampleNoise", "sampler"]
Result = TypeVar("Result")


def sampler(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function of ``(denoiser, x, times, *, condition, noise, callback, **options)`` a sampler.

    It takes ``generator`` besides ``noise``, both optional, and is handed the noise of the call (``noise_of``).
    Raises ValueError on a denoiser without a path, on a callback that cannot be called, and on text for a number.
    """
    numbers = {p.name for p in inspect.signature(function).parameters.values() if isinstance(p.default, float | int)}

    def check(denoiser: Any, *_: Any, callback: Any = None, **options: Any) -> None:
        if not isinstance(getattr(denoiser, "path", None), Path):
            made = "Network(path, module, head='eps') makes one of a module"
            raise ValueError(f"denoiser must have a path of the catalogue; {made}; got {type(denoiser).__name__}")
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function (i, t, x, prediction), got {callback!r}")
        for name in numbers & options.keys():
            if isinstance(options[name], str):
                raise ValueError(f"{name} must be a number, got {options[name]!r}")

    return handed(function, stream="steps", check=check)

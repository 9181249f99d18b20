"""A sampler with a guidance of its own, as programs name some: ComfyUI's ``euler_cfg_pp`` is euler with CFG++."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from implementations.catalogue import GUIDANCE
from implementations.diffusion.path import Images


def guided(sampler: Callable[..., Images], guidance: str) -> Callable[..., Images]:
    """Give the sampler that wraps the denoiser in a scheme of ``GUIDANCE`` before it runs.

    Its options are the sampler's and the scheme's ``scale``, by default the scheme's own; what the sampler states of
    itself, such as its order, stays.
    """
    scheme = GUIDANCE[guidance]
    default = inspect.signature(scheme.resolve()).parameters["scale"].default

    def run(denoiser: Any, x: Images, times: Any, *, scale: float = default, **options: Any) -> Images:
        return sampler(scheme(denoiser, scale=scale), x, times, **options)

    own = inspect.signature(sampler)
    at_end = inspect.Parameter("scale", inspect.Parameter.KEYWORD_ONLY, default=default)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), at_end])  # type: ignore[attr-defined]
    run.__name__ = f"{getattr(sampler, '__name__', 'sampler')} with {guidance}"
    for name in ("count", "order_of"):
        rule = getattr(sampler, name, None)
        if rule is not None:
            setattr(run, name, _without_scale(rule))
    return run


def _without_scale(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule of the sampler's for the options without ``scale``, under its own signature."""

    def ask(*positional: Any, scale: float = 0.0, **options: Any) -> Any:
        return rule(*positional, **options)

    ask.__signature__ = inspect.signature(rule)  # type: ignore[attr-defined]
    return ask

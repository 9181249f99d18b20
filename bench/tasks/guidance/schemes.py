"""A guidance scheme around a denoiser, with what it needs beside a class, such as a classifier or a weaker model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from implementations.catalogue import GUIDANCE
from implementations.diffusion.denoiser import Denoiser


def make_scheme(
    name: str, denoiser: Denoiser, scale: Any, options: Mapping[str, Any], given: Mapping[str, Any], what: str
) -> Denoiser:
    """Make the scheme of a name on a denoiser; ``given`` has, for each need that can be met, the options that meet it.

    A correction of a guided prediction corrects classifier-free guidance of that scale. Raises ValueError on a need
    that ``what``, points of the plane for example, does not meet.
    """
    entry = GUIDANCE[name]
    if lacking := [need for need in entry.needs if need not in given]:
        raise ValueError(f"{name} needs {' and '.join(lacking)}, which {what} do not have")
    if entry.wraps == "guided":
        return entry(GUIDANCE["classifier_free"](denoiser, scale=scale), **options)  # type: ignore[no-any-return]
    met = {key: value for need in entry.needs for key, value in given[need].items()}
    return entry(denoiser, scale=scale, **{**met, **options})  # type: ignore[no-any-return]

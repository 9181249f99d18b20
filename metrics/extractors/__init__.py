"""Feature extractors: images in, one row of features per image out; each has a hash that records state."""

from __future__ import annotations

import difflib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.installed import find_installed

if TYPE_CHECKING:
    from metrics.extractors.extractor import Extractor

# name -> (module:function, summary); the function takes weights and a device. This module imports no torch.
EXTRACTORS = {
    "fmnist": ("metrics.extractors.fmnist:load", "64 of the shipped Fashion-MNIST classifier"),
    "effnet_lite0": ("metrics.extractors.effnet_lite0:load", "1280 of EfficientNet-Lite0 (extra effnet)"),
    "inception": ("metrics.extractors.inception:load", "2048 of Inception with FID's weights (a file)"),
    "dinov2": ("metrics.extractors.vision_transformers:load_dinov2", "1024 of DINOv2 ViT-L/14 (extra vit, weights)"),
    "clip": ("metrics.extractors.vision_transformers:load_clip", "768 of CLIP ViT-L/14, CMMD's (extra vit, weights)"),
}  # fmt: skip


def load_extractor(name: str, *, weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load the feature extractor of a name, a file or an object; ``@MODE`` behind it replaces its resize mode.

    A name is one of ``EXTRACTORS``, or of an outside package's entry point in the group ``fidmap.extractors``. A file
    is TorchScript, or (.pt2) a program of ``torch.export``; an object is named ``MODULE:OBJECT``, and what it may be,
    as that of an entry point, ``metrics.extractors.own`` says. Examples: ``effnet_lite0``,
    ``effnet_lite0@bilinear-antialias-224``, ``mine.pt@bicubic-antialias-64-grey``, ``mine:network``. Raises ValueError
    on an unknown name or mode, on weights of another network and on an object that is no extractor,
    ModuleNotFoundError where an extra is not installed, and FileNotFoundError where weights are not on this machine;
    the message says how to get them.
    """
    base, _, mode = name.rpartition("@") if "@" in name else (name, "", "")
    if base in EXTRACTORS:
        found: Extractor = pkgutil.resolve_name(EXTRACTORS[base][0])(weights, device)
    elif base.endswith((".pt", ".pth", ".ts", ".pt2")) or Path(base).is_file() or ":" in base:
        if weights is not None:
            raise ValueError(f"{base} holds its weights; a second path, {weights}, is not accepted")
        found = _load_own(base, device)
    else:
        installed = find_installed("fidmap.extractors", EXTRACTORS)
        if base not in installed:
            known = [*EXTRACTORS, *installed]
            near = difflib.get_close_matches(base, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"no extractor {base!r}; {hint}there are {', '.join(known)}, files (*.pt, *.pt2) and MODULE:OBJECT"
            )
        if weights is not None:
            raise ValueError(f"{base} holds its weights; a second path, {weights}, is not accepted")
        found = replace(_load_own(installed[base], device), base=base)
    return found.resized(mode) if mode else found


def _load_own(name: str, device: str) -> Extractor:
    if name.endswith(".pt2"):
        from metrics.extractors.own import from_exported

        return from_exported(name, device=device)
    if name.endswith((".pt", ".pth", ".ts")) or Path(name).is_file():
        from metrics.extractors.extractor import from_torchscript

        return from_torchscript(name, device=device)
    from metrics.extractors.own import from_object

    return from_object(name, device=device)

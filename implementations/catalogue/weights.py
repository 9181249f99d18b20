"""Checkpoints by name: those that come with fidmap, and any file that ``fidmap train`` wrote."""

from __future__ import annotations

from typing import Any

from implementations.catalogue.entry import Catalogue, WeightsEntry

_LOAD = "implementations.weights.files:load"
_UNET = ("unet",)


def of_file(catalogue: Any, name: str) -> WeightsEntry | None:
    """The entry of a file of one's own, whose name ends in .safetensors; None for another name."""
    if not name.endswith(".safetensors"):
        return None
    return WeightsEntry(name, _LOAD, "a file of one's own", networks=("unet", "dit"))


WEIGHTS = Catalogue("weights", WeightsEntry, [
    WeightsEntry("fmnist-edm", _LOAD, "Fashion-MNIST by class, with EDM's preconditioning", "2206.00364", networks=_UNET),
    WeightsEntry("fmnist-flow", _LOAD, "Fashion-MNIST by class, rectified flow", "2403.03206", networks=_UNET),
    WeightsEntry("fmnist-flow-2", _LOAD, "Fashion-MNIST by class, 2-rectified: one reflow of fmnist-flow", "2209.03003", networks=_UNET),
    WeightsEntry("fmnist-consistency", _LOAD, "Fashion-MNIST by class in one or a few steps, distilled from fmnist-edm", "2303.01469", networks=_UNET),
    WeightsEntry("fmnist-weak", _LOAD, "a smaller network than fmnist-edm, trained less, for autoguidance", "2406.02507", networks=_UNET),
    WeightsEntry("fmnist-noisy-classifier", _LOAD, "classes of noised Fashion-MNIST, for classifier guidance", "2105.05233", family="classifier", networks=()),
], singular="checkpoint", named="implementations.catalogue.weights:of_file")  # fmt: skip

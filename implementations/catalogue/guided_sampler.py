"""A sampler with a guidance of its own as an entry of the catalogue of samplers, as ComfyUI's ``*_cfg_pp`` are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from implementations.catalogue.entry import Entry, SamplerEntry


@dataclass(frozen=True)
class GuidedSamplerEntry(SamplerEntry):
    """The entry of a sampler whose denoiser is wrapped in a scheme of ``GUIDANCE`` first.

    It has an option ``scale`` beside the sampler's, and guides where the call has a condition.
    """

    guidance: str = ""

    @classmethod
    def of(cls, entry: SamplerEntry, guidance: str) -> GuidedSamplerEntry:
        """Make the entry of a sampler with a scheme; nothing is imported."""
        held = {field.name: getattr(entry, field.name) for field in fields(SamplerEntry)}
        return cls(**held | {"affine": False}, guidance=guidance)

    def resolve(self) -> Any:
        """Import the sampler and give it with its guidance."""
        found = super().resolve()
        return Entry(self.name, "implementations.guidance.sampler:guided").resolve()(found, self.guidance)

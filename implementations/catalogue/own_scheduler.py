"""A scheduler of one's own as an entry of the catalogue of samplers: ``scheduler:module:name``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from implementations.catalogue.entry import Entry, SamplerEntry

OWN_SCHEDULER = "scheduler:"


@dataclass(frozen=True)
class SchedulerEntry(SamplerEntry):
    """The entry of a scheduler of one's own, a class or an object with ``set_timesteps`` and ``step`` (diffusers' form).

    It is resolved to a sampler, by the bridge through which diffusers' schedulers run.
    """

    @classmethod
    def named(cls, text: str) -> SchedulerEntry:
        """Make the entry of ``scheduler:module:name``; nothing is imported."""
        target = text.removeprefix(OWN_SCHEDULER)
        return cls(text, target, source=target.partition(":")[0].partition(".")[0])

    def resolve(self) -> Any:
        """Import the scheduler and return it as a sampler; raises ImportError where it is none."""
        found = super().resolve()
        return Entry(self.name, "implementations.peers.own_schedulers:as_sampler").resolve()(found, self.target)

"""Every entry by name: literal tables that import no torch; an entry is resolved when it is used.

Adding a method is one function and one line in its family's table.
"""

from __future__ import annotations

from typing import Any

from implementations.catalogue.boxes import CLASSIFICATION_LOSSES, LOSSES, NMS
from implementations.catalogue.diffusion import PATHS, SCHEDULES
from implementations.catalogue.entry import Catalogue
from implementations.catalogue.guidance import GUIDANCE
from implementations.catalogue.networks import NETWORKS
from implementations.catalogue.samplers import SAMPLERS
from implementations.catalogue.weights import WEIGHTS

__all__ = [
    "CATALOGUES", "CLASSIFICATION_LOSSES", "GUIDANCE", "LOSSES", "NETWORKS", "NMS", "PATHS", "SAMPLERS", "SCHEDULES",
    "WEIGHTS",
]  # fmt: skip

CATALOGUES: dict[str, Catalogue[Any]] = {
    c.kind: c for c in (PATHS, SCHEDULES, SAMPLERS, GUIDANCE, LOSSES, CLASSIFICATION_LOSSES, NMS, NETWORKS, WEIGHTS)
}

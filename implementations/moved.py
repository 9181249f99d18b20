"""Modules of earlier versions: importing one says where it is now."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

MOVED = {
    "implementations.diffusion.likelihood": "implementations.samplers.likelihood",
    "implementations.diffusion.schedule": "implementations.schedules.spacing",
    "implementations.diffusion.schedules": "implementations.schedules",
    "implementations.entry": "implementations.catalogue.entry",
    "implementations.samplers.artifact": "implementations.diffusion.artifact",
    "implementations.samplers.grid": "implementations.diffusion.grid",
    "implementations.samplers.noise": "implementations.diffusion.noise",
}


class Moved(MetaPathFinder):
    """Asked for a module that no other finder has; raises ImportError with the new place."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError where the module has moved; None elsewhere."""
        if name in MOVED:
            raise ImportError(f"{name} has moved to {MOVED[name]}", name=name)


sys.meta_path.append(Moved())

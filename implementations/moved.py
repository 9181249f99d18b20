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
    """An import hook for modules of earlier versions: importing one raises ImportError that says where it is now."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError, with the new place, where the module ``name`` has moved; None for any other module."""
        if name in MOVED:
            raise ImportError(f"{name} has moved to {MOVED[name]}", name=name)


sys.meta_path.append(Moved())

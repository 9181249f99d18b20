"""What outside packages add to a table by an entry point of its group, by name; nothing of it is imported."""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import entry_points


def find_installed(group: str, taken: Container[str]) -> dict[str, str]:
    """The entry points of a group such as ``fidmap.metrics``, by name, as ``module:name``.

    A name that is ``taken`` stays with its owner; the newcomer goes by ``distribution.name``.
    """
    found: dict[str, str] = {}
    for point in entry_points(group=group):
        owned = point.name in taken or point.name in found
        found[f"{point.dist.name if point.dist else point.value}.{point.name}" if owned else point.name] = point.value
    return found

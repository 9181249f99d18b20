"""What a function of the user's returned, in words, for the errors that say what is accepted."""

from __future__ import annotations

from typing import Any


def describe_return(found: Any) -> str:
    """The dtype and shape of a tensor or an array, the types in a tuple, the type of anything else."""
    if hasattr(found, "dtype") and hasattr(found, "shape"):
        return f"{found.dtype} of shape {tuple(found.shape)}"
    if isinstance(found, tuple):
        return f"{type(found).__name__} of {', '.join(map(describe_return, found)) or 'nothing'}"
    return "None" if found is None else type(found).__name__

"""Checks of plain arguments, whose messages name the argument and what is accepted."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Make a tensor of a user's argument: a tensor, an array of any strides and byte order, or numbers.

    Plain numbers become float64, since torch's default would round 0.1 to float32.
    """
    if isinstance(value, np.ndarray):
        native = np.float64 if value.dtype == np.longdouble else value.dtype.newbyteorder("=")
        value = np.array(value, dtype=native, order="C")  # torch takes neither negative strides nor other byte orders
    elif dtype is None and not hasattr(value, "dtype"):
        dtype = torch.float64
    return torch.as_tensor(value, dtype=dtype)


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Give the value of the argument ``name`` as an int, NumPy's integers included.

    Raises ValueError unless it is an integer from ``least`` to ``most``.
    """
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {accepted}, got {value!r}")
    return int(value)

"""Checks of the input that all metrics of samples share."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

R = TypeVar("R")


def takes_arrays(*names: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorate a function so that its arguments of these names may be NumPy arrays too, which reach it as tensors.

    None stays None. A call raises ValueError that names the argument where it is neither, and on arrays that do not
    hold numbers.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> R:
            try:
                bound = signature.bind(*arguments, **options)
            except TypeError:
                return function(*arguments, **options)  # whose own message names the function
            for name in names:
                if bound.arguments.get(name) is not None:
                    bound.arguments[name] = _tensor(name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def remark_on_probabilities(scores: Float[Tensor, "n k"]) -> None:
    """Warn where logits look like probabilities: softmax would flatten them, and hardly any figure would show it."""
    if scores.shape[1] < 2 or not len(scores) or bool((scores < 0).any()):
        return
    if bool(((scores.double().sum(1) - 1).abs() <= 1e-3).all()):  # half precision adds up to 1e-3
        warnings.warn(
            "every row of the logits is positive and adds up to 1, as probabilities do; if they are, take"
            " probabilities=True",
            stacklevel=3,
        )


def check_features(features: Float[Tensor, "n d"], what: str = "features", width: int | None = None) -> None:
    """Raise ValueError on features of another shape than (n, d), or (n, width), and on values that are not finite.

    ``what`` is what the message calls them.
    """
    if features.ndim != 2 or width not in (None, features.shape[1]):
        raise ValueError(f"{what} have the shape {tuple(features.shape)}; (n, {width or 'd'}) is accepted")
    check_finite(features, what)


def check_sides(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, least: int = 1) -> None:
    """Raise ValueError unless two sets of features are (n, d) and (m, d), of ``least`` rows or more, and finite."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        given = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"features have the shapes {given}; (n, d) and (m, d) are accepted")
    if min(len(x), len(y)) < least:
        raise ValueError(f"there are {len(x)} and {len(y)} rows of features; at least {least} are accepted")
    for features in (x, y):
        check_finite(features)


def check_finite(features: Float[Tensor, "n d"], what: str = "features") -> None:
    """Raise ValueError on features, called ``what``, that are not finite; it says how many rows have such a value."""
    wrong = int((~torch.isfinite(features).all(1)).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(features)} rows of {what} are not finite")


def _tensor(name: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{name} is a {type(values).__name__}; a tensor or a NumPy array is accepted")
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} is an array of {values.dtype}; a tensor or a NumPy array of numbers is accepted")
    dtype = values.dtype.newbyteorder("=")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:  # a long double, which torch does not know
        dtype = np.dtype(np.float64)
    array = np.ascontiguousarray(values, dtype=dtype)
    return torch.from_numpy(array if array.flags.writeable else array.copy())

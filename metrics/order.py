"""The order of accuracy of a solver: the slope of its error over a ladder of step counts, in logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OrderFit:
    """The order of accuracy of a solver, ``slope``, from a fit ``error = exp(intercept) steps^-slope`` to its errors.

    ``residual`` is the root mean square error of the fit in log units. ``below_floor`` are the step counts that are
    left out because their error is rounding rather than discretisation.
    """

    slope: float
    residual: float
    intercept: float
    below_floor: tuple[int, ...] = ()


def fit_order(steps: Sequence[int], errors: Sequence[float], *, floor: float = 0.0) -> OrderFit:
    """Measure a solver's order of accuracy: fit ``log error = intercept - slope log steps`` by least squares.

    The slope is the order. Errors at or below ``floor`` (0 among them) are left out and reported. Raises ValueError on
    unequal lengths, on steps that are not positive and distinct, on an error that is negative or not finite, and where
    fewer than two errors lie above the floor.
    """
    if len(steps) != len(errors):
        raise ValueError(f"there are {len(steps)} step counts and {len(errors)} errors; equal numbers are accepted")
    if len(set(steps)) < len(steps) or any(n <= 0 for n in steps):
        raise ValueError(f"step counts are {list(steps)}; distinct positive numbers are accepted")
    for n, error in zip(steps, errors, strict=True):
        if not (math.isfinite(error) and error >= 0):
            raise ValueError(f"the error at {n} steps is {error}; finite numbers from 0 are accepted")
    kept = [(n, error) for n, error in zip(steps, errors, strict=True) if error > floor]
    if len(kept) < 2:
        raise ValueError(f"of the errors {list(errors)} fewer than two lie above the floor {floor}; an order needs two")
    x, y = np.log(np.array(kept, dtype=float)).T
    x_mean, y_mean = x.mean(), y.mean()
    slope = -float((x - x_mean) @ (y - y_mean) / ((x - x_mean) @ (x - x_mean)))
    residual = float(np.sqrt(np.mean((y - y_mean + slope * (x - x_mean)) ** 2)))
    below = tuple(n for n, error in zip(steps, errors, strict=True) if error <= floor)
    return OrderFit(slope, residual, float(y_mean + slope * x_mean), below)

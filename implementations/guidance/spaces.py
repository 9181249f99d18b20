"""Spaces in which a scheme compares predictions: the linear ones agree in all, the others have one of their paper."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Number, Prediction
from implementations.diffusion.path import Images, per_sample

SPACES = ("x0", "eps", "v", "velocity")


def check_space(space: str) -> str:
    """Give the space; raises ValueError unless it is one of ``SPACES``."""
    if space not in SPACES:
        raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
    return space


def view(prediction: Prediction, space: str) -> Images:
    """Give a prediction in a space, as ``p x0 + r eps`` whose p and r depend on sigma/alpha alone.

    | space    | p    | r   |
    |----------|------|-----|
    | x0       | 1    | 0   |
    | eps      | 0    | 1   |
    | v        | -sin | cos |
    | velocity | -1   | 1   |

    sin and cos are of the angle ``atan2(sigma, alpha)``. On a variance-preserving path v is the path's own, and on the
    straight path velocity is; on every other path they are what these paths have at the same noise level, so that a
    scheme does the same on every path.
    """
    if space == "x0":
        return prediction.x0
    if space == "eps":
        return prediction.eps
    p, r = _row(prediction, space)
    if isinstance(p, Tensor) or isinstance(r, Tensor):
        return per_sample(p, prediction.x) * prediction.x0 + per_sample(r, prediction.x) * prediction.eps
    return prediction.combine(p, r)


def shift(total: Prediction, space: str, change: Images) -> Prediction:
    """Add a change of the prediction in a space, in the views that were given, so that none loses its digits.

    As x stays, ``alpha dx0 + sigma deps = 0``: a change d in the space of (p, r) is one of ``(p' sigma - r' alpha) /
    (p sigma - r alpha) d`` in the view of (p', r').
    """
    alpha, sigma = total.scales
    p, r = _row(total, space)
    views: dict[str, Images] = {}
    for head in total.heads:
        old = getattr(total, head)
        if head == space and head in ("x0", "eps"):
            views[head] = old + change
            continue
        a, b = total.row(head)
        weight = (a * sigma - b * alpha) / (p * sigma - r * alpha)
        if isinstance(weight, Tensor):
            views[head] = old + per_sample(weight, old) * change
        else:
            views[head] = torch.add(old, change, alpha=weight)
    return Prediction(total.path, total.x, total.t, aux=total.aux, **views)


def dot(left: Images, right: Images) -> Tensor:
    """Give the inner product of each sample with its partner, (n, 1, ..., 1)."""
    return per_sample((left * right).flatten(1).sum(1), left)


def _row(prediction: Prediction, space: str) -> tuple[Number, Number]:
    """A space as (p, r)."""
    if space == "v":
        alpha, sigma = prediction.scales
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
            radius: Any = torch.hypot(torch.as_tensor(alpha), torch.as_tensor(sigma))
        else:
            radius = math.hypot(alpha, sigma)
        return -sigma / radius, alpha / radius
    return (-1.0, 1.0) if space == "velocity" else prediction.row(space)

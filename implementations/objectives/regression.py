"""Regression of a denoiser on noised data: in any view, by any weighting, on every path.

    loss = w(t) / c(t)^2  mean over coordinates of (view of the prediction - view of x0 and noise)^2

w is the weight of the squared error of x0 (``weighting.py``), and c the size of the view's error per error of x0, so
that one weighting means the same in all views. Without a weighting, w = c^2, the plain error of the view. The minimiser
is the posterior mean, ``E[x0 | x]`` in the view's terms, whatever the weight.
"""

from __future__ import annotations

import difflib
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import HEADS, Denoiser, Prediction
from implementations.diffusion.path import Images, Path, per_sample
from implementations.objectives.weighting import WEIGHTINGS

Times: TypeAlias = Float[Tensor, " n"]


def noised(path: Path, x0: Images, t: Times, noise: Images) -> Images:
    """The state ``x = alpha x0 + sigma noise`` (n, ...) at one time per sample, in the dtype of x0."""
    alpha, sigma = (per_sample(scale, x0) for scale in (path.alpha(t), path.sigma(t)))
    return alpha * x0 + sigma * noise


def regression(
    denoiser: Denoiser,
    x0: Images,
    t: Times,
    noise: Images,
    condition: Any = None,
    *,
    view: str,
    weighting: str = "",
    **options: float,
) -> Float[Tensor, " n"]:
    """The loss (n,) of the view x0, eps, v, velocity or score at one time per sample (2202.00512, app. D; 2210.02747).

    ``noise`` is that which takes x0 to the state, fresh or, for reflow, the one from which x0 was made. ``options`` are
    those of the weighting. Raises ValueError on an unknown view or weighting, and where the view does not exist at t.
    """
    if view not in HEADS:
        raise ValueError(f"view must be one of {', '.join(HEADS)}, got {view!r}")
    x = noised(denoiser.path, x0, t, noise)
    truth = Prediction(denoiser.path, x, t, x0=x0, eps=noise)
    error = getattr(denoiser(x, t, condition), view) - getattr(truth, view)
    loss = error.square().flatten(1).mean(1)
    if not weighting:
        return loss
    if weighting not in WEIGHTINGS:
        near = difflib.get_close_matches(weighting, WEIGHTINGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WEIGHTINGS)}"
        raise ValueError(f"no weighting named {weighting!r}; {hint}")
    weight = WEIGHTINGS[weighting](denoiser.path, t, **options) / sensitivity(denoiser.path, t, view) ** 2
    return loss * weight.to(loss)


def sensitivity(path: Path, t: Times, view: str) -> Times:
    """The size of a view's error per error of x0 in the same state, ``|p - r alpha / sigma|`` of ``p x0 + r eps``."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    match view:
        case "x0":
            return torch.ones_like(alpha)
        case "eps":
            return alpha / sigma
        case "v":
            return (alpha**2 + sigma**2) / sigma
        case "velocity":
            return (path.d_alpha(t) - path.d_sigma(t) * alpha / sigma).abs()
        case _:
            return alpha / sigma**2

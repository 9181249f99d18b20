"""The optimiser of a recipe, its rate over the steps, and averages of the weights whose decay rises."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn

from bench.train.recipe import Optimiser, Recipe


def make_optimiser(options: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW on all parameters; biases and the parameters of norms do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},  # biases and norms
    ]
    if options.name == "sgd":
        nesterov = options.momentum > 0
        return torch.optim.SGD(groups, lr=options.rate, momentum=options.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=options.rate, betas=(options.momentum, options.second), fused=True)


def ramp(step: int, recipe: Recipe) -> float:
    """The factor of the rate at a step: it rises in a line to 1 over the warm-up, then falls to nearly 0."""
    rise = recipe.optimiser.warmup * recipe.steps
    if step + 1 < rise:
        return (step + 1) / rise
    left = (recipe.steps - step) / (recipe.steps - rise + 1)
    return left if recipe.optimiser.decay == "linear" else (1 - math.cos(math.pi * left)) / 2


def clip_gradient(model: nn.Module, most: float) -> None:
    """Scale the gradient of all parameters down to the norm ``most`` where it is larger; 0 leaves it as it is."""
    if most:
        nn.utils.clip_grad_norm_(model.parameters(), most)


class Average:
    """An average of the weights with the density ``k^gamma`` over the steps k so far (2312.02696, sec. 3.1).

    Its decay at step k is ``(1 - 1/k)^(gamma + 1)``, which rises from 0 to 1. ``length`` is the standard deviation of
    the density over the number of steps, from which gamma follows.
    """

    def __init__(self, model: nn.Module, length: float):
        self.length, self.exponent = length, find_exponent(length)
        self.model = copy.deepcopy(model)

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Add the weights after ``steps`` steps, 1 or more."""
        share = 1 - (1 - 1 / steps) ** (self.exponent + 1)
        means, values = self.model.state_dict(), model.state_dict()
        floats = [name for name, mean in means.items() if mean.is_floating_point()]
        torch._foreach_lerp_([means[name] for name in floats], [values[name] for name in floats], share)
        for name in means.keys() - set(floats):
            means[name].copy_(values[name])  # counters


def find_exponent(length: float) -> float:
    """gamma of the relative length: ``length^2 = (gamma + 1) (gamma + 2)^-2 (gamma + 3)^-1`` (2312.02696, eq. 126)."""
    t = length**-2
    return float(max(root.real for root in np.roots([1, 7, 16 - t, 12 - t]) if abs(root.imag) < 1e-9))

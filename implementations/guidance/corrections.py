"""Corrections of a guided prediction: its standard deviation, its range, and the noise levels at which it is guided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import per_sample
from implementations.guidance.contract import CONDITIONAL, Evaluation, Evaluations, Guidance, Level
from implementations.guidance.perturbation import Perturbation
from implementations.guidance.spaces import check_space, shift, view


class Rescale(Guidance):
    """The standard deviation of the conditional prediction for a guided one (2305.08891, sec. 3.4).

    ``phi g std(c) / std(g) + (1 - phi) g``, each deviation over a sample, where g is the prediction of the guided
    ``denoiser`` and c the conditional one. ``space`` is where: x0, eps, v (the paper's) or velocity. At ``phi = 0`` the
    prediction is g, bit for bit. Raises ValueError on a phi outside [0, 1].
    """

    def __init__(self, denoiser: Denoiser, *, phi: float = 0.7, space: str = "v", **how: Any):
        super().__init__(denoiser, **how)
        self.phi, self.space = check_share("phi", phi), check_space(space)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self.phi == 0 else (CONDITIONAL,)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        given = at[CONDITIONAL]
        if self.phi == 0 or total is given:
            return total
        guided = view(total, self.space)
        ratio = view(given, self.space).flatten(1).std(1) / guided.flatten(1).std(1)
        return shift(total, self.space, guided * per_sample(self.phi * (ratio - 1), guided))


class DynamicThreshold(Guidance):
    """Dynamic thresholding of x0 (2205.11487, sec. 2.3): clip to [-s, s] and divide by s / ``limit``.

    s is the quantile ``quantile`` of ``|x0|`` over a sample, ``limit`` at least, where the data lie in [-limit, limit].
    With ``limit=inf`` the prediction is that of ``denoiser``, bit for bit; so it is for samples of which no share
    ``1 - quantile`` lies beyond the limit and none is clipped. Raises ValueError on a quantile outside [0, 1] and on a
    limit that is not positive.
    """

    def __init__(self, denoiser: Denoiser, *, quantile: float = 0.995, limit: float = 1.0, **how: Any):
        super().__init__(denoiser, **how)
        if not limit > 0:
            raise ValueError(f"limit must be positive, got {limit}")
        self.quantile, self.limit = check_share("quantile", quantile), float(limit)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return ()

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self.limit == math.inf:
            return total
        x0 = total.x0
        reach = x0.abs().flatten(1).quantile(self.quantile, dim=1).clamp_min(self.limit)
        reach = per_sample(reach, x0)
        return shift(total, "x0", x0.clamp(-reach, reach) * (self.limit / reach) - x0)


class Interval(Guidance):
    """Guidance in an interval of noise levels alone (2404.07724, sec. 3): at ``low < sigma/alpha <= high``.

    ``denoiser`` is guided. Elsewhere the prediction is that of what it wraps, bit for bit and at its cost: of several
    schemes around one another, the outermost is left out. The levels are sigma/alpha, on every path. At (0, inf) the
    prediction is that of the guided denoiser, bit for bit. Raises ValueError on a denoiser that is not guided, and
    unless ``0 <= low <= high``.
    """

    def __init__(self, denoiser: Denoiser, *, low: float = 0.0, high: float = math.inf, **how: Any):
        super().__init__(denoiser, **how)
        if not isinstance(denoiser, Guidance):
            raise ValueError(f"interval needs a guided denoiser, got {type(denoiser).__name__}")
        if not 0 <= low <= high:
            raise ValueError(f"0 <= low <= high is needed, got {low} and {high}")
        self.guided, self.low, self.high = denoiser, float(low), float(high)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return ()

    def evaluations(self, level: Level) -> list[Evaluation]:
        found: dict[Evaluation, None] = {}
        for one in self._used(level):
            found |= dict.fromkeys(one.evaluations(level) if isinstance(one, Guidance) else [CONDITIONAL])
        return list(found)

    def observers(self, level: Level) -> list[Perturbation]:
        return [one for each in self._used(level) if isinstance(each, Guidance) for one in each.observers(level)]

    def guide(self, at: Evaluations) -> Prediction:
        found = [one.guide(at) if isinstance(one, Guidance) else at[CONDITIONAL] for one in self._used(at.level)]
        if len(found) == 1:
            return found[0]
        guided, plain = found
        inside = per_sample(self._inside(at.level), guided.x)
        views = {head: torch.where(inside, getattr(guided, head), getattr(plain, head)) for head in guided.heads}
        x = guided.x if guided.x is plain.x else torch.where(inside, guided.x, plain.x)
        return Prediction(self.path, x, at.t, aux=guided.aux, **views)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        return total

    def _used(self, level: Level) -> list[Denoiser]:
        """Which predictions are needed: guided inside, plain outside, both where samples differ."""
        inside = self._inside(level)
        some, each = (bool(inside.any()), bool(inside.all())) if isinstance(inside, Tensor) else (inside, inside)
        return [*([self.guided] if some else []), *([] if each else [self.guided.denoiser])]

    def _inside(self, level: Level) -> Tensor | bool:
        return (level > self.low) & (level <= self.high)


def check_share(name: str, value: float) -> float:
    """Give a share as a float; raises ValueError outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
    return float(value)

"""Classifier-free guidance whose update or unconditional part is projected, scaled or damped per sample."""

from __future__ import annotations

import math
from typing import Any

import torch

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import per_sample
from implementations.guidance.classifier_free import Difference
from implementations.guidance.contract import Evaluation, Evaluations, Level
from implementations.guidance.momentum import Momentum
from implementations.guidance.spaces import check_space, dot, shift, view


class Apg(Difference):
    """Adaptive projected guidance (2410.02416, sec. 4): ``c + (w - 1) (d_orthogonal + eta d_parallel)``.

    ``d = c - u`` is first summed over the levels, ``m_k = d_k + beta m_(k-1)`` with ``momentum`` beta, then cut to the
    norm ``threshold`` per sample, and split along c. In ``space``, which is x0 in the paper. ``scale`` is w, and 1 is
    what is wrapped, bit for bit; with ``eta=1, momentum=0, threshold=inf`` it is classifier-free guidance. The norm
    depends on the data; diffusers has 15 by default. Raises ValueError on a threshold that
    is not positive. See ``Momentum`` for what a level is.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        scale: float = 4.0,
        eta: float = 0.0,
        momentum: float = -0.5,
        threshold: float = math.inf,
        space: str = "x0",
        **how: Any,
    ):
        super().__init__(denoiser, scale=scale, **how)
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        self.eta, self.threshold, self.space = float(eta), float(threshold), check_space(space)
        self.momentum = Momentum(momentum) if momentum else None

    def forget(self) -> None:
        """Forget the levels seen so far; a run that begins at a higher level does so by itself."""
        if self.momentum is not None:
            self.momentum.forget()

    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        c = view(given, self.space)
        d = c - view(none, self.space)
        if self.momentum is not None:
            d = self.momentum(d, at.level)
        if self.threshold < math.inf:
            d = d * (self.threshold / dot(d, d).sqrt()).clamp_max(1.0)
        parallel = c * (dot(d, c) / dot(c, c).clamp_min(torch.finfo(c.dtype).tiny))
        return shift(total, self.space, (d + (self.eta - 1) * parallel) * (self.scale - 1))


class CfgZeroStar(Difference):
    """CFG-Zero* (2503.18886): ``s u + w (c - s u)`` with the projection ``s = <c, u> / |u|^2``, and a still start.

    In ``space``, which is the velocity in the paper. At ``sigma/alpha > zero_above`` the velocity eps - x0 is 0: on the
    straight path the state stays as it is. By default so for t > .96, the paper's first 4 % of the steps. ``scale`` is
    w; at 1 with ``zero_above=inf`` the prediction is that of what is wrapped, bit for bit. Raises ValueError on a
    zero_above below 0.
    """

    def __init__(
        self, denoiser: Denoiser, *, scale: float = 4.0, zero_above: float = 24.0, space: str = "velocity", **how: Any
    ):
        super().__init__(denoiser, scale=scale, **how)
        if not zero_above >= 0:
            raise ValueError(f"zero_above must be a level sigma/alpha of at least 0, got {zero_above}")
        self.zero_above, self.space = float(zero_above), check_space(space)

    def evaluations(self, level: Level) -> list[Evaluation]:
        return [] if not isinstance(level, torch.Tensor) and level > self.zero_above else super().evaluations(level)

    def guide(self, at: Evaluations) -> Prediction:
        still = at.level > self.zero_above
        if not isinstance(still, torch.Tensor):
            return self._still(at) if still else super().guide(at)
        guided = super().guide(at)
        if not bool(still.any()):
            return guided
        chosen, zero = per_sample(still, at.x), self._still(at)
        views = {head: torch.where(chosen, getattr(zero, head), getattr(guided, head)) for head in ("x0", "eps")}
        return Prediction(self.path, guided.x, at.t, aux=guided.aux, **views)

    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        c, u = view(given, self.space), view(none, self.space)
        share = dot(c, u) / (dot(u, u) + 1e-8)
        return shift(total, self.space, (c - share * u) * (self.scale - 1))

    def _still(self, at: Evaluations) -> Prediction:
        """The prediction of no velocity, ``x0 = eps = x / (alpha + sigma)``."""
        t = self.path.inside(at.t)
        total = self.path.alpha(t) + self.path.sigma(t)
        share = at.x / (per_sample(total, at.x) if total.ndim else total.item())
        return Prediction(self.path, at.x, at.t, x0=share, eps=share)


class Tangential(Difference):
    """Tangential damping (2503.18137): ``u' + w (c - u')``, u' the part of u along the first singular vector of (c, u).

    In ``space``, which is eps in the paper, whose score differs from it by a factor. With ``(a, b)`` the first
    eigenvector of the Gram matrix of c and u, ``u' = b (a c + b u)``. ``scale`` is w, and 1 is what is wrapped, bit for
    bit.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float = 4.0, space: str = "eps", **how: Any):
        super().__init__(denoiser, scale=scale, **how)
        self.space = check_space(space)

    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        c, u = view(given, self.space), view(none, self.space)
        gap, cross = dot(c, c) - dot(u, u), 2 * dot(c, u)
        reach = torch.hypot(gap, cross).clamp_min(torch.finfo(c.dtype).tiny)
        along = c * (cross / reach / 2) + u * ((1 - gap / reach) / 2)  # 2 a b = sin 2 theta, 2 b^2 = 1 - cos 2 theta
        return shift(total, self.space, (c - along) * (self.scale - 1))


class MagnitudeAware(Difference):
    """Magnitude-aware guidance, MAMBO-G (2508.03442): ``u + w(r) (c - u)``, ``w(r) = 1 + (w - 1) exp(-alpha r)``.

    ``r = |c - u| / |u|`` per sample, in ``space``, which is the velocity in the paper. ``scale`` is w and ``alpha``
    damps it; scale 1 is what is wrapped, bit for bit, and alpha 0 is classifier-free guidance. Raises ValueError on a
    negative alpha.
    """

    def __init__(
        self, denoiser: Denoiser, *, scale: float = 4.0, alpha: float = 8.0, space: str = "velocity", **how: Any
    ):
        super().__init__(denoiser, scale=scale, **how)
        if not alpha >= 0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        self.alpha, self.space = float(alpha), check_space(space)

    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        c, u = view(given, self.space), view(none, self.space)
        d = c - u
        damping = (-self.alpha * (dot(d, d) / dot(u, u)).sqrt()).exp()
        return shift(total, self.space, d * (damping * (self.scale - 1)))

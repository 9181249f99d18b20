"""Guidance by a measurement of the data, or by any differentiable loss of them, through the predicted data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, per_sample
from implementations.guidance.contract import Evaluation, Evaluations, Guidance, Level, check_scale
from implementations.guidance.spaces import shift


class ThroughData(Guidance):
    """Base of the schemes that subtract ``s grad_x L(x0(x))`` from the score, by the gradient through the denoiser."""

    def __init__(self, denoiser: Denoiser, *, scale: float, **how: Any):
        super().__init__(denoiser, **how)
        self.scale = check_scale("scale", scale)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return ()

    def differentiates(self) -> bool:
        return self.scale != 0

    @abstractmethod
    def loss(self, x0: Images, at: Evaluations) -> Tensor:
        """Give the loss L of the predicted data of each sample, (n,)."""

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self.scale == 0:
            return total
        loss = self.loss(total.x0, at).sum()
        # retained, since another scheme around this one may need the graph
        gradient = torch.autograd.grad(loss, at.x, create_graph=at.create_graph, retain_graph=True)[0]
        return shift(total, "eps", per_sample(total.scales[1], total.x) * self.scale * gradient)


class Posterior(ThroughData):
    """Diffusion posterior sampling, DPS (2209.14687): the score of p(x | y) for ``y = operator(x0) + noise``.

    ``score - s grad_x |y - operator(x0(x))|^2 / (2 (noise^2 + r^2))``, of the Gaussian likelihood at the predicted data
    (theorem 1). ``noise`` is the standard deviation of the measurement's. ``r^2 = v^2 sigma^2 / (alpha^2 v^2 +
    sigma^2)`` is the variance of the data given x, were their standard deviation v = ``spread``; DPS has 0, which is
    stiff at high noise levels, and with the data's own the score is exact for isotropic Gaussian data and a mask.
    Without ``noise`` the weight is the paper's step size ``1 / |y - operator(x0)|`` (algorithm 1) in place of
    ``1 / (2 noise^2)``. ``operator`` maps images to measurements (``operators``: inpainting, blurring,
    super_resolution). ``scale`` is s: 1 is Bayes' rule and 0 the prior, bit for bit. Raises ValueError on a noise or
    spread below 0, on both 0, and where operator and measurement differ in shape.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        measurement: Tensor,
        operator: Callable[[Images], Tensor],
        noise: float | None = 0.05,
        spread: float = 0.0,
        scale: float = 1.0,
        **how: Any,
    ):
        super().__init__(denoiser, scale=scale, **how)
        if (noise is not None and not noise >= 0) or not spread >= 0 or (noise == 0 and spread == 0):
            raise ValueError(f"noise and spread must be at least 0 and not both 0, got {noise} and {spread}")
        self.measurement, self.operator, self.noise, self.spread = measurement, operator, noise, float(spread)

    def loss(self, x0: Images, at: Evaluations) -> Tensor:
        seen = self.operator(x0)
        if seen.shape[1:] != self.measurement.shape[-seen.ndim + 1 :] or len(self.measurement) not in (1, len(seen)):
            wanted = tuple(seen.shape)
            raise ValueError(
                f"measurement must be of the operator's shape {wanted}, got {tuple(self.measurement.shape)}"
            )
        squares = (self.measurement.to(seen) - seen).square().flatten(1).sum(1)
        if self.noise is None:
            return squares / squares.detach().sqrt().clamp_min(torch.finfo(squares.dtype).tiny)
        ratio = at.path.ratio(at.path.inside(at.t)).to(seen)
        share = torch.where(ratio < math.inf, ratio.square() / (self.spread**2 + ratio.square()), 1.0)
        rest = self.spread**2 * share if self.spread else 0.0
        return squares / (2 * (self.noise**2 + rest))


class Universal(ThroughData):
    """Universal guidance by any differentiable loss of the predicted data (2302.07121; FreeDoM, 2303.09833).

    Forward guidance (sec. 3.1): ``eps + sigma s grad_x loss(x0(x))``. ``loss`` maps images to one value per sample,
    (n,), as ``-log p(y | x0)`` does; s = 1 then is Bayes' rule at the predicted data. Backward guidance (sec. 3.2): x0
    is moved by ``backward_steps`` steps of gradient descent on the loss with ``backward_rate``, without the denoiser's
    gradient. Self-recurrence is a sampler's (``SAMPLERS["restart"]``). ``scale`` is s, and at 0 without backward steps
    the prediction is that of what is wrapped, bit for bit. Raises ValueError on a loss that is not of shape (n,).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        loss: Callable[[Images], Tensor],
        scale: float = 1.0,
        backward_steps: int = 0,
        backward_rate: float = 0.1,
        **how: Any,
    ):
        super().__init__(denoiser, scale=scale, **how)
        if not backward_steps >= 0:
            raise ValueError(f"backward_steps must be at least 0, got {backward_steps}")
        self.energy, self.backward_steps, self.backward_rate = loss, backward_steps, float(backward_rate)

    def loss(self, x0: Images, at: Evaluations) -> Tensor:
        found = self.energy(x0)
        if found.shape != x0.shape[:1]:
            raise ValueError(f"loss must give one value per sample, ({len(x0)},), got {tuple(found.shape)}")
        return found

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        total = super().act(total, at)
        if not self.backward_steps:
            return total
        x0 = total.x0
        with torch.enable_grad():
            moved = x0 if at.create_graph else x0.detach()
            for _ in range(self.backward_steps):
                moved = moved if moved.requires_grad else moved.requires_grad_()
                slope = torch.autograd.grad(self.loss(moved, at).sum(), moved, create_graph=at.create_graph)[0]
                moved = moved - slope * self.backward_rate
                moved = moved if at.create_graph else moved.detach()
        return shift(total, "x0", moved - x0)

"""Self-attention guidance: away from what the network predicts where the regions it attends to are blurred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, scaled_dot_product_attention

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, per_sample
from implementations.guidance.attention import Layers
from implementations.guidance.blur import gaussian_blur
from implementations.guidance.contract import CONDITIONAL, Evaluation, Evaluations, Guidance, Level, check_scale
from implementations.guidance.perturbation import Heads, Perturbation, Size, attention_names, grid_of
from implementations.guidance.spaces import shift


class SelfAttention(Guidance):
    """Self-attention guidance, SAG (2210.00939, alg. 1): ``eps(x) + s (eps(x) - eps(x'))``.

    ``x' = (1 - M) x + M (alpha blur(x0) + sigma eps)``, where M marks the tokens that receive more attention than
    ``threshold`` times the average: the map of the self-attention layer ``layer`` (by default the middle one), averaged
    over its heads and summed over its queries, enlarged to the image. The blur is a Gaussian of ``blur`` pixels, on a
    kernel of 9. ``scale`` is s, and at 0 the prediction is that of what is wrapped, bit for bit; otherwise the call of
    the denoiser is followed by another one. Raises ValueError on a network that offers no attention layers, on several
    layers, and on samples that are no images.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        scale: float = 0.75,
        layer: Layers = None,
        threshold: float = 1.0,
        blur: float = 1.0,
        **how: Any,
    ):
        super().__init__(denoiser, **how)
        names = attention_names(denoiser, layer)
        if len(names) != 1:
            raise ValueError(f"layer must be one layer, got {', '.join(names)}")
        self.scale, self.threshold, self.blur = check_scale("scale", scale), float(threshold), float(blur)
        self._received: Tensor | None = None  # of the call in progress, (n, tokens)
        self._observer = Perturbation(names, self._observe)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self.scale == 0 else (CONDITIONAL,)

    def own_observers(self, level: Level) -> Sequence[Perturbation]:
        return () if self.scale == 0 else (self._observer,)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self.scale == 0:
            return total
        given = at[CONDITIONAL]
        received, self._received = self._received, None
        if received is None:
            raise ValueError("the network did not call its attention layer, so that there is no map to go by")
        worse = at.evaluate(self.degrade(given, self.mask(received, at.x)))
        return shift(total, "eps", (given.eps - worse.eps) * self.scale)

    def degrade(self, given: Prediction, mask: Tensor) -> Images:
        """Give x', where the masked part of the predicted data is blurred, and noised again with the same noise."""
        alpha, sigma = (per_sample(scale, given.x) for scale in given.scales)
        blurred = gaussian_blur(given.x0, self.blur, 9) * alpha + given.eps * sigma
        return torch.where(mask, blurred, given.x)

    def mask(self, received: Tensor, x: Images) -> Tensor:
        """Mark the pixels (n, 1, h, w) of tokens that receive more than ``threshold``; the average is 1."""
        grid = grid_of(received.shape[1], tuple(x.shape[-2:]))
        marked = (received > self.threshold).to(x.dtype).reshape(len(x), 1, *grid)
        return interpolate(marked, size=tuple(x.shape[-2:])) > 0.5

    def _observe(self, q: Heads, k: Heads, v: Heads, size: Size) -> Heads:
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        self._received = weights.mean(1).sum(1).detach()
        return scaled_dot_product_attention(q, k, v)

"""Guidance away from the network's own prediction with perturbed layers, added to the conditional prediction."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from torch.nn.functional import scaled_dot_product_attention

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.guidance.blur import gaussian_blur
from implementations.guidance.contract import (
    CONDITIONAL,
    Evaluation,
    Evaluations,
    Guidance,
    Level,
    add_difference,
    check_scale,
)
from implementations.guidance.perturbation import Heads, Perturbation, Size, attention_names, block_names, grid_of

Layers = str | int | Iterable[str | int] | None


class Perturbed(Guidance):
    """Base of the schemes that add ``s (c - c')``, where c' is the conditional prediction with perturbed layers."""

    def __init__(self, denoiser: Denoiser, *, scale: float, **how: Any):
        super().__init__(denoiser, **how)
        self.scale = check_scale("scale", scale)
        self._worse = Evaluation(True, self.perturbation())

    @abstractmethod
    def perturbation(self) -> Perturbation:
        """Give what is changed in the network."""

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self.scale == 0 else (CONDITIONAL, self._worse)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        return total if self.scale == 0 else add_difference(total, self.scale, at[CONDITIONAL], at[self._worse])


class PerturbedAttention(Perturbed):
    """Perturbed-attention guidance, PAG (2403.17377): the perturbed layers' attention map is the identity.

    ``eps + s (eps - eps')`` with or without a condition, where eps' is the network's prediction with v in place of
    ``softmax(q k^T / sqrt d) v`` in the self-attention layers ``layers``: names, or numbers in the order of the forward
    pass; by default the middle one. ``scale`` is s, and at 0 the prediction is that of what is wrapped, bit for bit.
    Raises ValueError on a network that offers no attention layers, and on a layer that it does not have.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float = 3.0, layers: Layers = None, **how: Any):
        self.layers = attention_names(denoiser, layers)
        super().__init__(denoiser, scale=scale, **how)

    def perturbation(self) -> Perturbation:
        return Perturbation(self.layers, lambda q, k, v, size: v)


class SmoothedEnergy(Perturbed):
    """Smoothed energy guidance, SEG (2408.00760): the perturbed layers' queries are blurred over the image.

    ``eps + s (eps - eps')``, where eps' is the network's prediction with queries blurred by a Gaussian of ``blur``
    tokens, which is a blur of the attention weights; at infinity, the default, they are their mean. ``layers`` are as
    in PAG. ``scale`` is s, and at 0 the prediction is that of what is wrapped, bit for bit. Raises ValueError on a blur
    that is not positive, and as PAG does.
    """

    def __init__(
        self, denoiser: Denoiser, *, scale: float = 3.0, blur: float = math.inf, layers: Layers = None, **how: Any
    ):
        if not blur > 0:
            raise ValueError(f"blur must be positive, got {blur}")
        self.layers, self.blur = attention_names(denoiser, layers), float(blur)
        super().__init__(denoiser, scale=scale, **how)

    def perturbation(self) -> Perturbation:
        def attend(q: Heads, k: Heads, v: Heads, size: Size) -> Heads:
            n, heads, tokens, width = q.shape
            grid = q.mT.reshape(n, heads * width, *grid_of(tokens, size))
            blurred = gaussian_blur(grid, self.blur).reshape(n, heads, width, tokens).mT
            return scaled_dot_product_attention(blurred, k, v)

        return Perturbation(self.layers, attend)


class SkipLayer(Perturbed):
    """Skip-layer guidance, SLG, of Stable Diffusion 3.5: whole layers are left out.

    ``eps + s (eps - eps')``, where eps' is the network's prediction with ``layers`` bypassed: names, or numbers in the
    order of the forward pass; by default the middle one. ``scale`` is s, and at 0 the prediction is that of what is
    wrapped, bit for bit. Raises ValueError on a network that offers no layers, and on a layer that it does not have.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float = 2.8, layers: Layers = None, **how: Any):
        self.layers = block_names(denoiser, layers)
        super().__init__(denoiser, scale=scale, **how)

    def perturbation(self) -> Perturbation:
        return Perturbation(self.layers)

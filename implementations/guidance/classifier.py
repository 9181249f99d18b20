"""Guidance by the gradient of a classifier of noised samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, as_float64, per_sample
from implementations.guidance.contract import (
    CONDITIONAL,
    UNCONDITIONAL,
    Evaluation,
    Evaluations,
    Guidance,
    Level,
    check_scale,
)
from implementations.guidance.spaces import shift


class Classifier(Guidance):
    """Classifier guidance (2105.05233, alg. 2): ``eps - w sigma grad_x log p(c | x_t)``.

    ``classifier(x, t)`` gives logits or log-probabilities (n, classes) of noised samples; t is of shape (n,), in the
    units of ``time`` (default: ``path.network_time``). The condition is the class, and the denoiser is asked without
    one, so that ``scale`` is w of ``p(x) p(c | x)^w``: 0 is the unconditional denoiser, bit for bit. With
    ``conditional=True`` the denoiser, which may be guided, is asked with the condition, and ``w - 1`` times the
    gradient is added: 1 is the denoiser, bit for bit. Raises ValueError on a class that the classifier does not have.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        classifier: Callable[[Images, Tensor], Tensor],
        scale: float = 1.0,
        conditional: bool = False,
        time: Callable[[Tensor], Tensor] | None = None,
        **how: Any,
    ):
        super().__init__(denoiser, **how)
        if isinstance(denoiser, Guidance) and not conditional:
            raise ValueError("classifier guidance of a guided denoiser, which has a condition, needs conditional=True")
        self.classifier, self.conditional, self.time = classifier, conditional, time or self.path.network_time
        self.scale = check_scale("scale", scale)

    def evaluations(self, level: Level) -> list[Evaluation]:
        return super().evaluations(level) if self.conditional else [UNCONDITIONAL]

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return (CONDITIONAL,)

    def guide(self, at: Evaluations) -> Prediction:
        return super().guide(at) if self.conditional else self.act(at[UNCONDITIONAL], at)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        weight = self.scale - 1 if self.conditional else self.scale
        if weight == 0 or at.condition is None:
            return total
        return shift(total, "eps", per_sample(total.scales[1], total.x) * -weight * self.gradient(at))

    def gradient(self, at: Evaluations) -> Images:
        """Give ``grad_x log p(c | x_t)``, of the shape of x."""
        with torch.enable_grad():
            x = at.x if at.x.requires_grad else at.x.detach().requires_grad_()
            time = self.time(as_float64(at.t)).expand(len(x))
            logits = self.classifier(x, time.to(x.device, torch.promote_types(x.dtype, torch.float32)))
            labels = torch.as_tensor(at.condition, device=logits.device).expand(len(x))
            wrong = labels[(labels < 0) | (labels >= logits.shape[1])]
            if len(wrong):
                known = f"it has 0 to {logits.shape[1] - 1}"
                raise ValueError(f"condition {wrong[0].item()} is no class of the classifier; {known}")
            chosen = logits.log_softmax(1).gather(1, labels[:, None]).sum()
            return torch.autograd.grad(chosen, x, create_graph=at.create_graph)[0]

"""CFG++: guided data, unconditional noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import per_sample
from implementations.guidance.contract import (
    CONDITIONAL,
    UNCONDITIONAL,
    Evaluation,
    Evaluations,
    Guidance,
    Level,
    check_scale,
)


class CfgPlusPlus(Guidance):
    """CFG++ (2406.08070, alg. 2): ``x0 = x0_u + lambda (x0_c - x0_u)``, and the noise of the next level is eps_u.

    ``scale`` is lambda, from 0 (unconditional) to 1 (conditional data); ComfyUI's samplers take more. There is no
    neutral value: at 1 the data are conditional and the noise is not. Since ``alpha x0 + sigma eps`` is no longer x,
    the prediction is one of that state, which takes the place of the sampler's at the start of a step: ``x + alpha (x0
    - x0_u)``. A step ``alpha' x0 + sigma' eps`` is the paper's, and an exponential integrator on x0 becomes ComfyUI's.
    On a guided denoiser x0 is the guided one plus ``(lambda - 1) (x0_c - x0_u)``.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float = 0.6, **how: Any):
        super().__init__(denoiser, **how)
        self.scale = check_scale("scale", scale)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return (CONDITIONAL, UNCONDITIONAL)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        given, none = at[CONDITIONAL], at[UNCONDITIONAL]
        if given is none:
            return total
        x0 = total.x0 + (given.x0 - none.x0) * (self.scale - 1)
        alpha = per_sample(total.scales[0], x0)
        x = at.x + alpha * (x0 - none.x0)
        return Prediction(self.path, x, at.t, x0=x0, eps=none.eps, aux=total.aux)

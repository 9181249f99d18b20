"""Guidance by a difference of two predictions: classifier-free guidance, and autoguidance by a weaker model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.guidance.contract import (
    CONDITIONAL,
    UNCONDITIONAL,
    Evaluation,
    Evaluations,
    Guidance,
    Level,
    add_difference,
    check_scale,
)


class Difference(Guidance):
    """Base of the schemes with a ``scale`` w that compare the conditional prediction with the unconditional one.

    At w = 1 the prediction is that of what is wrapped, bit for bit, and no unconditional one is made.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float, **how: Any):
        super().__init__(denoiser, **how)
        self.scale = check_scale("scale", scale)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self.scale == 1 else (CONDITIONAL, UNCONDITIONAL)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self.scale == 1:
            return total
        given, none = at[CONDITIONAL], at[UNCONDITIONAL]
        return total if given is none else self.add(total, given, none, at)

    @abstractmethod
    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        """Add to ``total`` what the scheme makes of the two predictions, with the condition and with none."""


class ClassifierFree(Difference):
    """Classifier-free guidance (2207.12598, eq. 6, whose w is ours minus 1): ``eps_u + w (eps_c - eps_u)``.

    It is the score ``grad log p_t(x) + w grad log p_t(c | x)``, which at t > 0 is not that of the noised density
    ``p(x) p(c | x)^w``. ``scale`` is w: 1 is conditional and 0 unconditional, each bit for bit and with that evaluation
    alone. On a guided denoiser it adds ``(w - 1) (eps_c - eps_u)``. ``unconditional`` and ``batched`` are as
    ``Guidance`` has them. Raises ValueError on a scale that is not finite.
    """

    def __init__(self, denoiser: Denoiser, *, scale: float = 4.0, **how: Any):
        super().__init__(denoiser, scale=scale, **how)

    def evaluations(self, level: Level) -> list[Evaluation]:
        return [UNCONDITIONAL] if self._bare_unconditional() else super().evaluations(level)

    def guide(self, at: Evaluations) -> Prediction:
        return at[UNCONDITIONAL] if self._bare_unconditional() else super().guide(at)

    def add(self, total: Prediction, given: Prediction, none: Prediction, at: Evaluations) -> Prediction:
        return add_difference(total, self.scale - 1, given, none)

    def _bare_unconditional(self) -> bool:
        return self.scale == 0 and not isinstance(self.denoiser, Guidance)


class Autoguidance(Guidance):
    """Guidance by a weaker model of the same task and condition (2406.02507): ``D_0 + w (D_1 - D_0)``.

    D_1 is the denoiser and D_0 is ``weak``, one with fewer parameters or less training. ``scale`` is w: 1 is the
    denoiser alone, bit for bit. On a guided denoiser it adds ``(w - 1) (D_1 - D_0)`` of the bare one. Raises ValueError
    on a weak model that is none or on another path, and on a scale that is not finite.
    """

    def __init__(self, denoiser: Denoiser, *, weak: Denoiser, scale: float = 2.0, **how: Any):
        super().__init__(denoiser, **how)
        if not isinstance(weak, Denoiser) or weak.path != self.path:
            found = f"one on {weak.path!r}" if isinstance(weak, Denoiser) else type(weak).__name__
            raise ValueError(f"weak must be a Denoiser on {self.path!r}, got {found}")
        self.weak, self.scale = weak, check_scale("scale", scale)
        self._of_weak = Evaluation(True, weak=weak)

    def own_evaluations(self, level: Level) -> Sequence[Evaluation]:
        return () if self.scale == 1 else (CONDITIONAL, self._of_weak)

    def act(self, total: Prediction, at: Evaluations) -> Prediction:
        if self.scale == 1:
            return total
        return add_difference(total, self.scale - 1, at[CONDITIONAL], at[self._of_weak])

"""A running sum of guidance over the noise levels of a sampling run."""

from __future__ import annotations

import torch
from torch import Tensor

from implementations.diffusion.path import Images, per_sample
from implementations.guidance.contract import Level

SAME = 1e-9  # relative difference of levels that are one: a solver may reach a level by way of its logarithm


class Momentum:
    """``m_k = d_k + beta m_(k-1)``, where k counts noise levels and not calls.

    A level below the last one is a new k. The same level again, as where a corrector or the next step asks once more,
    takes the place of the last. A higher level begins anew, as a second run does, and as does a solver that goes back
    to a noisier level (churn in two stages, a restart, a rejected step). Levels are sigma/alpha, one per sample where
    times are. One object serves one run at a time; ``forget`` begins anew.
    """

    def __init__(self, beta: float):
        self.beta = beta
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._level: Level | None = None
        self._before: Images | None = None
        self._last: Images | None = None

    def __call__(self, change: Images, level: Level) -> Images:
        """Give m at a level, for the change d there, of the same shape."""
        if self._last is not None and (self._last.shape, self._last.device) != (change.shape, change.device):
            self.forget()
        if isinstance(level, Tensor) or isinstance(self._level, Tensor):
            self._move_each(torch.as_tensor(level, dtype=torch.float64).expand(len(change)), change)
        else:
            self._move(level)
        self._last = change if self._before is None else torch.add(change, self._before, alpha=self.beta)
        return self._last

    def _move(self, level: float) -> None:
        last = self._level
        if last is None or level > last * (1 + SAME):
            self._before = None
        elif level < last * (1 - SAME):
            self._before = self._last
        self._level = level

    def _move_each(self, level: Tensor, change: Images) -> None:
        if self._level is None or self._last is None:
            self._level = level
            return
        last = torch.as_tensor(self._level, dtype=torch.float64).expand(len(level))
        before = torch.zeros_like(change) if self._before is None else self._before
        rose, fell = (per_sample(test, change) for test in (level > last * (1 + SAME), level < last * (1 - SAME)))
        self._before = torch.where(fell, self._last, torch.where(rose, 0.0, before))
        self._level = level

"""Denoisers that see what a sampler does: what level each state is at, and what level the network is asked for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Prediction
from implementations.diffusion.path import Images, Path, Time


class Told(Denoiser):
    """Answers ``x0 = data`` and ``eps = noise`` whatever it is asked, each a sample or a batch.

    A sampler that begins at ``alpha data + sigma noise`` then stays at it, whatever level it asks for: where data are
    (1, 0) and noise is (0, 1), the state reads (alpha, sigma). Exact in every coordinate but ``t``, and in ``t`` too on
    ``RectifiedFlow``, whose velocity is then constant.
    """

    def __init__(self, path: Path, data: Tensor, noise: Tensor):
        self.path, self.data, self.noise = path, data, noise

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        x0, eps = (told.to(x).expand_as(x).clone() for told in (self.data, self.noise))
        return Prediction(self.path, x, t, x0=x0, eps=eps)


class Evaluation(NamedTuple):
    """One call of the network: the time asked for, the state, and the draws of noise that came before."""

    t: float
    x: Images
    draws: int


class Witness(Denoiser):
    """A denoiser that keeps its evaluations; one with times of its own for its samples counts as one for each time."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.path = denoiser, denoiser.path
        self.evaluations: list[Evaluation] = []
        self.batched, self.draws = False, 0

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        times = torch.as_tensor(t, dtype=torch.float64)
        apart = times.ndim > 0 and len(times.unique()) > 1
        self.batched |= apart
        for value in times.unique() if times.ndim else times[None]:
            rows = x[times == value] if apart else x
            self.evaluations.append(Evaluation(float(value), rows.detach().clone(), self.draws))
        return self.denoiser(x, t, condition)

    def noise(self, draw: int, like: Images) -> Images:
        """No noise, counted."""
        self.draws = max(self.draws, draw + 1)
        return torch.zeros_like(like)


class Reading(NamedTuple):
    """A state's alpha and sigma as they were read off it, and the time that the network was asked for."""

    t: float
    alpha: float
    sigma: float


class Dirac(Denoiser):
    """Data that are all 0: ``x0 = 0``, ``eps = x / sigma``, linear in the state."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        sigma = float(self.path.sigma(t))
        eps = x / sigma if sigma else torch.zeros_like(x)
        return Prediction(self.path, x, t, x0=torch.zeros_like(x), eps=eps)


class Asked(Exception):
    """The network was asked at ``x`` for ``t``."""

    def __init__(self, x: Images, t: float):
        super().__init__(f"asked at t = {t}")
        self.x, self.t = x, t


class Asks(Denoiser):
    """Ends a run at its first evaluation: raises Asked."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        raise Asked(x, float(torch.as_tensor(t).flatten()[0]))
